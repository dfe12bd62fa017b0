"""Filling with a diffusion network: a region with its halo becomes one block of the engine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from msdsr.diffusion.denoiser import NetworkDenoiser, noise_levels
from msdsr.diffusion.inference import choose_batch, choose_precision
from msdsr.diffusion.network import Model
from msdsr.superresolve.engine import (
    Block,
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


class Diffused:
    """A `Filler` that runs one model over one volume."""

    unit = "tiles"

    def __init__(self, task: Task, model: Model) -> None:
        self.task, self.model = task, model
        settings = task.settings
        batch = choose_batch(settings.batch, model.device)
        self.denoiser = NetworkDenoiser(
            model,
            choose_precision(settings.precision, model.device),
            integer_timesteps=settings.schedule != "log_snr",
            fast=True,
            compiled_batch=batch if settings.compile else None,
        )
        self.tiling = Tiling(model.image_size, min(settings.stride, model.image_size), batch)
        self.walk = Walk(
            noise_levels(model, settings.schedule, settings.steps),
            settings.eta,
            task.seed,
            settings.noise_length,
            settings.noise_strength,
            settings.order,
        )

        self.evaluations = sum(
            len(planes_of_step(settings.mode, step, task.seed)) for step in range(self.walk.steps)
        )

    def cost(self, regions: Sequence[Region]) -> int:
        """Return how many tiles the network will denoise for some regions."""
        _, _, rows, columns = self.task.target.shape
        mode = self.task.settings.mode
        return sum(
            count_walk(
                self._padded(self._halo(region)), rows, columns, mode, self.walk, self.tiling,
                self._tissue(self._halo(region)),
            )
            for region in regions
        )  # fmt: skip

    def spared(self, region: Region) -> int:
        """Return how many tiles of a region hold no tissue, so that the network is spared them."""
        _, _, rows, columns = self.task.target.shape
        outer = self._halo(region)
        return count_background(
            self._padded(outer), rows, columns, self.task.settings.mode, self.walk, self.tiling,
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
            walks = 2 if self.task.settings.mode == "average" else 1
            taken = start.walk * self.walk.steps + start.step
            watch.skip(self.cost([region]) * taken // (walks * self.walk.steps))
        restored = restore(
            self.denoiser,
            block,
            self.task.settings.mode,
            self.walk,
            self.tiling,
            watch.advance,
            start=start,
            after_step=lambda state: watch.after_step(region, block, state, order=self.walk.order),
        )
        raw = self.model.transform.inverse(self._crop(restored, outer, region), channel_axis=0)
        voxels = to_dtype(raw.cpu().numpy(), self.task.target.dtype)
        rows = acquired_rows(acquired.shape[1], self.task.factor)
        _, y, x = region.inside(outer)
        voxels[:, rows] = acquired[:, :, y, x]
        return voxels

    def _halo(self, region: Region) -> Region:
        _, _, rows, columns = self.task.target.shape
        return region.with_halo(self.tiling.size, rows, columns)

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
        raw = np.pad(acquired, ((0, 0), (0, 0), (0, below), (0, right)), mode="symmetric")
        known = self.model.transform.forward(
            torch.from_numpy(raw.astype(np.float32)).to(device), channel_axis=0
        )
        clean = torch.zeros(known.shape[0], *padded.shape, device=device)
        mask = torch.zeros(padded.shape[0], dtype=torch.bool, device=device)
        rows = torch.from_numpy(above + acquired_rows(acquired.shape[1], self.task.factor))
        clean[:, rows] = known
        mask[rows] = True
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

    def _crop(self, restored: torch.Tensor, outer: Region, region: Region) -> torch.Tensor:
        above, _, _ = self._margins(outer)
        z, y, x = region.inside(outer)
        return restored[:, above + z.start : above + z.stop, y, x]
