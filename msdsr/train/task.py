"""What a kind of model is taught: from a drawn example to a loss. The loop knows no more of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from msdsr.config import ModelConfig, ObjectiveConfig
from msdsr.diffusion.baselines import midplane_loss, one_pass_loss
from msdsr.diffusion.masks import draw_masks, stride_mask
from msdsr.diffusion.objective import (
    Predict,
    masked_row_loss,
    network_input,
    q_sample,
    training_loss,
    v_from_x0,
    x0_from_epsilon,
    x0_from_v,
)
from msdsr.diffusion.rscd import calibrator_loss, draw_severity, most_severe, prior_loss
from msdsr.diffusion.schedule import CosineSchedule

FACTORS = (2, 4, 8)
LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Diffusion steps at which the loss of a validation is taken, as parts of T."""


class Task(Protocol):
    """What is drawn for an example, and what is asked of the network.

    Attributes
    ----------
    planes
        Consecutive planes of a stack that make one example: 1, or 3 (all cropped alike).
    """

    @property
    def planes(self) -> int:
        """Planes of one example."""
        ...

    def draw(self, count: int, size: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the steps t, int64 (count, …), and the row masks b, bool (count, size)."""
        ...

    def weights(self, observed: Tensor) -> Tensor:
        """Return what each example counts in the mean that the loss is; float64 (N,).

        A global batch is cut into micro-batches and over ranks; each part's loss is weighted with
        its part of the sum, so that the step is that of the whole batch.
        """
        ...

    def loss(
        self, predict: Predict, x0: Tensor, noise: Tensor, t: Tensor, observed: Tensor
    ) -> Tensor:
        """Return the mean loss of some examples, a scalar.

        Parameters
        ----------
        predict
            ``predict(input, t)`` is the network's answer, float32.
        x0
            In model units, (N, C, H, W); (N, 3, C, H, W) with three planes.
        noise
            n ~ N(0, 1), (N, C, H, W).
        t, observed
            As drawn.
        """
        ...

    def figures(self, predict: Predict, x0: Tensor, noise: Tensor) -> dict[str, float]:
        """Return ``loss`` and other figures of fixed validation examples; smaller is better."""
        ...


def task_of(model: ModelConfig) -> Task:
    """Return the task of a model's kind."""
    kinds: dict[str, type[_Task]] = {
        "msdsr": MaskedSlices,
        "ms_unet": OnePass,
        "e2e_unet": MiddlePlane,
        "rscd_prior": CleanImages,
        "rscd_calibrator": Severity,
    }
    return kinds[model.kind](model.objective, CosineSchedule(model.objective.timesteps))


@dataclass(frozen=True)
class _Task:
    """What the tasks have in common."""

    objective: ObjectiveConfig
    schedule: CosineSchedule

    @property
    def planes(self) -> int:
        return 1

    def draw(self, count: int, size: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
        t = torch.randint(0, self.objective.timesteps, (count,), generator=source)
        return t, draw_masks(self.objective.masks, count, size, source)

    def weights(self, observed: Tensor) -> Tensor:
        if self.objective.loss_rows == "unobserved":
            return (~observed).sum(dim=1, dtype=torch.float64)
        return torch.full((len(observed),), float(observed.shape[1]), dtype=torch.float64)

    def loss(
        self, predict: Predict, x0: Tensor, noise: Tensor, t: Tensor, observed: Tensor
    ) -> Tensor:
        raise NotImplementedError

    def figures(self, predict: Predict, x0: Tensor, noise: Tensor) -> dict[str, float]:
        raise NotImplementedError

    def at_level(self, level: float, x0: Tensor) -> Tensor:
        """Return the step at a part of T, for each image."""
        step = int(level * self.objective.timesteps)
        return torch.full((len(x0),), step, dtype=torch.int64, device=x0.device)


class MaskedSlices(_Task):
    """``msdsr``: the noise of the rows that are not observed (Eq. 6)."""

    def loss(
        self, predict: Predict, x0: Tensor, noise: Tensor, t: Tensor, observed: Tensor
    ) -> Tensor:
        """See `Task`."""
        return training_loss(predict, self.schedule, self.objective, x0, noise, t, observed)

    def figures(self, predict: Predict, x0: Tensor, noise: Tensor) -> dict[str, float]:
        """Return the mean L1 over unobserved rows, in all and per factor.

        ``loss`` and ``loss_<s>x`` are of the prediction itself; ``x0_l1_<s>x`` of the image it
        stands for, in model units (σ of the data when standardised).
        """
        found: dict[str, float] = {}
        for factor in FACTORS:
            observed = strides(x0, factor)
            pairs = [
                self._errors(predict, x0, noise, self.at_level(level, x0), observed)
                for level in LEVELS
            ]
            found[f"loss_{factor}x"] = sum(loss for loss, _ in pairs) / len(LEVELS)
            found[f"x0_l1_{factor}x"] = sum(error for _, error in pairs) / len(LEVELS)
        return {"loss": sum(found[f"loss_{f}x"] for f in FACTORS) / len(FACTORS), **found}

    def _errors(
        self, predict: Predict, x0: Tensor, noise: Tensor, t: Tensor, observed: Tensor
    ) -> tuple[float, float]:
        """Return the L1 of the prediction and of the image it stands for."""
        alpha_bar = self.schedule.alpha_bar(t)
        x_t = q_sample(x0, noise, alpha_bar)
        predicted = predict(network_input(x_t, x0, observed, self.objective.conditioning), t)
        v = self.objective.prediction == "v"
        target = v_from_x0(x0, noise, alpha_bar) if v else noise
        restored = (x0_from_v if v else x0_from_epsilon)(x_t, predicted, alpha_bar)
        return (
            float(masked_row_loss(predicted, target, observed, "unobserved")),
            float(masked_row_loss(restored, x0, observed, "unobserved")),
        )


class OnePass(_Task):
    """``ms_unet``: the image itself, from its observed rows and noise in the others."""

    def loss(
        self, predict: Predict, x0: Tensor, noise: Tensor, t: Tensor, observed: Tensor
    ) -> Tensor:
        """See `Task`."""
        return one_pass_loss(predict, self.objective, x0, noise, observed)

    def figures(self, predict: Predict, x0: Tensor, noise: Tensor) -> dict[str, float]:
        """Return the mean L1 over unobserved rows (model units), in all and per factor."""
        unobserved = self.objective.model_copy(update={"loss_rows": "unobserved"})
        found = {
            f"loss_{f}x": float(one_pass_loss(predict, unobserved, x0, noise, strides(x0, f)))
            for f in FACTORS
        }
        return {"loss": sum(found.values()) / len(FACTORS), **found}


class MiddlePlane(_Task):
    """``e2e_unet``: the plane between two planes of a stack."""

    @property
    def planes(self) -> int:
        """The plane before, the plane itself, the plane after."""
        return 3

    def loss(
        self, predict: Predict, x0: Tensor, noise: Tensor, t: Tensor, observed: Tensor
    ) -> Tensor:
        """See `Task`."""
        return midplane_loss(predict, *x0.unbind(dim=1))

    def figures(self, predict: Predict, x0: Tensor, noise: Tensor) -> dict[str, float]:
        """Return the L1 to the plane between (model units), and that of the mean of both."""
        before, between, after = x0.unbind(dim=1)
        linear = ((before + after) / 2 - between).abs().mean()
        return {
            "loss": float(midplane_loss(predict, before, between, after)),
            "linear_l1": float(linear),
        }


class CleanImages(_Task):
    """``rscd_prior``: the noise of a whole image."""

    def loss(
        self, predict: Predict, x0: Tensor, noise: Tensor, t: Tensor, observed: Tensor
    ) -> Tensor:
        """See `Task`."""
        return prior_loss(predict, self.schedule, self.objective, x0, noise, t)

    def figures(self, predict: Predict, x0: Tensor, noise: Tensor) -> dict[str, float]:
        """Return the mean squared error of the prediction over some steps."""
        levels = [
            prior_loss(predict, self.schedule, self.objective, x0, noise, self.at_level(level, x0))
            for level in LEVELS
        ]
        return {"loss": sum(float(value) for value in levels) / len(LEVELS)}


class Severity(_Task):
    """``rscd_calibrator``: how noisy every pixel is."""

    def draw(self, count: int, size: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return a step for every pixel; no rows are observed."""
        most = most_severe(self.objective.timesteps)
        none = torch.zeros(count, size, dtype=torch.bool)
        return draw_severity(count, size, most, source), none

    def loss(
        self, predict: Predict, x0: Tensor, noise: Tensor, t: Tensor, observed: Tensor
    ) -> Tensor:
        """See `Task`."""
        return calibrator_loss(predict, self.schedule, x0, noise, t)

    def figures(self, predict: Predict, x0: Tensor, noise: Tensor) -> dict[str, float]:
        """Return the loss over even images of some steps, and the same in steps."""
        size = x0.shape[-1]
        levels = [
            calibrator_loss(
                predict,
                self.schedule,
                x0,
                noise,
                self.at_level(level / 2, x0)[:, None, None].expand(-1, size, size),
            )
            for level in LEVELS
        ]
        loss = sum(float(value) for value in levels) / len(LEVELS)
        return {"loss": loss, "steps_error": loss * most_severe(self.objective.timesteps)}


def strides(x0: Tensor, factor: int) -> Tensor:
    """Return masks of one stride whose phase goes round with the images; bool (N, H)."""
    rows = x0.shape[2]
    masks = [stride_mask(rows, factor, n % factor) for n in range(len(x0))]
    return torch.stack(masks).to(x0.device)
