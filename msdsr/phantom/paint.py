"""Drawing shapes into a block as signed distances (µm, negative inside)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from msdsr.phantom.noise import Doubles, Floats
from msdsr.phantom.objects import Ellipsoids, Segments

FAR = np.float32(1e3)


def _window(
    axes: Sequence[Doubles], low: Doubles, high: Doubles
) -> tuple[slice, slice, slice] | None:
    """Return the part of the block between two corners, or None when it is empty."""
    cuts = [
        slice(int(np.searchsorted(p, a)), int(np.searchsorted(p, b, side="right")))
        for p, a, b in zip(axes, low, high, strict=True)
    ]
    if any(cut.stop <= cut.start for cut in cuts):
        return None
    return cuts[0], cuts[1], cuts[2]


def _offsets(
    axes: Sequence[Doubles], window: tuple[slice, slice, slice], point: Doubles
) -> tuple[Floats, Floats, Floats]:
    z, y, x = (
        (p[cut] - c).astype(np.float32) for p, cut, c in zip(axes, window, point, strict=True)
    )
    return z[:, None, None], y[None, :, None], x[None, None, :]


def ellipsoids(
    axes: Sequence[Doubles], shapes: Ellipsoids, margin: float
) -> tuple[Floats, NDArray[np.int32]]:
    """Return the distance to the nearest of some ellipsoids, and which one that is.

    The distance is the first-order one, f/|∇f| of f = |x/r| − 1, right near the surface.

    Parameters
    ----------
    axes
        Positions along z, y, x (µm).
    shapes
        The ellipsoids.
    margin
        How far out from a surface the distance matters (µm); beyond it, it is `FAR`.

    Returns
    -------
    tuple
        float32 (z, y, x) distances, and int32 (z, y, x) indices, −1 beyond the margin.
    """
    size = tuple(len(p) for p in axes)
    distance = np.full(size, FAR, np.float32)
    owner = np.full(size, -1, np.int32)
    for i in range(len(shapes)):
        reach = float(shapes.radii[i].max()) + margin
        window = _window(axes, shapes.centre[i] - reach, shapes.centre[i] + reach)
        if window is None:
            continue
        z, y, x = _offsets(axes, window, shapes.centre[i])
        rows = shapes.rotation[i].T.astype(np.float32)
        inner = np.zeros(1, np.float32)
        outer = np.zeros(1, np.float32)
        for row, radius in zip(rows, shapes.radii[i].astype(np.float32), strict=True):
            along = (z * row[0] + y * row[1]) + x * row[2]
            along *= along
            inner = inner + along / radius**2
            outer = outer + along / radius**4
        length = np.sqrt(inner)
        d = length * (length - 1) / np.sqrt(np.maximum(outer, np.float32(1e-6)))
        seen = distance[window]
        nearer = (d < seen) & (d < margin)
        seen[nearer] = d[nearer]
        owner[window][nearer] = i
    return distance, owner


def tubes(axes: Sequence[Doubles], pieces: Segments, margin: float) -> Floats:
    """Return the distance to the nearest of some tubes with round ends; see `ellipsoids`."""
    distance = np.full(tuple(len(p) for p in axes), FAR, np.float32)
    for start, end, radius in zip(pieces.start, pieces.end, pieces.radius, strict=True):
        reach = radius + margin
        low, high = np.minimum(start, end) - reach, np.maximum(start, end) + reach
        window = _window(axes, low, high)
        if window is None:
            continue
        z, y, x = _offsets(axes, window, start)
        a, b, c = (end - start).astype(np.float32)
        share = ((z * a + y * b) + x * c) / (a * a + b * b + c * c)
        np.clip(share, 0, 1, out=share)
        squared = (z - share * a) ** 2
        squared += (y - share * b) ** 2
        squared += (x - share * c) ** 2
        d = np.sqrt(squared)
        d -= np.float32(radius)
        d[d >= margin] = FAR
        seen = distance[window]
        np.minimum(seen, d, out=seen)
    return distance


def cover(distance: Floats, edge: float) -> Floats:
    """Return how far a voxel is covered: 1 inside, 0 outside, a smooth step of ±``edge`` µm."""
    t = np.clip(0.5 - distance / np.float32(2 * edge), 0, 1)
    covered: Floats = t * t * (3 - 2 * t)
    return covered
