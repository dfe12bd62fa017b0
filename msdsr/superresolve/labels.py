"""What every voxel of a restored volume is: imaged, made by a network, or interpolated."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d

from msdsr.superresolve.plan import NETWORK_METHODS, Task
from msdsr.volume import Region, distance_to_acquired
from msdsr.volume.labels import Label, Value

ACQUIRED = Value(1, "acquired: equal to the input", (0, 158, 115, 60))
RESTORED = Value(2, "restored: made by a network", (230, 159, 0, 60))
INTERPOLATED = Value(
    3, "interpolated between acquired planes, without a network", (86, 180, 233, 60)
)


def volume_labels(task: Task, tile: int = 0) -> list[Label]:
    """Return the labels ``origin`` and ``distance`` of a task's volume.

    ``origin`` is one of `ACQUIRED`, `RESTORED`, `INTERPOLATED`; ``distance`` counts planes to the
    nearest acquired one. Nothing is extrapolated: no plane lies beyond the outer two.

    Parameters
    ----------
    task
        What was made.
    tile
        Side of the network's tiles (pixels): a voxel is called interpolated where no tile that
        holds it can have held tissue.
    """
    distance = distance_to_acquired(task.acquired.shape[1], task.factor)
    steps = [Value(n, _planes(n), (230, 159, 0, 255 * n // 4)) for n in range(task.factor // 2 + 1)]
    origin = (ACQUIRED, RESTORED, INTERPOLATED)
    return [
        Label("origin", origin, _origin(task, distance, tile)),
        Label("distance", steps, lambda region: _planewise(distance, region)),
    ]


def _planes(n: int) -> str:
    return "acquired" if n == 0 else f"{n} plane{'s' if n > 1 else ''} from an acquired one"


def _planewise(values_Z: NDArray[np.uint8], region: Region) -> NDArray[np.uint8]:
    column = values_Z[region.z0 : region.z1, None, None]
    return np.broadcast_to(column, region.shape)


def _origin(
    task: Task, distance: NDArray[np.uint8], tile: int
) -> Callable[[Region], NDArray[np.uint8]]:
    made = RESTORED if task.method in NETWORK_METHODS else INTERPOLATED
    planes = np.where(distance == 0, ACQUIRED.number, made.number).astype(np.uint8)
    if task.tissue is None or made is INTERPOLATED:
        return lambda region: _planewise(planes, region)
    background = ~near_tissue(task.tissue, tile, box=task.method == "e2e_unet")

    def fill(region: Region) -> NDArray[np.uint8]:
        origin = _planewise(planes, region).copy()
        _, y, x = region.slices
        restored = distance[region.z0 : region.z1] > 0
        origin[restored[:, None, None] & background[y, x]] = INTERPOLATED.number
        return origin

    return fill


def near_tissue(tissue: NDArray[np.bool_], tile: int, *, box: bool) -> NDArray[np.bool_]:
    """Return the pixels that a tile with tissue may hold, wherever tiles stand.

    Parameters
    ----------
    tissue
        (y, x) bool.
    tile
        Side of the tiles (pixels).
    box
        Tiles are squares of XY planes. Else they are pieces of XZ slices (along a row) and of YZ
        slices (along a column).
    """
    reach = 2 * tile - 1
    along_x = maximum_filter1d(tissue, reach, axis=1, mode="constant")
    if box:
        return np.asarray(maximum_filter1d(along_x, reach, axis=0, mode="constant"))
    along_y = maximum_filter1d(tissue, reach, axis=0, mode="constant")
    return np.asarray(along_x | along_y)
