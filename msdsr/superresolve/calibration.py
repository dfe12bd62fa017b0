"""Whether the spread of samples tells how wrong they are: held-out acquired planes say so.

Planes that the stage is not shown are restored with the samples of a real run, and compared with
what was imaged there. The standard deviation is then multiplied, per channel, by what makes 90 %
intervals hold 90 % of the imaged voxels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from msdsr.config import SuperresolveConfig
from msdsr.errors import UserError
from msdsr.manifest import read_manifest
from msdsr.metrics.coverage import Coverage, half_width
from msdsr.superresolve.plan import Task
from msdsr.superresolve.sampled import Sampled
from msdsr.superresolve.watch import Watch
from msdsr.volume import HeldOut, Region, VolumeSpec, distance_to_acquired, middle
from msdsr.volume.heldout import Side

LEVEL = 0.9
"""Of the intervals that the scale is chosen by."""
NOMINAL = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
FEW_VOXELS = 10_000
ALL = 0
"""Stands for all distances together in the table: a held-out plane is never 0 planes away."""
SAME = ("factor", "method", "mode", "steps", "schedule", "order", "eta", "noise_strength",
        "noise_length", "stride", "samples", "estimate", "blur")  # fmt: skip
"""Settings that a calibration must share with the run that uses it."""


@dataclass(frozen=True)
class Held:
    """A slide's planes that are restored as if they had not been imaged.

    Attributes
    ----------
    task
        The restoration of the planes around them, in the middle of the slide.
    planes
        The held-out planes (c, n, y, x), lazily.
    rows
        Where they lie in the restored volume.
    gap
        How many times as far apart the planes around them are as in the real run: 1 where that
        run leaves out planes itself, else 2.
    """

    task: Task
    planes: xr.DataArray
    rows: tuple[int, ...]
    gap: int

    @property
    def distances(self) -> tuple[int, ...]:
        """How many planes each held-out one lies from the nearest that was shown."""
        by_row = distance_to_acquired(self.task.acquired.shape[1], self.task.factor)
        return tuple(int(by_row[row]) for row in self.rows)

    def compare(self, region: Region, filler: Sampled, watch: Watch) -> dict[str, Coverage]:
        """Restore a block with all samples and count its errors, by `key_of`."""
        estimate, std = filler.restore_with_std(region, watch)
        y, x = slice(region.y0, region.y1), slice(region.x0, region.x1)
        truth = self.planes[:, :, y, x].values
        found: dict[str, Coverage] = {}
        for i, (row, distance) in enumerate(zip(self.rows, self.distances, strict=True)):
            for c, channel in enumerate(self.task.target.channels):
                error = truth[c, i].astype(np.float64) - estimate[c, row]
                coverage = found.setdefault(key_of(channel, distance), Coverage())
                coverage.add(error, std[c, row])
        return found


def key_of(channel: str, distance: int) -> str:
    """Return the name under which errors of a channel at a distance are counted."""
    return f"{channel} {distance}"


def hold_out(
    task: Task, every: HeldOut, planes: xr.DataArray, where: str | Path, side: Side
) -> Held:
    """Choose what to hold out, and the square in which.

    Parameters
    ----------
    task
        The real run.
    every
        Which planes are shown, at what factor.
    planes
        All acquired planes of the slide (c, z, y, x).
    where
        Named in an error.
    side
        Of the square.

    Raises
    ------
    UserError
        When the stack has too few planes.
    """
    count = planes.shape[1]
    held = every.planes(count)
    if not held:
        raise UserError(
            where,
            f"{count} planes",
            f"at least {every.step + 1}, to hold some out between others",
            "set `superresolve.calibrate: 0`, or choose another factor",
        )
    y, x = middle(planes.shape[2:], side)
    square = planes[:, :, y, x]
    channels, _, rows, columns = square.shape
    shape = (channels, every.restored_planes(count), rows, columns)
    provenance = {
        **{k: v for k, v in task.target.provenance.items() if k != "background"},
        "factor": every.factor,
        "keep_every": every.step,
        "acquired_planes": every.shown_rows(count),
        "held_out_planes": list(held),
        "field": [y.start, y.stop, x.start, x.stop],
        "note": "restored from every keep_every-th plane of `field` (rows, columns); planes that "
        "are not in acquired_planes were not shown",
    }
    target = dataclasses.replace(task.target, shape=shape, provenance=provenance)
    tissue = None if task.tissue is None else task.tissue[y, x]
    shown = square[:, :: every.step]
    inner = Task(shown, target, task.method, every.factor, task.settings, task.seed, tissue)
    return Held(inner, square[:, list(held)], tuple(every.row(z) for z in held), every.gap)


def scales_of(coverage: Mapping[str, Coverage], channels: Sequence[str]) -> dict[str, float]:
    """Return each channel's scale over all distances; 1 where no voxel had a spread."""
    scales = {}
    for channel in channels:
        total = _total(coverage, channel)
        scales[channel] = total.scale(LEVEL) if total.voxels else 1.0
    return scales


