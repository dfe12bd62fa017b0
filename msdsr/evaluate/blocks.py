"""Parts of a large slide, so that no more than one is in memory at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from msdsr.volume import Region

SIDE = 512
"""Longest side of a part (pixels): with 40 planes, one channel in float64 takes 84 MB."""

MOST = 9
"""Parts that a slide is judged by; a larger slide by 9 of its parts, evenly spread."""

LEAST_TISSUE = 0.1


def blocks_of(
    shape_zyx: tuple[int, int, int], tissue: NDArray[np.bool_] | None = None
) -> list[Region]:
    """Cut a slide into equal parts of all planes.

    Parameters
    ----------
    shape_zyx
        Planes, rows, columns.
    tissue
        Mask (rows, columns): parts with less than a tenth of tissue are left out, if others have
        more.

    Returns
    -------
    list of Region
        The whole slide where it is no larger than 512 × 512; at most 9 parts.
    """
    planes, rows, columns = shape_zyx
    found = [
        Region(0, planes, int(y0), int(y1), int(x0), int(x1))
        for y0, y1 in _cuts(rows)
        for x0, x1 in _cuts(columns)
    ]
    if tissue is not None:
        with_tissue = [b for b in found if tissue[b.slices[1:]].mean() >= LEAST_TISSUE]
        found = with_tissue or found
    if len(found) > MOST:
        kept = np.linspace(0, len(found) - 1, MOST).round().astype(int)
        found = [found[i] for i in kept]
    return found


def _cuts(length: int) -> list[tuple[int, int]]:
    """Return the ends of equal parts; what is left over (fewer pixels than parts) is left out."""
    parts = -(-length // SIDE)
    side = length // parts
    return [(i * side, (i + 1) * side) for i in range(parts)]
