"""Randomness that is a function of a key and of absolute integer coordinates, and of nothing else.

Values come from hashes, not from a stream of random numbers, so neither the order nor the cutting
of the work can change them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

UInts = NDArray[np.uint64]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_TABLE_BITS = 16
_QUANTILES = ndtri((np.arange(1 << _TABLE_BITS) + 0.5) / (1 << _TABLE_BITS)).astype(np.float32)

# Mean of ΣB(u − i)² over the phase, which is ∫B² for the cubic B-spline B, on each of three axes.
_SPLINE_SD = float((151 / 315) ** 1.5)


def derive_key(*parts: object) -> int:
    """Return a 64-bit key for a tuple of names and numbers."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def _mix(values: UInts) -> UInts:
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    mixed: UInts = values ^ (values >> np.uint64(31))
    return mixed


def hashed(key: int, *coordinates: NDArray[np.int64]) -> UInts:
    """Return 64 random bits for each point of broadcast integer coordinates.

    The mixing function is SplitMix64's finaliser (Steele, Lea and Flood 2014), applied once for
    each coordinate.
    """
    bits = _mix(np.array([key], dtype=np.uint64) + _STEP)
    for coordinate in coordinates:
        bits = _mix(bits + coordinate.astype(np.int64).view(np.uint64) * _STEP)
    return bits


def uniform(bits: UInts) -> Doubles:
    """Turn random bits into numbers in [0, 1)."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(bits: UInts) -> Floats:
    """Turn random bits into standard normal numbers (65,536 quantiles, so within ±4.2)."""
    return _QUANTILES[(bits >> np.uint64(64 - _TABLE_BITS)).astype(np.intp)]


def _spline(positions: Doubles, spacing: float) -> tuple[NDArray[np.int64], Floats]:
    """Return the first of four lattice points at each position, and the cubic B-spline weights."""
    scaled = positions / spacing
    floor = np.floor(scaled)
    f = scaled - floor
    weights = np.stack(
        [(1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3]
    )
    return floor.astype(np.int64) - 1, (weights / 6).astype(np.float32)


def lattice_noise(key: int, spacing: float, axes: Sequence[Doubles]) -> Floats:
    """Return a smooth random field of zero mean and unit variance on a grid.

    Independent normal numbers on a cubic lattice, blended with cubic B-splines: correlated over
    about 1.2 lattice spacings, and with one law along z, y and x.

    Parameters
    ----------
    key
        Which field.
    spacing
        Of the lattice (µm).
    axes
        Positions along z, y and x (µm).

    Returns
    -------
    numpy.ndarray
        float32 (z, y, x).
    """
    lowest, blends = [], []
    for positions in axes:
        first, weights = _spline(positions, spacing)
        lowest.append(np.arange(first.min(), first.max() + 4, dtype=np.int64))
        blends.append((first - first.min(), weights))
    z, y, x = lowest
    field = normal(hashed(key, z[:, None, None], y[None, :, None], x[None, None, :]))
    for axis, (first, weights) in enumerate(blends):
        # Four taps added in a fixed order: a matrix product would round differently by block.
        shape = [1, 1, 1]
        shape[axis] = -1
        blended = np.take(field, first, axis=axis) * weights[0].reshape(shape)
        for tap in (1, 2, 3):
            blended += np.take(field, first + tap, axis=axis) * weights[tap].reshape(shape)
        field = blended
    return field * np.float32(1 / _SPLINE_SD)


def lattice_noise_at(key: int, spacing: float, points: Doubles) -> Floats:
    """Return the field of `lattice_noise` at single points (n, 3; µm)."""
    total = np.zeros(len(points), np.float32)
    blends = [_spline(points[:, axis], spacing) for axis in range(3)]
    for k in range(64):
        taps = (k // 16, k // 4 % 4, k % 4)
        bits = hashed(key, *(first + t for (first, _), t in zip(blends, taps, strict=True)))
        weight = np.prod([w[t] for (_, w), t in zip(blends, taps, strict=True)], axis=0)
        total += normal(bits) * weight
    return total * np.float32(1 / _SPLINE_SD)
