"""Interpolation along z that leaves the acquired planes where they are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from msdsr.config import Interpolation
from msdsr.volume.geometry import output_planes

REACH: dict[Interpolation, int] = {"nearest": 0, "linear": 0, "cubic": 1}
"""How many planes beyond the two neighbours of a new plane its value depends on."""


def interpolate(acquired_CZYX: NDArray[Any], factor: int, method: Interpolation) -> NDArray[Any]:
    """Fill the planes between acquired ones without a model.

    The acquired planes come out bit for bit at 0, s, 2s, … (no half-pixel shift), and nothing is
    added beyond the outer two.

    Parameters
    ----------
    acquired_CZYX
        Any array with z as its second axis, ℓ planes, integer or floating.
    factor
        s, at least 1.
    method
        ``nearest`` repeats the nearer plane (the lower one half-way); ``linear`` weighs the two
        neighbours by distance; ``cubic`` is the cubic convolution of Keys (1981), see
        `cubic_weights`. Integers are rounded, and clipped to their range where ``cubic`` overshoots
        it.

    Returns
    -------
    numpy.ndarray
        The same dtype, (ℓ − 1)·s + 1 planes.
    """
    planes = acquired_CZYX.shape[1]
    positions = np.arange(output_planes(planes, factor))
    lower, phase = positions // factor, positions % factor
    if method == "nearest":
        return np.take(acquired_CZYX, lower + (2 * phase > factor), axis=1)
    out = np.empty(
        (acquired_CZYX.shape[0], len(positions), *acquired_CZYX.shape[2:]), acquired_CZYX.dtype
    )
    for i, (low, part) in enumerate(zip(lower, phase, strict=True)):
        if part == 0:
            out[:, i] = acquired_CZYX[:, low]
            continue
        t = int(part) / factor
        if method == "cubic":
            weights = cubic_weights(int(low), t, planes)
        else:
            weights = {int(low): 1 - t, int(low) + 1: t}
        mixed = sum(acquired_CZYX[:, z] * _like(out, w) for z, w in weights.items())
        out[:, i] = to_dtype(np.asarray(mixed), out.dtype)
    return out


def _like(array: NDArray[Any], weight: float) -> np.floating[Any]:
    """Return a weight in the arithmetic of an array: float32, or float64 for float64."""
    return np.float64(weight) if array.dtype == np.float64 else np.float32(weight)


def cubic_weights(low: int, t: float, planes: int) -> dict[int, float]:
    """Return the weights of planes at a point between two of them, by cubic convolution.

    It is the cubic Hermite polynomial with the slopes (f₊₁ − f₋₁)/2: what image processing calls
    (bi)cubic interpolation (R. Keys, "Cubic convolution interpolation for digital image
    processing", IEEE Trans. ASSP 29(6), 1981, a = −1/2; also known as Catmull-Rom). At an end of
    the stack the plane beyond is Keys' 3f₀ − 3f₁ + f₂ (his Eqs. 19 and 25), or, of two planes,
    2f₀ − f₁, which makes the interpolation linear.

    Parameters
    ----------
    low
        Index of the plane below the point.
    t
        Distance from it, in [0, 1) plane distances.
    planes
        ℓ, at least 2.

    Returns
    -------
    dict
        From a plane's index to its weight; the weights add to 1.
    """
    taps = (
        (low - 1, -0.5 * t + t**2 - 0.5 * t**3),
        (low, 1 - 2.5 * t**2 + 1.5 * t**3),
        (low + 1, 0.5 * t + 2 * t**2 - 1.5 * t**3),
        (low + 2, -0.5 * t**2 + 0.5 * t**3),
    )
    weights: dict[int, float] = {}
    for z, weight in taps:
        for plane, share in _inside(z, planes).items():
            weights[plane] = weights.get(plane, 0.0) + weight * share
    return weights


def _inside(z: int, planes: int) -> dict[int, float]:
    """Return a plane as a sum of planes of the stack: itself, or what it is extrapolated from."""
    if 0 <= z < planes:
        return {z: 1.0}
    end, inward = (0, 1) if z < 0 else (planes - 1, -1)
    if planes == 2:
        return {end: 2.0, end + inward: -1.0}
    return {end: 3.0, end + inward: -3.0, end + 2 * inward: 1.0}


def to_dtype(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return values in a dtype: integers rounded and clipped to its range, never wrapped."""
    if dtype.kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    whole: NDArray[Any] = np.clip(np.rint(values), limits.min, limits.max).astype(dtype)
    return whole
