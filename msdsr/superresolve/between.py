"""Filling with E2E UNet: the plane in the middle of two, and of those again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from msdsr.diffusion.baselines import Midplane, doublings, refine_planes
from msdsr.diffusion.inference import choose_batch, choose_precision
from msdsr.diffusion.network import Model
from msdsr.superresolve.plan import Task
from msdsr.superresolve.tiles import blending, windows_inside
from msdsr.superresolve.voxels import read_acquired, to_dtype
from msdsr.superresolve.watch import Watch
from msdsr.volume import Region
from msdsr.volume.interpolate import interpolate

COPIES = 4
"""Float32 volumes of a block that are there at the same moment, at most."""

Place = tuple[slice, slice]


class Between:
    """A `Filler` that draws the middle plane of two acquired ones, and goes on with its halves.

    XY planes are cut into tiles that are blended with a raised cosine. A tile without tissue is
    interpolated linearly.

    Raises
    ------
    UserError
        When the factor is not 2, 4 or 8.
    """

    unit = "tiles"
    evaluations = 1

    def __init__(self, task: Task, model: Model) -> None:
        doublings(task.factor)
        self.task, self.model = task, model
        settings = task.settings
        self.midplane = Midplane(model, choose_precision(settings.precision, model.device))
        self.batch = choose_batch(settings.batch, model.device)
        self.size = model.image_size
        self.stride = min(settings.stride, self.size)
        planes = task.acquired.shape[1]
        self.new_planes = (planes - 1) * (task.factor - 1)

    def cost(self, regions: Sequence[Region]) -> int:
        """Return how many tiles of new planes the network will draw."""
        return sum(self.new_planes * len(self._places(region)[0]) for region in regions)

    def spared(self, region: Region) -> int:
        """Return how many tiles are interpolated, for they hold no tissue."""
        return self.new_planes * len(self._places(region)[1])

    def memory(self, region: Region) -> int:
        """Return the bytes of a block with its halo: known and restored planes, and copies."""
        voxels = math.prod(self._outer(region).shape) + self.size**2
        return COPIES * 4 * voxels * len(self.model.transform.model_channels)

    @torch.inference_mode()
    def restore(self, region: Region, watch: Watch) -> NDArray[Any]:
        """Return all planes of a region in the volume's dtype, acquired ones bit for bit."""
        outer = self._outer(region)
        acquired = read_acquired(self.task.acquired, outer)
        known_LCYX = self._known(acquired)
        shape = (region.z1, *known_LCYX.shape[1:])
        restored_ZCYX = torch.zeros(shape, device=known_LCYX.device)
        weight_y, weight_x = (self._weights(outer, axis) for axis in (1, 2))
        drawn, background = self._places(region)
        for y, x in background:
            flat = known_LCYX[:, :, y, x].transpose(0, 1).cpu().numpy()
            linear = torch.from_numpy(interpolate(flat, self.task.factor, "linear"))
            weight = weight_y[y.start][:, None] * weight_x[x.start]
            restored_ZCYX[:, :, y, x] += linear.transpose(0, 1).to(weight.device) * weight
        at_once = max(1, self.batch // max(1, known_LCYX.shape[0] - 1))
        for first in range(0, len(drawn), at_once):
            some = drawn[first : first + at_once]
            planes = torch.stack([known_LCYX[:, :, y, x] for y, x in some], dim=1)
            fine = refine_planes(planes, self.task.factor, self._draw)
            for i, (y, x) in enumerate(some):
                weight = weight_y[y.start][:, None] * weight_x[x.start]
                restored_ZCYX[:, :, y, x] += fine[:, i] * weight
            watch.advance(self.new_planes * len(some))
        return self._finished(restored_ZCYX, acquired, region, outer)

    def _draw(self, before: Tensor, after: Tensor) -> Tensor:
        """Return the middle planes of two stacks (N, tiles, C, H, W), a batch at a time."""
        below, above = (torch.split(planes.flatten(0, 1), self.batch) for planes in (before, after))
        drawn = [self.midplane(a, b) for a, b in zip(below, above, strict=True)]
        return torch.cat(drawn).view_as(before)

    def _outer(self, region: Region) -> Region:
        _, _, rows, columns = self.task.target.shape
        return region.with_halo(self.size, rows, columns)

    def _starts(self, outer: Region, axis: int) -> tuple[int, ...]:
        """Return where tiles begin on Y (1) or X (2) of a block, filled up to one tile."""
        start = (outer.y0, outer.x0)[axis - 1]
        stop = max((outer.y1, outer.x1)[axis - 1], start + self.size)
        length = max(self.task.target.shape[axis + 1], stop - start)
        return windows_inside(length, self.size, self.stride, start, stop)

    def _weights(self, outer: Region, axis: int) -> dict[int, Tensor]:
        starts = self._starts(outer, axis)
        length = max(outer.shape[axis], self.size)
        weights = blending(starts, length, self.size, self.stride).to(self.model.device)
        return dict(zip(starts, weights, strict=True))

    def _places(self, region: Region) -> tuple[list[Place], list[Place]]:
        """Return the tiles of a block with tissue, and those without."""
        outer = self._outer(region)
        drawn: list[Place] = []
        background: list[Place] = []
        for y in self._starts(outer, 1):
            for x in self._starts(outer, 2):
                place = (slice(y, y + self.size), slice(x, x + self.size))
                (drawn if self._has_tissue(outer, place) else background).append(place)
        return drawn, background

    def _has_tissue(self, outer: Region, place: Place) -> bool:
        if self.task.tissue is None:
            return True
        _, y, x = outer.slices
        return bool(self.task.tissue[y, x][place].any())

    def _known(self, acquired: NDArray[Any]) -> Tensor:
        """Return the acquired planes in model units, (L, C, Y, X), at least one tile wide."""
        below, right = (max(0, self.size - n) for n in acquired.shape[2:])
        raw = np.pad(acquired, ((0, 0), (0, 0), (0, below), (0, right)), mode="symmetric")
        data = torch.from_numpy(raw.astype(np.float32)).to(self.model.device)
        return self.model.transform.forward(data, channel_axis=0).transpose(0, 1)

    def _finished(
        self, restored_ZCYX: Tensor, acquired: NDArray[Any], region: Region, outer: Region
    ) -> NDArray[Any]:
        _, y, x = region.inside(outer)
        raw = self.model.transform.inverse(restored_ZCYX[:, :, y, x])
        voxels = to_dtype(raw.transpose(0, 1).cpu().numpy(), self.task.target.dtype)
        voxels[:, :: self.task.factor] = acquired[:, :, y, x]
        return voxels
