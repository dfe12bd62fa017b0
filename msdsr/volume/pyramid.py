"""Which levels a volume's pyramid has."""

from __future__ import annotations

from msdsr.volume.geometry import VoxelSize

AXES = ("c", "z", "y", "x")


def pyramid_steps(
    shape_zyx: tuple[int, int, int], voxel: VoxelSize, smallest: int = 256
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
        halve_z = planes >= 2 and z * voxel.z <= y * voxel.y * (1 + 1e-9)
        steps.append((2 * z if halve_z else z, 2 * y, 2 * x))
