"""What every method of filling planes offers to the stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from msdsr.superresolve.watch import Watch
from msdsr.volume import Region


class Filler(Protocol):
    """Fills regions of one volume by one method.

    Attributes
    ----------
    unit
        What the progress bar counts (plural): ``tiles`` of a network, ``blocks`` else.
    evaluations
        How often a network sees each voxel of tissue, overlaps of tiles aside.
    """

    unit: str
    evaluations: int

    def cost(self, regions: Sequence[Region]) -> int:
        """Return how many units the restoration of some regions takes."""
        ...

    def memory(self, region: Region) -> int:
        """Return the most bytes that restoring a region takes, beside those of a network."""
        ...

    def spared(self, region: Region) -> int:
        """Return how many units a region takes less, because it is background."""
        ...

    def restore(self, region: Region, watch: Watch) -> NDArray[Any]:
        """Return all planes of a region, and let the watch count its `cost`.

        Parameters
        ----------
        region
            Whole shards of the output volume, all of z.
        watch
            Counts units.

        Returns
        -------
        numpy.ndarray
            (c, z, y, x) in the output's dtype; acquired planes equal the input bit for bit. A
            function of input, model, settings, seed and absolute voxel: whichever process makes
            it, in whatever order, it is the same.
        """
        ...
