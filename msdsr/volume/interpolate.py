"""Interpolation along z that leaves the acquired planes where they are."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from msdsr.volume.geometry import output_planes

Method = Literal["nearest", "linear"]


def interpolate(acquired_CZYX: NDArray[Any], factor: int, method: Method) -> NDArray[Any]:
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
        neighbours by distance, rounded to the nearest value for integers.

    Returns
    -------
    numpy.ndarray
        The same dtype, (ℓ − 1)·s + 1 planes.
    """
    planes = acquired_CZYX.shape[1]
    positions = np.arange(output_planes(planes, factor))
    lower = positions // factor
    phase = positions % factor
    if method == "nearest":
        return np.take(acquired_CZYX, lower + (2 * phase > factor), axis=1)
    upper = np.minimum(lower + 1, planes - 1)
    shape = (1, -1) + (1,) * (acquired_CZYX.ndim - 2)
    weight = (phase / factor).reshape(shape).astype(np.float32)
    out = np.empty(
        (acquired_CZYX.shape[0], len(positions), *acquired_CZYX.shape[2:]), acquired_CZYX.dtype
    )
    for i, (low, high) in enumerate(zip(lower, upper, strict=True)):
        w = weight[0, i]
        if phase[i] == 0:
            out[:, i] = acquired_CZYX[:, low]
            continue
        mixed = acquired_CZYX[:, low] * (1 - w) + acquired_CZYX[:, high] * w
        integer = np.issubdtype(out.dtype, np.integer)
        out[:, i] = np.rint(mixed).astype(out.dtype) if integer else mixed.astype(out.dtype)
    return out
