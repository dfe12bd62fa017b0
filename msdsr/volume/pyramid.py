"""Which levels a volume's pyramid has, and what is in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msdsr.volume.geometry import VoxelSize

AXES = ("c", "z", "y", "x")


def pyramid_steps(
    shape_zyx: tuple[int, int, int], voxel: VoxelSize, smallest: int = 256, keep_z: bool = False
) -> list[tuple[int, int, int]]:
    """Choose the levels of a pyramid: halve Y and X, and z as soon as it is as fine as they are.

    Parameters
    ----------
    shape_zyx
        Planes, rows, columns of level 0.
    voxel
        Spacing of level 0 (µm).
    smallest
        No level is added once Y and X are both this small (pixels).
    keep_z
        Never halve z: the planes do not lie above each other.

    Returns
    -------
    list of tuple
        Steps in z, y, x relative to level 0, the first of them (1, 1, 1).
    """
    steps = [(1, 1, 1)]
    while True:
        z, y, x = steps[-1]
        planes, rows, columns = (n // s for n, s in zip(shape_zyx, steps[-1], strict=True))
        if max(rows, columns) <= smallest or min(rows, columns) < 2:
            return steps
        finer = z * voxel.z <= y * voxel.y * (1 + 1e-9)
        halve_z = not keep_z and planes >= 2 and finer
        steps.append((2 * z if halve_z else z, 2 * y, 2 * x))


def block_mean(voxels_CZYX: NDArray[Any], factors: Sequence[int]) -> NDArray[Any]:
    """Return the means of blocks of voxels (z, y, x), in the voxels' dtype, rounded."""
    c, z, y, x = voxels_CZYX.shape
    fz, fy, fx = factors
    blocks = voxels_CZYX.reshape(c, z // fz, fz, y // fy, fy, x // fx, fx)
    mean = blocks.mean(axis=(2, 4, 6), dtype=np.float32)
    if np.issubdtype(voxels_CZYX.dtype, np.integer):
        mean = np.rint(mean)
    out: NDArray[Any] = mean.astype(voxels_CZYX.dtype)
    return out


def display_windows(level: Any) -> list[tuple[float, float]]:
    """Return each channel's 0.5 % and 99.5 % quantile on the coarsest level."""
    windows = []
    for channel in range(level.shape[0]):
        values = np.asarray(level[channel], dtype=np.float32)
        low, high = (float(v) for v in np.quantile(values, (0.005, 0.995)))
        windows.append((low, high if high > low else low + 1.0))
    return windows
