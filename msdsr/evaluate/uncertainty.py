"""How often the truth lies where the standard deviation of samples says, and how sharp that is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msdsr.evaluate.heldout import Held
from msdsr.evaluate.sources import Source, Stored
from msdsr.metrics.coverage import Coverage, half_width
from msdsr.volume import Region, open_volume

LEVELS = (0.5, 0.8, 0.9, 0.95)
SCALED_BY = 0.9
"""Level that the scales of a calibration are chosen by."""
HELDOUT, TRUTH = "heldout", "truth"


@dataclass
class Tally:
    """Errors over σ of one channel in some planes, and the sum of σ."""

    coverage: Coverage = field(default_factory=Coverage)
    sigma: float = 0.0

    def add(self, error: NDArray[Any], sigma: NDArray[Any]) -> None:
        """Count the voxels of a plane."""
        self.coverage.add(error, sigma)
        self.sigma += float(sigma.sum(dtype=np.float64))

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.coverage + other.coverage, self.sigma + other.sigma)


Scaled = tuple[Tally, float, float]
"""A tally, what its σ is multiplied by, and the data range of its channel."""


def uncertainty_rows(raw: Sequence[Scaled], scaled: Sequence[Scaled]) -> list[dict[str, Any]]:
    """Return coverage and width at each level, over all voxels of all channels.

    Parameters
    ----------
    raw
        Tallies with scale 1.
    scaled
        The same voxels with the scales of a calibration; empty where there is none, and its
        columns are then nan.

    Returns
    -------
    list of dict
        ``level``, ``coverage``, ``width`` (mean width of the interval over the data range), the
        same with ``_calibrated``, and ``n`` voxels. Voxels without σ (background) do not count.
    """
    voxels = sum(tally.coverage.voxels for tally, _, _ in raw)
    if not voxels:
        return []
    rows = []
    for level in LEVELS:
        row: dict[str, Any] = {"level": level}
        for suffix, tallies in (("", raw), ("_calibrated", scaled)):
            row[f"coverage{suffix}"], row[f"width{suffix}"] = _covered(tallies, half_width(level))
        rows.append({**row, "n": voxels})
    return rows


def _covered(tallies: Sequence[Scaled], width: float) -> tuple[float, float]:
    kept = [entry for entry in tallies if entry[0].coverage.voxels]
    voxels = sum(tally.coverage.voxels for tally, _, _ in kept)
    if not voxels or not all(np.isfinite(scale) for _, scale, _ in kept):
        return float("nan"), float("nan")
    inside = sum(t.coverage.voxels * t.coverage.within(width * scale) for t, scale, _ in kept)
    wide = sum(2 * width * scale * t.sigma / peak for t, scale, peak in kept)
    return inside / voxels, wide / voxels


def held_uncertainty(held: Held, method: str, peaks: Sequence[float]) -> list[dict[str, Any]]:
    """Judge the spread of a method's samples by the held-out planes.

    Calibrated figures are of two halves, each scaled by what the other half says (every second
    held-out plane is in one), so that no plane calibrates itself. A single held-out plane gives
    none.
    """
    folds = [[Tally() for _ in peaks] for _ in range(2)]
    for i in range(len(held.rows)):
        error = held.truth(i).astype(np.float64) - held.restored(held.methods[method], i)
        sigma = held.restored(held.spreads[method], i)
        for tally, wrong, promised in zip(folds[i % 2], error, sigma, strict=True):
            tally.add(wrong, promised)
    raw = [(a + b, 1.0, p) for a, b, p in zip(*folds, peaks, strict=True)]
    scaled = [
        (tally, other.coverage.scale(SCALED_BY), peak)
        for mine, others in (folds, folds[::-1])
        for tally, other, peak in zip(mine, others, peaks, strict=True)
    ]
    return [{"against": HELDOUT, **row} for row in uncertainty_rows(raw, scaled)]


def true_uncertainty(
    restored: Source,
    spread: Path,
    truth: Source,
    rows: Iterable[int],
    peaks: Sequence[float],
) -> list[dict[str, Any]]:
    """Judge the spread of a method's samples by the truth, in the planes that were not acquired.

    Parameters
    ----------
    restored, truth
        On one grid.
    spread
        Store of the standard deviation; its provenance has the scales of the calibration.
    rows
        The planes.
    peaks
        Data range of each channel.
    """
    volume = open_volume(spread)
    said = volume.attrs["msdsr"]
    scales = [float(said["scales"][str(c)]) for c in volume["c"].values]
    sigmas = Stored(volume.data)
    tallies = [Tally() for _ in peaks]
    _, height, width = truth.shape_zyx
    for z in rows:
        plane = Region(int(z), int(z) + 1, 0, height, 0, width)
        error = truth.read(plane).astype(np.float64) - restored.read(plane)
        for tally, wrong, promised in zip(tallies, error, sigmas.read(plane), strict=True):
            tally.add(wrong, promised)
    # The store holds σ after scaling; a scale of 1 over the store's leads back.
    after = [(tally, 1.0, peak) for tally, peak in zip(tallies, peaks, strict=True)]
    before = [(t, 1 / s, p) for (t, _, p), s in zip(after, scales, strict=True)]
    calibrated = after if said.get("calibrated") else []
    return [{"against": TRUTH, **row} for row in uncertainty_rows(before, calibrated)]
