"""How good the averaged weights are on patients that were never trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from msdsr.config import ModelConfig
from msdsr.diffusion.masks import stride_mask
from msdsr.diffusion.objective import (
    masked_row_loss,
    network_input,
    q_sample,
    v_from_x0,
    x0_from_epsilon,
    x0_from_v,
)
from msdsr.diffusion.schedule import CosineSchedule
from msdsr.diffusion.transform import DataTransform
from msdsr.train.data import Crops, CropSampler, Trainset, gather, read_images
from msdsr.train.randomness import VALIDATION, generator

CROPS = 32
FACTORS = (2, 4, 8)
LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Diffusion steps at which the loss is taken, as parts of T."""


@dataclass(frozen=True)
class Validation:
    """Fixed crops, noise, steps and masks, so that two figures differ by the weights alone.

    Attributes
    ----------
    x0, noise
        (N, C, H, W) in model units.
    model
        Objective and precision.
    """

    x0: Tensor
    noise: Tensor
    model: ModelConfig

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
        size = model.network.image_size
        rows = trainset.rows("val", size)
        if rows.empty:
            return None
        source = generator(seed, 0, VALIDATION, "cpu")
        crops = CropSampler(rows, size, "patient").draw(CROPS, source)
        drawn, where = np.unique(crops.image.numpy(), return_inverse=True)
        stored = read_images(trainset, rows["image"].to_numpy()[drawn])
        local = Crops(
            torch.from_numpy(where), crops.y, crops.x, crops.turned, crops.flip_y, crops.flip_x
        )
        x0 = transform.forward(gather(stored, local, size))
        noise = torch.randn(x0.shape, generator=source)
        return cls(x0.to(device), noise.to(device), model)

    @torch.no_grad()
    def losses(self, predict: Callable[[Tensor, Tensor], Tensor]) -> dict[str, float]:
        """Return the mean L1 over unobserved rows, in all and per factor.

        Parameters
        ----------
        predict
            The network in evaluation mode: (input, t) → prediction, float32.

        Returns
        -------
        dict
            ``loss`` and ``loss_<s>x`` of the prediction itself; ``x0_l1_<s>x`` of the image it
            stands for, in model units (σ of the data when standardised).
        """
        objective = self.model.objective
        schedule = CosineSchedule(objective.timesteps)
        figures: dict[str, float] = {}
        for factor in FACTORS:
            loss = x0_l1 = 0.0
            for level in LEVELS:
                t = torch.full((len(self.x0),), int(level * objective.timesteps))
                t = t.to(self.x0.device)
                alpha_bar = schedule.alpha_bar(t)
                x_t = q_sample(self.x0, self.noise, alpha_bar)
                observed = self._masks(factor)
                given = network_input(x_t, self.x0, observed, objective.conditioning)
                predicted = predict(given, t)
                v = objective.prediction == "v"
                target = v_from_x0(self.x0, self.noise, alpha_bar) if v else self.noise
                restored = (x0_from_v if v else x0_from_epsilon)(x_t, predicted, alpha_bar)
                loss += float(masked_row_loss(predicted, target, observed, "unobserved"))
                x0_l1 += float(masked_row_loss(restored, self.x0, observed, "unobserved"))
            figures[f"loss_{factor}x"] = loss / len(LEVELS)
            figures[f"x0_l1_{factor}x"] = x0_l1 / len(LEVELS)
        return {"loss": sum(figures[f"loss_{f}x"] for f in FACTORS) / len(FACTORS), **figures}

    def _masks(self, factor: int) -> Tensor:
        """Return strides whose phase goes round with the crops."""
        rows = self.x0.shape[2]
        masks = [stride_mask(rows, factor, n % factor) for n in range(len(self.x0))]
        return torch.stack(masks).to(self.x0.device)
