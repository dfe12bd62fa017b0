"""The paper's blur after any method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from msdsr.superresolve.filler import Filler
from msdsr.superresolve.plan import Task
from msdsr.superresolve.voxels import to_dtype
from msdsr.superresolve.watch import Watch
from msdsr.volume import Region
from msdsr.volume.blur import HALO, gaussian3


class Blurred:
    """A `Filler` whose new planes are those of another, blurred with a 3 × 3 × 3 Gaussian.

    The paper blurs acquired planes too; here they are put back afterwards, bit for bit. A region is
    restored with a rim of one pixel, so that blocks meet as if the whole volume had been blurred.
    """

    def __init__(self, task: Task, filler: Filler) -> None:
        self.task, self.filler = task, filler
        self.unit = filler.unit
        self.evaluations = filler.evaluations

    def cost(self, regions: Sequence[Region]) -> int:
        """Return what the regions cost with their rims."""
        return self.filler.cost([self._rimmed(region) for region in regions])

    def memory(self, region: Region) -> int:
        """Return the bytes of the region with its rim, or of the three volumes of the blur."""
        outer = self._rimmed(region)
        voxels = self.task.target.shape[0] * math.prod(outer.shape)
        return max(self.filler.memory(outer), voxels * (3 * 4 + self.task.target.dtype.itemsize))

    def spared(self, region: Region) -> int:
        """Return the units that a region is spared."""
        return self.filler.spared(self._rimmed(region))

    def restore(self, region: Region, watch: Watch) -> NDArray[Any]:
        """Return all planes of a region."""
        outer = self._rimmed(region)
        sharp = self.filler.restore(outer, watch)
        watch.finished(outer)
        blurred = to_dtype(gaussian3(sharp), sharp.dtype)
        blurred[:, :: self.task.factor] = sharp[:, :: self.task.factor]
        return blurred[(slice(None), *region.inside(outer))]

    def _rimmed(self, region: Region) -> Region:
        _, _, rows, columns = self.task.target.shape
        return region.with_halo(HALO, rows, columns)
