"""All randomness of training: a function of the seed and the number of images seen.

Where the crops lie, the steps t, the masks and the noise are drawn for the whole global batch, on
every rank alike, and each rank takes its part. So a training can be resumed at any step with no
generator saved, on any number of ranks, and sees the same data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from msdsr.train.data import Crops, CropSampler
from msdsr.train.task import Task

CHOICES, NOISE, VALIDATION, RESTORED = 0, 1, 2, 3
"""Streams that never meet."""


def generator(seed: int, images: int, stream: int, device: torch.device | str) -> torch.Generator:
    """Return the generator of a stream at ``images`` images seen."""
    state = np.random.SeedSequence([seed, images, stream]).generate_state(2, np.uint32)
    return torch.Generator(device).manual_seed(int(state[0]) << 31 | int(state[1]) >> 1)


@dataclass(frozen=True)
class Draw:
    """What is decided for one global batch.

    Attributes
    ----------
    crops
        Where the crops lie.
    t
        Diffusion steps, int64 (B,), or (B, H, W) where a task has one for every pixel.
    observed
        Row masks b, bool (B, H).
    """

    crops: Crops
    t: Tensor
    observed: Tensor


def draw_batch(seed: int, images: int, batch: int, sampler: CropSampler, task: Task) -> Draw:
    """Decide everything about the global batch that follows ``images`` images seen."""
    source = generator(seed, images, CHOICES, "cpu")
    crops = sampler.draw(batch, source)
    t, observed = task.draw(batch, sampler.size, source)
    return Draw(crops, t, observed)


def draw_noise(
    seed: int, images: int, shape: tuple[int, int, int, int], device: torch.device
) -> Tensor:
    """Return ε of the global batch that follows ``images`` images seen; float32."""
    return torch.randn(shape, generator=generator(seed, images, NOISE, device), device=device)
