"""Restored planes against acquired ones that were held out: accuracy on slides without a truth.

The planes around a held-out one lie twice as far apart as in use (``gap`` 2), or as far (``gap`` 1,
where the factor leaves out acquired planes itself). Held-out planes hold the noise of the
microscope, which no method can know: the scores of a perfect restoration stand beside the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from msdsr.config import EvaluateConfig, Interpolation
from msdsr.errors import UserError
from msdsr.evaluate.sources import Interpolated, Source, Stored
from msdsr.manifest import read_manifest
from msdsr.metrics.noise import noise_variance
from msdsr.metrics.similarity import PSNR_CEILING, SSIM_SIDE, nrmse, psnr, ssim_rows
from msdsr.volume import HeldOut, Region, held_out, middle, open_volume, read_spec, std_path

ALL = "all"
"""Stands for all channels together."""
CEILING = "ceiling"
"""Name under which the scores of a perfect restoration stand."""
XY = "XY"
MAX_PLANES = 50
"""Most held-out planes that are compared, evenly spread."""


@dataclass(frozen=True)
class Held:
    """The held-out planes of one slide, and what was restored in their place.

    Attributes
    ----------
    every
        Which planes were shown, at what factor.
    planes
        The held-out ones (c, n, y, x) in the field, lazily.
    rows
        Where they lie in the restored volumes.
    box
        The field: its rows and columns in the slide.
    methods
        Restorations of the field by name.
    spreads
        Standard deviation of their samples, where there are several, as it was before calibration.
    flagged
        Planes that were not used, because the patch stage found them to be of no use.
    reason
        Why there is nothing to compare; empty where there is.
    """

    every: HeldOut
    planes: xr.DataArray
    rows: tuple[int, ...]
    box: tuple[slice, slice]
    methods: Mapping[str, Source] = field(default_factory=dict)
    spreads: Mapping[str, Source] = field(default_factory=dict)
    flagged: tuple[int, ...] = ()
    reason: str = ""

    def counts(self) -> dict[str, Any]:
        """Return what a manifest says of the comparison."""
        if self.reason:
            return {"planes": 0, "note": self.reason}
        return {
            "planes": len(self.rows),
            "gap": self.every.gap,
            "restored_at": self.every.factor,
            "kept_every": self.every.step,
            "field_px": list(self.planes.shape[2:]),
            "flagged": list(self.flagged),
            "note": note(self.every),
        }

    def truth(self, i: int) -> NDArray[Any]:
        """Return the i-th held-out plane (c, y, x)."""
        return np.asarray(self.planes[:, i].values)

    def restored(self, source: Source, i: int) -> NDArray[Any]:
        """Return what a source has in the place of the i-th held-out plane (c, y, x)."""
        _, rows, columns = source.shape_zyx
        z = self.rows[i]
        return source.read(Region(z, z + 1, 0, rows, 0, columns))[:, 0]


def note(every: HeldOut) -> str:
    """Return the sentence that must stand beside held-out numbers."""
    if every.gap == 1:
        return (
            f"Acquired planes that this factor leaves out (it takes every {every.step}.) were "
            "restored and compared: the condition is that of use."
        )
    return (
        "Every second acquired plane was left out, restored and compared: the planes around it lie "
        f"twice as far apart as in use ({every.factor}× instead of {every.factor // 2}×), so the "
        "numbers are a pessimistic bound."
    )


def open_held(
    acquired: Path,
    restored: Mapping[str, Path],
    heldout: Mapping[str, Path],
    factor: int,
    settings: EvaluateConfig,
    patches: Path | None = None,
) -> Held:
    """Find what was held out of a slide at a factor, and open what was restored in its place.

    Parameters
    ----------
    acquired
        Store of all acquired planes.
    restored
        Stores at the factor: of a factor that leaves out planes, the test itself; else only names
        of interpolations, which are made again.
    heldout
        Stores that `superresolve --held-out` made of methods with a network.
    factor
        That is judged.
    settings
        Section ``evaluate``.
    patches
        The slide's patch table, whose manifest names planes that are of no use.

    Raises
    ------
    UserError
        When a held-out store is of another factor or field.
    """
    spec = read_spec(acquired)
    every = held_out(factor, spec.voxel)
    side = "whole" if settings.heldout == "none" else settings.heldout
    y, x = middle(spec.shape[2:], side)
    square = open_volume(acquired)[:, :, y, x]
    useless = _flagged(patches)
    found = every.planes(spec.shape[1])
    kept = [z for z in found if z not in useless]
    if len(kept) > MAX_PLANES:
        kept = [kept[i] for i in np.linspace(0, len(kept) - 1, MAX_PLANES).round().astype(int)]
    left_out = tuple(z for z in found if z in useless)
    rows = tuple(every.row(z) for z in kept)
    reason = _why_not(settings, every, spec.shape[1], kept, heldout)
    held = Held(every, square[:, kept], rows, (y, x), flagged=left_out, reason=reason)
    if reason:
        return held
    shown = Stored(square[:, :: every.step].data)
    methods: dict[str, Source] = {}
    spreads: dict[str, Source] = {}
    for name in dict.fromkeys([*settings.baselines, *restored]):
        if every.gap == 1 and name in restored:
            store = restored[name]
        elif name in get_args(Interpolation):
            methods[name] = Interpolated(shown, every.factor, cast("Interpolation", name))
            continue
        elif name in heldout:
            store = heldout[name]
            _require_field(store, every, (y, x))
        else:
            continue
        box = (y, x) if every.gap == 1 else None
        methods[name] = _cut(store, box)
        if std_path(store).exists():
            spreads[name] = _cut(std_path(store), box, raw=True)
    return Held(every, held.planes, rows, (y, x), methods, spreads, left_out)


def _flagged(patches: Path | None) -> set[int]:
    if patches is None:
        return set()
    return {int(plane) for plane in read_manifest(patches).counts.get("flagged", {})}


def _why_not(
    settings: EvaluateConfig,
    every: HeldOut,
    planes: int,
    kept: Sequence[int],
    heldout: Mapping[str, Path],
) -> str:
    if settings.heldout == "none":
        return "Held-out planes were not asked for (evaluate.heldout: none)."
    if not every.learnt:
        return (
            f"Nothing was held out: every second plane would have to be restored at "
            f"{every.factor}×, and models learn up to 8×."
        )
    if not every.planes(planes):
        return f"Nothing was held out: the stack has only {planes} planes."
    if not kept:
        return "Nothing was held out: all planes between shown ones are flagged as useless."
    for name, store in heldout.items():
        if not read_manifest(store).counts.get("held_planes"):
            return f"Nothing was held out for {name}."
    return ""


def _require_field(store: Path, every: HeldOut, box: tuple[slice, slice]) -> None:
    said = read_spec(store).provenance
    y, x = box
    expected = {
        "factor": every.factor,
        "keep_every": every.step,
        "field": [y.start, y.stop, x.start, x.stop],
    }
    differing = {key: said.get(key) for key, value in expected.items() if said.get(key) != value}
    if differing:
        raise UserError(
            store,
            ", ".join(f"{key} {value}" for key, value in differing.items()),
            ", ".join(f"{key} {expected[key]}" for key in differing),
            "restore the held-out planes again",
        )


def _cut(store: Path, box: tuple[slice, slice] | None, *, raw: bool = False) -> Source:
    """Open a store, or a field of it; with ``raw`` without the scales of a calibration."""
    volume = open_volume(store)
    voxels = volume.data if box is None else volume.data[:, :, box[0], box[1]]
    if raw:
        scales = volume.attrs["msdsr"]["scales"]
        by_channel = np.array([scales[c] for c in volume["c"].values], np.float32)
        voxels = voxels / by_channel[:, None, None, None]
    return Stored(voxels)


def held_scores(held: Held, source: Source, peaks: Sequence[float]) -> list[dict[str, Any]]:
    """Compare one restoration with the held-out planes: each plane by itself, then the mean.

    Parameters
    ----------
    held
        What to compare with.
    source
        One of its methods.
    peaks
        Data range of each channel (raw intensities).

    Returns
    -------
    list of dict
        ``plane`` (XY), ``channel`` (``all`` or a name), ``metric`` (PSNR in dB, SSIM, NRMSE),
        ``value`` and ``n``, the number of planes. The SSIM and NRMSE of all channels are the means
        of theirs; the PSNR is that of the joint mean squared error.
    """
    names = [str(c) for c in held.planes["c"].values]
    planes = (
        _plane_scores(held.restored(source, i), held.truth(i), np.asarray(peaks, float), names)
        for i in range(len(held.rows))
    )
    return _means(planes)


def ceiling_scores(held: Held, peaks: Sequence[float]) -> list[dict[str, Any]]:
    """Return what a perfect restoration would score, for the planes it is compared with hold noise.

    The noise is estimated from each plane (`noise_variance`); fine texture counts as noise, so a
    method can score above this where the tissue is textured.
    """
    names = [str(c) for c in held.planes["c"].values]
    scale = np.asarray(peaks, float)

    def of_plane(i: int) -> Iterator[tuple[str, str, float]]:
        truth = held.truth(i).astype(float)
        variances = np.array([noise_variance(channel) for channel in truth])
        power = (truth**2).mean(axis=(1, 2))
        relative = variances / scale**2
        yield ALL, "PSNR", _decibels(float(relative.mean()))
        ratios = np.sqrt(variances / np.where(power > 0, power, np.nan))
        yield ALL, "NRMSE", float(np.nanmean(ratios)) if np.isfinite(ratios).any() else np.nan
        for name, value, ratio in zip(names, relative, ratios, strict=True):
            yield name, "PSNR", _decibels(float(value))
            yield name, "NRMSE", float(ratio)

    return _means(of_plane(i) for i in range(len(held.rows)))


def _decibels(mse: float) -> float:
    if np.isnan(mse):
        return mse
    return PSNR_CEILING if mse <= 0 else min(PSNR_CEILING, -10 * float(np.log10(mse)))


def _plane_scores(
    mine: NDArray[Any], true: NDArray[Any], peaks: NDArray[np.float64], names: Sequence[str]
) -> Iterator[tuple[str, str, float]]:
    yield ALL, "PSNR", psnr(mine, true, peaks)
    yield ALL, "NRMSE", nrmse(mine, true)
    large = min(mine.shape[1:]) >= SSIM_SIDE
    similar = []
    for c, name in enumerate(names):
        one, other, peak = mine[c : c + 1], true[c : c + 1], peaks[c : c + 1]
        yield name, "PSNR", psnr(one, other, peak)
        yield name, "NRMSE", nrmse(one, other)
        if large:
            similar.append(float(np.nanmean(ssim_rows(one, other, peak))))
            yield name, "SSIM", similar[-1]
    if large:
        yield ALL, "SSIM", float(np.mean(similar))


def _means(planes: Iterator[Iterator[tuple[str, str, float]]]) -> list[dict[str, Any]]:
    found: dict[tuple[str, str], list[float]] = {}
    for plane in planes:
        for channel, metric, value in plane:
            if not np.isnan(value):
                found.setdefault((channel, metric), []).append(value)
    return [
        {
            "plane": XY,
            "channel": channel,
            "metric": metric,
            "value": float(np.mean(values)),
            "n": len(values),
        }
        for (channel, metric), values in found.items()
    ]
