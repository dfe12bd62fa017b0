"""Restorative step-calibrated diffusion: a denoiser that asks first how noisy an image is.

A diffusion model of clean images (the prior) can take an image that is as noisy as x_t back to x0.
A second network (the calibrator) tells which t that is. Restoration runs the last reverse steps
from the image itself and asks again as it goes. (The method of Lyu et al.; the constants below are
those of its published code.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from msdsr.config import ObjectiveConfig
from msdsr.diffusion.network import Model
from msdsr.diffusion.objective import (
    Predict,
    no_step,
    q_sample,
    v_from_x0,
    x0_from_epsilon,
    x0_from_v,
)
from msdsr.diffusion.sampler import ancestral_step
from msdsr.diffusion.schedule import CosineSchedule
from msdsr.errors import UserError

ROUNDS, STEPS = 15, 10
"""Calibrations at most, and reverse steps between two of them."""

MARGIN = 3
"""Steps that are run beyond those that the calibrator counts."""

CLEAN = 10
"""An image of fewer steps than these is clean."""

CAP = 190
"""Most steps that the calibrator is believed."""

COMPOSED = 0.5
"""Part of the training images of the calibrator with a region of another severity."""

Prior = Callable[[Tensor, Tensor], Tensor]
"""``prior(x_t, t)`` is E[x0 | x_t]; x_t (N, C, H, W), t int64 (N,)."""

Calibrator = Callable[[Tensor], Tensor]
"""``calibrator(x)`` is the step t at which x_t would be as noisy as x; float (N,)."""


def most_severe(timesteps: int) -> int:
    """Return the greatest t that the calibrator learns: 500 of 1000."""
    return timesteps // 2


def prior_loss(
    predict: Predict,
    schedule: CosineSchedule,
    objective: ObjectiveConfig,
    x0: Tensor,
    noise: Tensor,
    t: Tensor,
) -> Tensor:
    """Return ‖ε − ε_θ(x_t, t)‖² (Ho et al. 2020, Eq. 14), or the same of v; a float32 scalar.

    Parameters
    ----------
    predict
        ``predict(x_t, t)`` → (N, C, H, W).
    schedule, objective
        Of the model that is taught.
    x0, noise
        Clean images in model units and ε ~ N(0, 1); (N, C, H, W) float32.
    t
        Steps, integer, (N,).
    """
    alpha_bar = schedule.alpha_bar(t)
    predicted = predict(q_sample(x0, noise, alpha_bar), t).float()
    v = objective.prediction == "v"
    target = v_from_x0(x0, noise, alpha_bar) if v else noise
    return (target.float() - predicted).square().mean()


def draw_severity(n: int, size: int, most: int, generator: torch.Generator) -> Tensor:
    """Return how noisy every pixel is made for the calibrator: t, int64 (n, size, size).

    A step uniform in 0..most for the whole image; in half of the images a random rectangle has
    another one, as sections of a slide may be noisier than their surroundings.
    """
    steps = torch.randint(0, most + 1, (2, n, 1, 1), generator=generator)
    edges = torch.rand((2, 2, n, 1), generator=generator).sort(dim=1).values * size
    composed = torch.rand((n, 1, 1), generator=generator) < COMPOSED
    along = torch.arange(size) + 0.5
    inside = (along >= edges[:, 0]) & (along < edges[:, 1])
    region = inside[0][:, :, None] & inside[1][:, None, :] & composed
    return torch.where(region, steps[1], steps[0])


def calibrator_loss(
    predict: Predict, schedule: CosineSchedule, x0: Tensor, noise: Tensor, severity: Tensor
) -> Tensor:
    """Return the mean |t̂ − t| of all pixels, in units of the greatest t; a float32 scalar.

    Parameters
    ----------
    predict
        ``predict(image, 0)`` → t/most of every pixel, (N, 1, H, W).
    schedule
        Of the model that is taught.
    x0, noise
        Clean images in model units and ε ~ N(0, 1); (N, C, H, W) float32.
    severity
        t of every pixel, int64 (N, H, W).
    """
    noisy = q_sample(x0, noise, schedule.alpha_bar(severity))
    told = predict(noisy, no_step(noisy)).float()[:, 0]
    return (told - severity / most_severe(schedule.timesteps)).abs().mean()


def reverse_step(
    x_t: Tensor, x0: Tensor, t: int, schedule: CosineSchedule, noise: Tensor
) -> Tensor:
    """Return x_{t−1} ~ q(x_{t−1} | x_t, x0) (Ho et al. 2020, Eq. 6 and 7); x0 itself at t = 0."""
    alpha_bar = float(schedule.alphas_cumprod[t])
    before = float(schedule.alphas_cumprod[t - 1]) if t > 0 else 1.0
    sigma, sigma_before = (math.sqrt((1 - a) / a) for a in (alpha_bar, before))
    x = ancestral_step(x_t / math.sqrt(alpha_bar), x0, sigma, sigma_before, 1.0, noise)
    return math.sqrt(before) * x


def restore_images(
    prior: Prior,
    calibrator: Calibrator,
    images: Tensor,
    noise: Callable[[int], Tensor],
    schedule: CosineSchedule,
) -> tuple[Tensor, Tensor]:
    """Denoise images, each from its own noise level.

    While the calibrator finds t̂ ≥ 10, and at most 15 times, an image is taken for x_t at
    t = min(t̂, 190) + 3 and goes 10 reverse steps back. An image that is clean at once is returned
    bit for bit. A round gains 7 steps where both networks are right, so an image of more than
    about 105 steps keeps some noise.

    Parameters
    ----------
    prior, calibrator
        See `Prior` and `Calibrator`.
    images
        (N, C, H, W) in model units.
    noise
        ``noise(k)`` is n ~ N(0, 1) of the k-th reverse step of all images, (N, C, H, W).
    schedule
        Of both networks.

    Returns
    -------
    Tensor, Tensor
        The restored images, and t̂ of the images as they came, float (N,).
    """
    x = images.clone()
    first = calibrator(x)
    told = first
    for done in range(ROUNDS):
        at = (told >= CLEAN).nonzero()[:, 0]
        if len(at) == 0:
            break
        start = told[at].clamp(max=CAP).round().long() + MARGIN
        part = x[at]
        for step in range(STEPS):
            t = start - step
            x0 = prior(part, t)
            fresh = noise(done * STEPS + step)[at]
            pieces = zip(part, x0, t.tolist(), fresh, strict=True)
            part = torch.stack([reverse_step(a, b, k, schedule, n) for a, b, k, n in pieces])
        x[at] = part
        if done + 1 < ROUNDS:
            told = told.clone()
            told[at] = calibrator(part)
    return x, first


class NetworkPrior:
    """The prior that a trained network is.

    Parameters
    ----------
    model
        Of kind ``rscd_prior``.
    precision
        Arithmetic inside the network, under autocast.
    """

    def __init__(self, model: Model, precision: Literal["float32", "bfloat16"] = "float32"):
        if model.kind != "rscd_prior":
            raise ValueError(f"a model of kind {model.kind}, not rscd_prior")
        self.model, self.precision = model, precision

    @torch.no_grad()
    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Return x0, held inside the range of the data; float32."""
        predicted = self.model.predict(x_t, t, self.precision)
        v = self.model.objective.prediction == "v"
        convert = x0_from_v if v else x0_from_epsilon
        return self.model.transform.clamp(convert(x_t, predicted, self.model.schedule.alpha_bar(t)))


