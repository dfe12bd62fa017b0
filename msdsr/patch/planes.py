"""Planes that no model should learn from: empty, saturated, duplicated or out of focus."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from msdsr.config import PatchConfig

BLOCK_Z, BLOCK_YX = 64, 512
"""Voxels are read in blocks of so many planes and pixels, so memory does not grow with a slide."""

FEWEST = 3
"""With fewer planes there is no telling what is usual in a slide."""

FULL_SCALES = tuple((1 << bits) - 1 for bits in range(8, 17))
"""Largest values of digitisers of 8 to 16 bits."""


@dataclass(frozen=True)
class Flag:
    """A plane that no model should learn from, and why.

    Attributes
    ----------
    plane
        Counted from 0.
    reason
        ``sheet`` (named in the sample sheet), ``empty``, ``saturated``, ``duplicated`` or
        ``defocused``.
    value, limit
        What was found (for ``duplicated`` the plane it equals) and what it must not pass.
    """

    plane: int
    reason: str
    value: float
    limit: float

    def record(self) -> dict[str, Any]:
        """Return the flag as it stands in the manifest."""
        return {"reason": self.reason, "value": self.value, "limit": self.limit}


@dataclass
class PlaneMeasures:
    """What the rules look at, per plane; see `measure_planes`.

    Attributes
    ----------
    contrast
        Standard deviation of each channel's intensities (planes, C).
    saturated
        Share of pixels at full scale, of the worst channel (planes,).
    sharpness
        Detail of 1 to 2 pixels over detail of 2 to 4 pixels, of each channel (planes, C); NaN
        where there is none of the latter.
    digests
        SHA-256 of each plane's voxels.
    """

    contrast: NDArray[np.float64]
    saturated: NDArray[np.float64]
    sharpness: NDArray[np.float64]
    digests: list[str]


def flag_planes(
    volume: xr.DataArray, settings: PatchConfig, named: Sequence[int] = ()
) -> list[Flag]:
    """Find the planes of a slide that no model should learn from.

    Parameters
    ----------
    volume
        Dimensions c, z, y, x.
    settings
        The limits ``flag_empty``, ``flag_saturated``, ``flag_defocused`` and ``flag_duplicates``.
    named
        Planes that the sample sheet flags.

    Returns
    -------
    list of Flag
        At most one a plane, the first that holds, by plane.
    """
    judged = judge(measure_planes(volume), settings)
    flags = {flag.plane: flag for flag in judged} | {n: Flag(n, "sheet", 1, 0) for n in named}
    return [flags[plane] for plane in sorted(flags)]


def judge(found: PlaneMeasures, settings: PatchConfig) -> list[Flag]:
    """Hold the measures of a slide's planes against the limits (pure; see `flag_planes`)."""
    planes = len(found.digests)
    contrast, sharpness = _relative(found.contrast).min(axis=1), _relative(found.sharpness)
    sharpest = np.nanmax(np.where(np.isnan(sharpness), -np.inf, sharpness), axis=1)
    first: dict[str, int] = {}
    flags = []
    for plane in range(planes):
        twin = first.setdefault(found.digests[plane], plane)
        constant = bool((found.contrast[plane] == 0).any())
        if constant or contrast[plane] < settings.flag_empty:
            value = 0.0 if constant else float(contrast[plane])
            flags.append(Flag(plane, "empty", round(value, 6), settings.flag_empty))
        elif settings.flag_saturated and found.saturated[plane] > settings.flag_saturated:
            value = float(found.saturated[plane])
            flags.append(Flag(plane, "saturated", round(value, 6), settings.flag_saturated))
        elif settings.flag_duplicates and twin != plane:
            flags.append(Flag(plane, "duplicated", float(twin), 0.0))
        elif 0 <= sharpest[plane] < settings.flag_defocused:
            value = float(sharpest[plane])
            flags.append(Flag(plane, "defocused", round(value, 6), settings.flag_defocused))
    return flags


def _relative(measure: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide by the median over the planes of a slide, of those that have the measure at all."""
    planes, channels = measure.shape
    if planes < FEWEST:
        return np.ones_like(measure)
    usual = np.ones(channels)
    for channel in range(channels):
        values = measure[:, channel]
        values = values[np.isfinite(values) & (values > 0)]
        usual[channel] = np.median(values) if len(values) else 1.0
    relative: NDArray[np.float64] = measure / usual
    return relative


def measure_planes(volume: xr.DataArray) -> PlaneMeasures:
    """Measure every plane of a volume (c, z, y, x), a block of voxels at a time."""
    channels, planes = volume.shape[:2]
    peak = _full_scale(volume)
    total, square, fine, coarse, full = (np.zeros((planes, channels)) for _ in range(5))
    hashes = [hashlib.sha256() for _ in range(planes)]
    for z0, block in _blocks(volume):
        for z in range(block.shape[1]):
            hashes[z0 + z].update(np.ascontiguousarray(block[:, z]).tobytes())
            for channel in range(channels):
                image = block[channel, z].astype(np.float32)
                at = (z0 + z, channel)
                exact = image.astype(np.float64)
                total[at] += exact.sum()
                square[at] += (exact**2).sum()
                full[at] += (block[channel, z] == peak[channel]).sum() if peak[channel] else 0
                one, two, four = (gaussian_filter(image, s, mode="nearest") for s in (1, 2, 4))
                fine[at] += float(((one - two) ** 2).sum(dtype=np.float64))
                coarse[at] += float(((two - four) ** 2).sum(dtype=np.float64))
    pixels = volume.shape[2] * volume.shape[3]
    variance = np.maximum(square / pixels - (total / pixels) ** 2, 0)
    # Where all pixels are alike, rounding may leave a rest.
    variance[variance <= 1e-12 * square / pixels] = 0
    with np.errstate(invalid="ignore", divide="ignore"):
        sharpness = np.where(coarse > 0, np.sqrt(fine / coarse), np.nan)
    digests = [digest.hexdigest() for digest in hashes]
    return PlaneMeasures(np.sqrt(variance), full.max(axis=1) / pixels, sharpness, digests)


def _full_scale(volume: xr.DataArray) -> list[int]:
    """Return each channel's largest value where a digitiser ends there, else 0."""
    if volume.dtype.kind != "u":
        return [0] * volume.shape[0]
    peaks = volume.max(("z", "y", "x")).compute().values
    return [int(peak) if int(peak) in FULL_SCALES else 0 for peak in peaks]


def _blocks(volume: xr.DataArray) -> Iterator[tuple[int, NDArray[Any]]]:
    _, planes, rows, columns = volume.shape
    for z in range(0, planes, BLOCK_Z):
        for y in range(0, rows, BLOCK_YX):
            for x in range(0, columns, BLOCK_YX):
                box = volume[:, z : z + BLOCK_Z, y : y + BLOCK_YX, x : x + BLOCK_YX]
                yield z, box.to_numpy()
