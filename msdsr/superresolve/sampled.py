"""Filling with several samples: their mean, or the first, and how far they lie apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msdsr.superresolve.filler import Filler
from msdsr.superresolve.plan import Task
from msdsr.superresolve.samples import Samples
from msdsr.superresolve.voxels import to_dtype
from msdsr.superresolve.watch import Watch
from msdsr.volume import Region


class Sampled:
    """A `Filler` made of one filler a sample.

    Parameters
    ----------
    task
        Whose ``settings.estimate`` says what becomes the volume, and whose ``scales`` what the
        standard deviation of each channel is multiplied by.
    fillers
        One a sample, alike but for their seeds; at least two.
    """

    def __init__(self, task: Task, fillers: Sequence[Filler]) -> None:
        self.task, self.fillers = task, fillers
        self.unit = fillers[0].unit
        self.evaluations = sum(filler.evaluations for filler in fillers)
        scales = np.asarray(task.scales or task.no_scales, np.float32)
        self._scales = scales[:, None, None, None]

    def cost(self, regions: Sequence[Region]) -> int:
        """Return the units of all samples."""
        return sum(filler.cost(regions) for filler in self.fillers)

    def memory(self, region: Region) -> int:
        """Return the bytes of one sample, of the moments and of a difference."""
        voxels = self.task.target.shape[0] * math.prod(region.shape)
        return self.fillers[0].memory(region) + 4 * 4 * voxels

    def spared(self, region: Region) -> int:
        """Return the units that all samples are spared."""
        return sum(filler.spared(region) for filler in self.fillers)

    def restore(self, region: Region, watch: Watch) -> NDArray[Any]:
        """Return the estimate alone."""
        return self.restore_with_std(region, watch)[0]

    def restore_with_std(
        self, region: Region, watch: Watch
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Return the estimate, and the standard deviation.

        The estimate is in the volume's dtype, and its acquired planes equal the input bit for bit;
        the standard deviation is float32 in the same units, 0 in acquired planes.
        """
        samples = watch.saved_samples(region)
        if samples is None:
            samples = Samples.begin(self.fillers[0].restore(region, watch.for_sample(0)))
            watch.after_sample(region, 0, samples)
        else:
            watch.skip(sum(f.cost([region]) for f in self.fillers[: samples.moments.count]))
        for k in range(samples.moments.count, len(self.fillers)):
            samples.moments.add(self.fillers[k].restore(region, watch.for_sample(k)))
            watch.after_sample(region, k, samples)
        estimate = samples.first
        if self.task.settings.estimate == "mean":
            estimate = to_dtype(samples.moments.mean, self.task.target.dtype)
        return estimate, samples.moments.std * self._scales
