"""Up to which frequency detail stands in its place: Fourier ring and shell correlation.

A power spectrum says how much detail there is of each size; these say how far it agrees with the
truth's, which hallucinated detail does not. Two images: rings (Saxton and Baumeister, J. Microsc.
127, 1982, 127). Two volumes: shells (Harauz and van Heel, Optik 73, 1986, 146). Both are

    C(q) = Re Σ F₁ F₂* / √(Σ|F₁|² · Σ|F₂|²),   summed over frequencies of about q.

Frequencies are physical (cycles/µm), so voxels need not be cubes. Along one axis, only the
frequencies within a cone around it are summed (Koho et al., Nat. Commun. 10, 2019, 3103).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

HALF_ANGLE = 30.0
"""Half the opening of the cone around an axis (degrees)."""


@dataclass(frozen=True)
class FourierCorrelation:
    """A correlation curve.

    Attributes
    ----------
    frequency
        Middle of each ring or shell (cycles/µm), shape (k,).
    correlation
        1 is perfect, 0 unrelated; shape (k,). nan where a ring holds nothing.
    count
        Frequencies in each ring, shape (k,): the fewer, the noisier its correlation.
    """

    frequency: NDArray[np.float64]
    correlation: NDArray[np.float64]
    count: NDArray[np.int64]


def fourier_correlation(
    restored: NDArray[Any],
    truth: NDArray[Any],
    spacing_um: Sequence[float],
    axis: int | None = None,
    half_angle: float = HALF_ANGLE,
) -> FourierCorrelation:
    """Return the Fourier correlation of two planes (rings) or two volumes (shells).

    Parameters
    ----------
    restored, truth
        One channel, shape (rows, columns) or (z, y, x), any real dtype; sides of at least 8. The
        mean is taken off, and a Hann window along each axis hides that opposite ends do not meet.
    spacing_um
        Distance of voxels along each axis (µm).
    axis
        Number of the axis whose cone is summed; None: all directions.
    half_angle
        Of the cone (degrees).

    Returns
    -------
    FourierCorrelation
        Rings are as wide as the coarsest frequency step, 1 / (the shortest side in µm), and reach
        up to the Nyquist frequency of the widest spacing; along one axis, of that axis's side and
        spacing. The constant is left out.

    Raises
    ------
    ValueError
        When the shapes differ or a side is under 8.
    """
    if restored.shape != truth.shape or len(spacing_um) != truth.ndim:
        raise ValueError(f"shapes {restored.shape} and {truth.shape}, {len(spacing_um)} spacings")
    if min(truth.shape) < 8:
        raise ValueError(f"no Fourier correlation of {truth.shape}")
    first, second = (np.fft.rfftn(_tapered(image)) for image in (restored, truth))
    radius, cosine = _polar(truth.shape, spacing_um, axis)
    sides = np.array(truth.shape) * np.asarray(spacing_um)
    width = 1 / float(sides.min() if axis is None else sides[axis])
    nyquist = 0.5 / float(max(spacing_um) if axis is None else spacing_um[axis])
    rings = round(nyquist / width)
    ring = np.rint(radius / width).astype(np.int64)
    kept = (ring >= 1) & (ring <= rings)
    if axis is not None:
        kept &= cosine >= np.cos(np.deg2rad(half_angle)) - 1e-12
    # A half transform stands for both halves: its inner columns count twice.
    weight = np.full(first.shape[-1], 2.0)
    weight[0] = 1
    if truth.shape[-1] % 2 == 0:
        weight[-1] = 1
    weights = np.broadcast_to(weight, first.shape)[kept]
    chosen = ring[kept]

    def summed(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(chosen, weights * values, rings + 1)[1:], np.float64)

    one, two = first[kept], second[kept]
    norm = np.sqrt(summed(np.abs(one) ** 2) * summed(np.abs(two) ** 2))
    shared = summed((one * two.conj()).real)
    correlation = np.divide(shared, norm, out=np.full(rings, np.nan), where=norm > 0)
    count = np.rint(summed(np.ones(len(chosen)))).astype(np.int64)
    frequency = np.asarray(width * np.arange(1, rings + 1), np.float64)
    return FourierCorrelation(frequency, correlation, count)


def _tapered(image: NDArray[Any]) -> NDArray[np.float64]:
    """Return the image without its mean, going to 0 at its ends."""
    values = image.astype(np.float64)
    values -= values.mean()
    for axis, n in enumerate(values.shape):
        window = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(n) + 0.5) / n)
        values *= window.reshape([-1 if a == axis else 1 for a in range(values.ndim)])
    return values


def _polar(
    shape: Sequence[int], spacing_um: Sequence[float], axis: int | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each frequency's length (cycles/µm), and the cosine of its angle to an axis."""
    last = len(shape) - 1
    steps = [
        (np.fft.rfftfreq if a == last else np.fft.fftfreq)(n, spacing_um[a])
        for a, n in enumerate(shape)
    ]
    grid = np.meshgrid(*steps, indexing="ij", sparse=True)
    radius: NDArray[np.float64] = np.sqrt(sum(g * g for g in grid))
    along = np.abs(grid[0 if axis is None else axis])
    cosine: NDArray[np.float64] = along / np.where(radius > 0, radius, 1.0)
    return radius, cosine