class NetworkCalibrator:
    """The calibrator that a trained network is: the mean over an image of what it tells of pixels.

    Parameters
    ----------
    model
        Of kind ``rscd_calibrator``.
    precision
        Arithmetic inside the network, under autocast.
    """

    def __init__(self, model: Model, precision: Literal["float32", "bfloat16"] = "float32"):
        if model.kind != "rscd_calibrator":
            raise ValueError(f"a model of kind {model.kind}, not rscd_calibrator")
        self.model, self.precision = model, precision

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Tensor:
        """Return t̂ in 0..500 (of 1000 steps), float32 (N,)."""
        told = self.model.predict(image, no_step(image), self.precision)
        most = most_severe(self.model.schedule.timesteps)
        return (most * told.mean(dim=(1, 2, 3))).clamp(0, most)


def refuse_strangers(prior: Model, calibrator: Model) -> None:
    """Refuse two networks that do not measure noise alike.

    Raises
    ------
    UserError
        When their intensities, channels or schedules differ.
    """
    for name, one, other in (
        ("steps", prior.objective.timesteps, calibrator.objective.timesteps),
        ("transform", prior.transform, calibrator.transform),
    ):
        if one != other:
            raise UserError(
                "denoise.calibrator",
                f"the {name} of its training is not the prior's",
                "one training set and one `objective.data` for both",
                "train both on the same slides",
            )
