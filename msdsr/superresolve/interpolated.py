"""Filling without a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from msdsr.config import Interpolation
from msdsr.superresolve.plan import Task
from msdsr.superresolve.voxels import read_acquired
from msdsr.superresolve.watch import Watch
from msdsr.volume import Region
from msdsr.volume.interpolate import interpolate


class Interpolated:
    """A `Filler` that interpolates along z."""

    unit = "blocks"
    evaluations = 0

    def __init__(self, task: Task, method: Interpolation) -> None:
        self.task, self.method = task, method

    def cost(self, regions: Sequence[Region]) -> int:
        """Return the number of regions."""
        return len(regions)

    def memory(self, region: Region) -> int:
        """Return the bytes of a region's planes, read and made, with float32 copies of some."""
        voxels = self.task.target.shape[0] * math.prod(region.shape)
        return voxels * (2 * self.task.target.dtype.itemsize + 4)

    def spared(self, region: Region) -> int:
        """Return 0: background is interpolated like everything."""
        return 0

    def restore(self, region: Region, watch: Watch) -> NDArray[Any]:
        """Return all planes of a region."""
        acquired = read_acquired(self.task.acquired, region)
        voxels = interpolate(acquired, self.task.factor, self.method)
        watch.advance()
        return voxels