def _total(coverage: Mapping[str, Coverage], channel: str) -> Coverage:
    parts = [c for key, c in coverage.items() if key.rpartition(" ")[0] == channel]
    return sum(parts, start=Coverage())


def reliability(
    coverage: Mapping[str, Coverage], channels: Sequence[str], distances: Sequence[int]
) -> pd.DataFrame:
    """Return the reliability curve.

    Returns
    -------
    pandas.DataFrame
        A row a channel, distance (planes; 0: all together) and nominal coverage, with the part of
        the held-out voxels inside the interval before (``covered_raw``) and after scaling
        (``covered``), the scale, and the number of voxels.
    """
    scales = scales_of(coverage, channels)
    rows = []
    for channel in channels:
        found = {ALL: _total(coverage, channel)}
        found |= {d: coverage[key_of(channel, d)] for d in sorted(set(distances))}
        for distance, counts in found.items():
            for nominal in NOMINAL:
                width = half_width(nominal)
                rows.append(
                    {
                        "channel": channel,
                        "distance": distance,
                        "nominal": nominal,
                        "covered_raw": counts.within(width),
                        "covered": counts.within(width * scales[channel]),
                        "scale": scales[channel],
                        "voxels": counts.voxels,
                    }
                )
    return pd.DataFrame(rows)


def calibration_counts(held: Held, coverage: Mapping[str, Coverage]) -> dict[str, Any]:
    """Return what the manifest of a calibration counts."""
    channels = held.task.target.channels
    totals = {channel: _total(coverage, channel) for channel in channels}
    return {
        "scales": {c: round(s, 6) for c, s in scales_of(coverage, channels).items()},
        "covered_raw": {c: round(t.within(half_width(LEVEL)), 6) for c, t in totals.items()},
        "level": LEVEL,
        "held_planes": len(held.rows),
        "gap": held.gap,
        "voxels": {c: t.voxels for c, t in totals.items()},
        "without_spread": {c: t.without_sigma for c, t in totals.items()},
    }


def calibration_warnings(held: Held, coverage: Mapping[str, Coverage]) -> list[str]:
    """Tell what makes the scales doubtful."""
    found = []
    for channel in held.task.target.channels:
        voxels = _total(coverage, channel).voxels
        if voxels < FEW_VOXELS:
            found.append(f"channel {channel}: only {voxels} held-out voxels had a spread")
    if held.gap > 1:
        found.append(
            "the planes around the held-out ones lie twice as far apart as in the run this "
            "calibrates"
        )
    return found


def read_scales(
    path: Path, settings: Mapping[str, Any], weights: str, spec: VolumeSpec
) -> tuple[float, ...]:
    """Return the scales of a calibration, in the order of the volume's channels.

    Parameters
    ----------
    path
        The calibration's table; its manifest stands beside it.
    settings, weights
        Resolved settings and weights of the run that wants to use it.
    spec
        The volume's channels.

    Raises
    ------
    UserError
        When the calibration was made with another model, other settings or other channels.
    """
    manifest = read_manifest(path)
    differing = [key for key in SAME if manifest.settings.get(key) != settings.get(key)]
    if manifest.inputs.get("weights") != weights:
        differing.insert(0, "model")
    scales = manifest.counts.get("scales", {})
    if not differing and set(scales) != set(spec.channels):
        differing.append("channels")
    if differing:
        raise UserError(
            path,
            f"calibrated with another {', '.join(differing)}",
            "the model, settings and channels of the run",
            "calibrate again with --calibrate",
        )
    return tuple(float(scales[channel]) for channel in spec.channels)


def require_samples(settings: SuperresolveConfig, method: str, sampled: Sequence[str]) -> None:
    """Refuse to calibrate where nothing is sampled."""
    if method not in sampled:
        raise UserError("--calibrate", f"method {method}", " or ".join(sampled))
    if settings.samples < 2:
        raise UserError(
            "superresolve.samples", str(settings.samples), "2 or more to calibrate their spread"
        )
    if settings.calibrate == 0:
        raise UserError("superresolve.calibrate", "0", "the side of a square in pixels")
