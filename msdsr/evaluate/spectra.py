"""How much detail of each size a restored volume has, and how much of it stands in its place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msdsr.evaluate.blocks import blocks_of
from msdsr.evaluate.sources import Source
from msdsr.metrics.frc import fourier_correlation
from msdsr.metrics.spectra import AXES, frequencies, power_ratio

BINS = 16
"""Bands of equal width from 0 to the Nyquist frequency: slides of any size can then be joined."""

LEAST_SIDE = 8
POWER, RING, SHELL = "power_ratio", "frc", "fsc"
VOLUME = "3D"


@dataclass(frozen=True)
class SpectralValue:
    """One quantity in one band of frequencies (its middle, cycles/µm), mean over ``n`` parts."""

    axis: str
    quantity: str
    frequency: float
    value: float
    n: int


def spectral_values(
    restored: Source,
    truth: Source,
    spacing_um: Sequence[float],
    tissue: NDArray[np.bool_] | None = None,
) -> list[SpectralValue]:
    """Compare a restored volume with the truth, frequency by frequency.

    Parameters
    ----------
    restored, truth
        The same planes, rows and columns.
    spacing_um
        Of planes, rows and columns (µm).
    tissue
        See `blocks_of`.

    Returns
    -------
    list of SpectralValue
        ``power_ratio`` along each axis: power over the truth's; ``frc`` along each axis: the
        Fourier correlation within a cone around it, and ``fsc`` of the volume (``3D``): all means
        over channels, a band's frequencies and the parts of the slide. A side of under 8 voxels
        has no correlation, of under 4 no power.
    """
    blocks = blocks_of(restored.shape_zyx, tissue)
    found: dict[tuple[str, str, float], list[float]] = {}
    for block in blocks:
        mine, true = restored.read(block), truth.read(block)
        for key, value in _of_block(mine, true, spacing_um):
            found.setdefault(key, []).append(value)
    return [
        SpectralValue(*key, float(np.mean(values)), len(values)) for key, values in found.items()
    ]


def _of_block(
    mine: NDArray[Any], true: NDArray[Any], spacing_um: Sequence[float]
) -> Iterator[tuple[tuple[str, str, float], float]]:
    for i, axis in enumerate(AXES):
        if true.shape[1 + i] >= 4:
            where = frequencies(true.shape[1 + i], spacing_um[i])
            ratio = power_ratio(mine, true, axis)
            finite = np.isfinite(ratio)
            total = np.where(finite, ratio, 0).sum(axis=0)
            yield from _banded((axis, POWER), where, total, finite.sum(axis=0), 0.5 / spacing_um[i])
    if min(true.shape[1:]) < LEAST_SIDE:
        return
    for number, axis in [*enumerate(AXES), (None, VOLUME)]:
        curves = [
            fourier_correlation(a, b, spacing_um, number) for a, b in zip(mine, true, strict=True)
        ]
        there = [np.isfinite(c.correlation) for c in curves]
        weights = np.sum([c.count * t for c, t in zip(curves, there, strict=True)], axis=0)
        summed = [
            np.where(t, c.correlation, 0) * c.count for c, t in zip(curves, there, strict=True)
        ]
        nyquist = 0.5 / (max(spacing_um) if number is None else spacing_um[number])
        quantity = SHELL if number is None else RING
        where = curves[0].frequency
        yield from _banded((axis, quantity), where, np.sum(summed, axis=0), weights, nyquist)


def _banded(
    key: tuple[str, str],
    where: NDArray[np.float64],
    above: NDArray[np.float64],
    below: NDArray[np.float64],
    nyquist: float,
) -> Iterator[tuple[tuple[str, str, float], float]]:
    """Yield the ratio of two sums over each band that holds anything."""
    band = np.minimum((where / nyquist * BINS * (1 - 1e-9)).astype(int), BINS - 1)
    tops, bottoms = (np.bincount(band, values, BINS) for values in (above, below))
    for i, (top, bottom) in enumerate(zip(tops, bottoms, strict=True)):
        if bottom > 0:
            middle = round((i + 0.5) / BINS * nyquist, 9)
            yield (*key, middle), float(top / bottom)
