"""Batches on the device: this rank's part of each global batch, ahead of time where that helps."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from msdsr.config import ModelConfig
from msdsr.diffusion.transform import DataTransform
from msdsr.errors import UserError
from msdsr.train.data import CropSampler, Examples, Trainset, gather_examples, load_images
from msdsr.train.distributed import Ranks
from msdsr.train.randomness import draw_batch, draw_noise
from msdsr.train.task import task_of


@dataclass(frozen=True)
class Batch:
    """A part of a global batch.

    Attributes
    ----------
    raw
        Crops (n, C, H, W), or (n, 3, C, H, W) of three planes each; raw values as float32.
    noise
        ε (n, C', H, W) for the C' channels in model units.
    t
        Diffusion steps (n,), or (n, H, W).
    observed
        Row masks b, bool (n, H).
    share
        Share of each crop in the mean that the loss of the global batch is; (n,) on the CPU.
    """

    raw: Tensor
    noise: Tensor
    t: Tensor
    observed: Tensor
    share: Tensor

    def pieces(self, most: int) -> Iterator[Batch]:
        """Yield the batch in pieces of at most ``most`` crops."""
        parts = (getattr(self, f.name).split(most) for f in fields(self))
        for part in zip(*parts, strict=True):
            yield Batch(*part)


class Feed:
    """The stream of batches of one rank, a function of the seed and the images seen.

    Parameters
    ----------
    trainset, model, seed
        What is trained on, and how.
    transform
        Says how many channels the noise has.
    ranks
        Who takes which part.
    cache
        Where images that do not fit into memory are decoded to.
    """

    def __init__(
        self,
        trainset: Trainset,
        model: ModelConfig,
        seed: int,
        transform: DataTransform,
        ranks: Ranks,
        cache: Path,
    ) -> None:
        self.seed, self.ranks = seed, ranks
        self.channels = len(transform.model_channels)
        self.size, self.batch = model.network.image_size, model.optimiser.batch
        self.task = task_of(model)
        rows = trainset.rows("train", self.size)
        if rows.empty:
            raise UserError(
                trainset.path,
                f"no training image holds a crop of {self.size} pixels",
                f"images of at least {self.size}×{self.size}",
                "build the training set from larger patches",
            )
        examples = Examples.of(rows, self.task.planes)
        if not examples.usable.any():
            raise UserError(
                trainset.path,
                f"no three neighbouring planes of a z-stack hold a crop of {self.size} pixels",
                f"z-stacks of at least three planes for a model of kind {model.kind}",
                "teach it with cohorts of z-stacks",
            )
        if self.batch < ranks.world:
            raise UserError(
                "optimiser.batch",
                str(self.batch),
                f"at least one crop for each of {ranks.world} GPUs",
                "raise it or use fewer GPUs",
            )
        self.images = load_images(trainset, examples.rows, ranks, cache)
        self.members = torch.from_numpy(examples.members)
        balance = model.optimiser.balance
        self.sampler = CropSampler(examples.rows, self.size, balance, examples.usable)
        # Images on the disk are read and sent over while the device is busy with the last batch.
        ahead = self.images.device != ranks.device
        self._pool = ThreadPoolExecutor(1) if ahead else None

    def batches(self, seen: int, total: int) -> Iterator[Batch]:
        """Yield this rank's batches from ``seen`` images until ``total`` are reached."""
        starts = range(seen, total, self.batch)
        if self._pool is None:
            yield from map(self.at, starts)
            return
        coming = self._pool.submit(self.at, seen) if starts else None
        for start in starts:
            ready = coming
            following = start + self.batch
            coming = self._pool.submit(self.at, following) if following < total else None
            if ready is not None:
                yield ready.result()

    def at(self, seen: int) -> Batch:
        """Return this rank's part of the global batch that follows ``seen`` images."""
        device = self.ranks.device
        draw = draw_batch(self.seed, seen, self.batch, self.sampler, self.task)
        start, stop = self.ranks.share(self.batch)
        crops = draw.crops.part(start, stop).to(self.images.device)
        raw = gather_examples(self.images, crops, self.size, self.members)
        if raw.device != device:
            raw = raw.pin_memory().to(device, non_blocking=True)
        shape = (self.batch, self.channels, self.size, self.size)
        weights = self.task.weights(draw.observed)
        return Batch(
            raw,
            draw_noise(self.seed, seen, shape, device)[start:stop],
            draw.t[start:stop].to(device),
            draw.observed[start:stop].to(device),
            (weights / weights.sum())[start:stop],
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
