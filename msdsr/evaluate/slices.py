"""Where the crops of a volume's XY, XZ and YZ slices are cut."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msdsr.volume import Region

PLANES = ("XY", "XZ", "YZ")
GENERATED = "XY generated"
"""XY crops on planes that were not acquired; ``XY`` has all planes, as the paper has."""

ACROSS = {"XY": 0, GENERATED: 0, "XZ": 1, "YZ": 2}
"""The axis of (z, y, x) that a plane is perpendicular to."""

TRIES = 20
GOLDEN = 1.2207440846057596
"""The real root of t⁴ = t + 1: its inverse powers spread points evenly in three dimensions."""


def spread_crops(
    plane: str,
    shape_zyx: tuple[int, int, int],
    side: int,
    count: int,
    *,
    seed: int,
    name: str = "",
    tissue: NDArray[np.bool_] | None = None,
    generated: NDArray[np.bool_] | None = None,
) -> list[Region]:
    """Choose crops of one plane orientation, evenly spread over the whole volume.

    Parameters
    ----------
    plane
        ``XY``, ``XZ``, ``YZ`` or ``XY generated``.
    shape_zyx
        Planes, rows, columns of the volume.
    side
        Side of the square crop (pixels).
    count
        Most crops; fewer come back when the volume has fewer different places.
    seed, name
        The places are a function of these and of the plane and the shape; so all methods of a
        slide are judged at the same places.
    tissue
        Mask (rows, columns); a crop's centre must lie on it.
    generated
        Which planes were not acquired, shape (planes,); needed for ``XY generated``, whose crops
        come from the sequence of ``XY``, so that most are the same.

    Returns
    -------
    list of Region
        One voxel thick across the plane, all different, in the order of the sequence, so that the
        first k of them are evenly spread too. Empty when the volume is smaller than ``side``.

    Notes
    -----
    An additive recurrence (Kronecker sequence) in three dimensions with a seeded start.
    """
    across = ACROSS[plane]
    extent = np.array([1 if axis == across else side for axis in range(3)])
    room = np.array(shape_zyx) - extent + 1
    if (room < 1).any():
        return []
    start = np.random.default_rng([seed, zlib.crc32(name.encode()), across]).random(3)
    step = GOLDEN ** -np.arange(1.0, 4.0)
    found: dict[tuple[int, int, int], Region] = {}
    for k in range(min(count * TRIES, count + int(np.prod(room)) * TRIES)):
        if len(found) == count:
            break
        z, y, x = (int(v) for v in np.floor((start + k * step) % 1.0 * room))
        centre = (y + int(extent[1]) // 2, x + int(extent[2]) // 2)
        wanted = plane != GENERATED or (generated is not None and generated[z])
        if wanted and (z, y, x) not in found and (tissue is None or tissue[centre]):
            dz, dy, dx = (int(v) for v in extent)
            found[z, y, x] = Region(z, z + dz, y, y + dy, x, x + dx)
    return list(found.values())


def picture(voxels_CZYX: NDArray[Any], plane: str) -> NDArray[Any]:
    """Return a crop that is one voxel thick as a picture (c, rows, columns).

    Rows and columns are y and x of an XY crop, z and x of an XZ crop, z and y of a YZ crop.
    """
    return voxels_CZYX.squeeze(axis=1 + ACROSS[plane])
