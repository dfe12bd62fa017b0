"""How good the averaged weights are on patients that were never trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from msdsr.config import ModelConfig
from msdsr.diffusion.transform import DataTransform
from msdsr.train.data import CropSampler, Examples, Trainset, gather_examples, read_images
from msdsr.train.randomness import VALIDATION, generator
from msdsr.train.task import Task, task_of

CROPS = 32


@dataclass(frozen=True)
class Validation:
    """Fixed crops, noise, steps and masks, so that two figures differ by the weights alone.

    Attributes
    ----------
    x0
        (N, C, H, W) in model units; (N, 3, C, H, W) where an example is three planes.
    noise
        (N, C, H, W).
    task
        What the model is asked for.
    """

    x0: Tensor
    noise: Tensor
    task: Task

    @classmethod
    def draw(
        cls,
        trainset: Trainset,
        model: ModelConfig,
        transform: DataTransform,
        seed: int,
        device: torch.device,
    ) -> Self | None:
        """Draw the crops from the split ``val``; None when it has no image that holds one."""
        size, task = model.network.image_size, task_of(model)
        examples = Examples.of(trainset.rows("val", size), task.planes)
        if not examples.usable.any():
            return None
        source = generator(seed, 0, VALIDATION, "cpu")
        crops = CropSampler(examples.rows, size, "patient", examples.usable).draw(CROPS, source)
        chosen = examples.members[crops.image.numpy()]
        drawn, where = np.unique(chosen, return_inverse=True)
        stored = read_images(trainset, examples.rows["image"].to_numpy()[drawn])
        local = replace(crops, image=torch.arange(CROPS))
        raw = gather_examples(stored, local, size, torch.from_numpy(where.reshape(chosen.shape)))
        x0 = transform.forward(raw, channel_axis=raw.ndim - 3)
        noise = torch.randn((CROPS, *x0.shape[-3:]), generator=source)
        return cls(x0.to(device), noise.to(device), task)

    @torch.no_grad()
    def losses(self, predict: Callable[[Tensor, Tensor], Tensor]) -> dict[str, float]:
        """Return ``loss`` and the other figures of the model's task.

        Parameters
        ----------
        predict
            The network in evaluation mode: (input, t) → prediction, float32.
        """
        return self.task.figures(predict, self.x0, self.noise)
