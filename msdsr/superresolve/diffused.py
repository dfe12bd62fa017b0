"""Filling with a diffusion network: a region with its halo becomes one block of the engine."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from msdsr.diffusion.denoiser import Denoiser, NetworkDenoiser, noise_levels
from msdsr.diffusion.inference import choose_batch, choose_precision
from msdsr.diffusion.network import Model
from msdsr.superresolve.engine import (
    Block,
    Mode,
    Tiling,
    Walk,
    count_background,
    count_walk,
    planes_of_step,
    restore,
)
from msdsr.superresolve.plan import Task
from msdsr.superresolve.voxels import read_acquired, to_dtype
from msdsr.superresolve.watch import Watch
from msdsr.volume import Region, acquired_rows

COPIES = 9
"""Float32 volumes of a block that are there at the same moment, at most."""

HALO = 1.0
"""What a block has around it, in tiles; benchmarks/seams.py compares widths."""


class Diffused:
    """A `Filler` that runs one model over one volume."""

    unit = "tiles"

    def __init__(self, task: Task, model: Model) -> None:
        self.task, self.model = task, model
        settings = task.settings
        self.batch = choose_batch(settings.batch, model.device)
        self.denoiser = self._denoiser()
        self.tiling = Tiling(model.image_size, min(settings.stride, model.image_size), self.batch)
        self.mode, self.walk = self._walk()
        self.evaluations = sum(
            len(planes_of_step(self.mode, step, task.seed)) for step in range(self.walk.steps)
        )

    def _denoiser(self) -> Denoiser:
        settings = self.task.settings
        return NetworkDenoiser(
            self.model,
            choose_precision(settings.precision, self.model.device),
            integer_timesteps=settings.schedule != "log_snr",
            fast=True,
            compiled_batch=self.batch if settings.compile else None,
        )

    def _walk(self) -> tuple[Mode, Walk]:
        settings = self.task.settings
        walk = Walk(
            noise_levels(self.model, settings.schedule, settings.steps),
            settings.eta,
            self.task.seed,
            settings.noise_length,
            settings.noise_strength,
            settings.order,
        )
        return settings.mode, walk

    def with_seed(self, seed: int) -> Diffused:
        """Return the same with other noise; the network is shared."""
        other = copy.copy(self)
        other.task = dataclasses.replace(self.task, seed=seed)
        other.walk = dataclasses.replace(self.walk, seed=seed)
        return other

    def cost(self, regions: Sequence[Region]) -> int:
        """Return how many tiles the network will denoise for some regions."""
        _, _, rows, columns = self.task.target.shape
        return sum(
            count_walk(
                self._padded(self._halo(region)), rows, columns, self.mode, self.walk, self.tiling,
                self._tissue(self._halo(region)),
            )
            for region in regions
        )  # fmt: skip

    def spared(self, region: Region) -> int:
        """Return how many tiles of a region hold no tissue, so that the network is spared them."""
        _, _, rows, columns = self.task.target.shape
        outer = self._halo(region)
        return count_background(
            self._padded(outer), rows, columns, self.mode, self.walk, self.tiling,
            self._tissue(outer),
        )  # fmt: skip

    def memory(self, region: Region) -> int:
        """Return the bytes of a block with its halo: x_t, what is known, noise, x0 and so on."""
        voxels = math.prod(self._padded(self._halo(region)).shape)
        return COPIES * 4 * voxels * len(self.model.transform.model_channels)

    def restore(self, region: Region, watch: Watch) -> NDArray[Any]:
        """Return all planes of a region in the volume's dtype, acquired ones bit for bit."""
        outer = self._halo(region)
        acquired = read_acquired(self.task.acquired, outer)
        block = self._block(acquired, outer)
        start = watch.saved_state(region)
        if start is not None:
            walks = 2 if self.mode == "average" else 1
            taken = start.walk * self.walk.steps + start.step
            watch.skip(self.cost([region]) * taken // (walks * self.walk.steps))
        restored = restore(
            self.denoiser,
            block,
            self.mode,
            self.walk,
            self.tiling,
            watch.advance,
            start=start,
            after_step=lambda state: watch.after_step(region, block, state, order=self.walk.order),
        )
        return self._voxels(restored, acquired, region, outer)

    def _voxels(
        self, restored: torch.Tensor, acquired: NDArray[Any], region: Region, outer: Region
    ) -> NDArray[Any]:
        """Return a region in the volume's dtype, plane by plane to spare memory."""
        above, _, _ = self._margins(outer)
        z, y, x = region.inside(outer)
        target = self.task.target
        voxels = np.empty((target.shape[0], *region.shape), target.dtype)
        for plane in range(region.z1 - region.z0):
            data = restored[:, above + z.start + plane, y, x]
            raw = self.model.transform.inverse(data, channel_axis=0)
            voxels[:, plane] = to_dtype(raw.cpu().numpy(), target.dtype)
        voxels[:, acquired_rows(acquired.shape[1], self.task.factor)] = acquired[:, :, y, x]
        return voxels

    def _halo(self, region: Region) -> Region:
        _, _, rows, columns = self.task.target.shape
        return region.with_halo(round(HALO * self.tiling.size), rows, columns)

    def _margins(self, outer: Region) -> tuple[int, int, int]:
        """Return what is missing to one tile in z (above the stack), y and x (after the end)."""
        planes, height, width = (max(0, self.tiling.size - n) for n in outer.shape)
        return planes // 2, height, width

    def _padded(self, outer: Region) -> Region:
        above, below, right = self._margins(outer)
        z1 = max(outer.z1, outer.z0 - above + self.tiling.size)
        return Region(outer.z0 - above, z1, outer.y0, outer.y1 + below, outer.x0, outer.x1 + right)

    def _block(self, acquired: NDArray[Any], outer: Region) -> Block:
        above, below, right = self._margins(outer)
        padded = self._padded(outer)
        device = self.model.device
        transform = self.model.transform
        clean = torch.zeros(len(transform.model_channels), *padded.shape, device=device)
        mask = torch.zeros(padded.shape[0], dtype=torch.bool, device=device)
        rows = above + acquired_rows(acquired.shape[1], self.task.factor)
        for i, row in enumerate(rows.tolist()):
            raw = np.pad(acquired[:, i], ((0, 0), (0, below), (0, right)), mode="symmetric")
            plane = torch.from_numpy(raw.astype(np.float32)).to(device)
            clean[:, row] = transform.forward(plane, channel_axis=0)
            mask[row] = True
        _, _, height, width = self.task.target.shape
        return Block(clean, mask, padded, height, width, self._tissue(outer))

    def _tissue(self, outer: Region) -> torch.Tensor | None:
        """Return where there is tissue in a block with its padding, or nothing: everywhere."""
        if self.task.tissue is None:
            return None
        _, y, x = outer.slices
        _, below, right = self._margins(outer)
        mask = np.pad(self.task.tissue[y, x], ((0, below), (0, right)), mode="symmetric")
        return torch.from_numpy(mask)
