"""What the network is taught: Eq. 3, Eq. 5 and Eq. 6, and the three ways to name a prediction.

Images are (N, C, H, W) in model units; ``observed`` is b of Eq. 4, bool, (H,) or (N, H);
``alpha_bar`` is ᾱ_t, a float, (N,), or (N, H, W) where the noise of an image is not even.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from msdsr.config import ObjectiveConfig
from msdsr.diffusion.schedule import CosineSchedule

Prediction = Literal["epsilon", "v", "x0", "noise_level"]
Conditioning = Literal["rows", "mask_and_rows", "neighbours", "none"]
Predict = Callable[[Tensor, Tensor], Tensor]
"""``predict(input, t)`` is the network's answer; the caller chooses the precision."""


def as_rows(observed: Tensor) -> Tensor:
    """Return b with shape (1 or N, 1, H, 1), to be broadcast against (N, C, H, W)."""
    return observed.reshape(-1, 1, observed.shape[-1], 1)


def _roots(alpha_bar: Tensor | float, like: Tensor) -> tuple[Tensor | float, Tensor | float]:
    """Return √ᾱ and √(1−ᾱ), to be broadcast against (N, C, H, W).

    The roots are taken in double precision: in float32, 1 − ᾱ is wrong by 0.1 % at t = 0.
    """
    if not isinstance(alpha_bar, Tensor):
        return math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
    a = alpha_bar.double()
    a = a[:, None] if a.ndim == 3 else a.reshape(-1, 1, 1, 1)
    return a.sqrt().to(like.dtype), (1 - a).sqrt().to(like.dtype)


def q_sample(x0: Tensor, noise: Tensor, alpha_bar: Tensor | float) -> Tensor:
    """Return x_t = √ᾱ_t·x0 + √(1−ᾱ_t)·ε (Eq. 3)."""
    signal, spread = _roots(alpha_bar, x0)
    return signal * x0 + spread * noise


def interlace(x: Tensor, clean: Tensor, observed: Tensor) -> Tensor:
    """Return c(x, x^H, b) = b·x^H + (1−b)·x (Eq. 5).

    Written as a choice, not as a sum, so that rows of ``clean`` that were not observed may hold
    anything, and observed rows come through bit for bit.
    """
    return torch.where(as_rows(observed), clean, x)


def x0_from_epsilon(x_t: Tensor, epsilon: Tensor, alpha_bar: Tensor | float) -> Tensor:
    """Return x0 = (x_t − √(1−ᾱ)·ε)/√ᾱ, Eq. 3 solved for x0."""
    signal, spread = _roots(alpha_bar, x_t)
    return (x_t - spread * epsilon) / signal


def epsilon_from_x0(x_t: Tensor, x0: Tensor, alpha_bar: Tensor | float) -> Tensor:
    """Return ε = (x_t − √ᾱ·x0)/√(1−ᾱ), Eq. 3 solved for ε."""
    signal, spread = _roots(alpha_bar, x_t)
    return (x_t - signal * x0) / spread


def v_from_x0(x0: Tensor, noise: Tensor, alpha_bar: Tensor | float) -> Tensor:
    """Return v = √ᾱ·ε − √(1−ᾱ)·x0 (Salimans and Ho 2022)."""
    signal, spread = _roots(alpha_bar, x0)
    return signal * noise - spread * x0


def x0_from_v(x_t: Tensor, v: Tensor, alpha_bar: Tensor | float) -> Tensor:
    """Return x0 = √ᾱ·x_t − √(1−ᾱ)·v (Salimans and Ho 2022)."""
    signal, spread = _roots(alpha_bar, x_t)
    return signal * x_t - spread * v


def epsilon_from_v(x_t: Tensor, v: Tensor, alpha_bar: Tensor | float) -> Tensor:
    """Return ε = √(1−ᾱ)·x_t + √ᾱ·v (Salimans and Ho 2022)."""
    signal, spread = _roots(alpha_bar, x_t)
    return spread * x_t + signal * v


def network_channels(data_channels: int, conditioning: Conditioning) -> int:
    """Return how many channels the network reads for ``data_channels`` channels of data."""
    if conditioning == "mask_and_rows":
        return 2 * data_channels + 1
    return 2 * data_channels if conditioning == "neighbours" else data_channels


def output_channels(data_channels: int, prediction: Prediction) -> int:
    """Return how many channels the network writes for ``data_channels`` channels of data."""
    return 1 if prediction == "noise_level" else data_channels


def no_step(like: Tensor) -> Tensor:
    """Return t = 0 for each image: the step of a network that knows no noise level; int64 (N,)."""
    return torch.zeros(len(like), dtype=torch.int64, device=like.device)


def network_input(
    x_t: Tensor, clean: Tensor, observed: Tensor, conditioning: Conditioning
) -> Tensor:
    """Return what the network reads at one step.

    The observed rows of x_t give way to the clean rows, which are *not* scaled by √ᾱ (Eq. 5). With
    ``mask_and_rows`` follow the mask (1 channel) and the clean rows, 0 elsewhere (C channels).

    Returns
    -------
    Tensor
        (N, C, H, W) or (N, 2C+1, H, W).
    """
    if conditioning not in ("rows", "mask_and_rows"):
        raise ValueError(f"no rows enter with conditioning {conditioning}")
    mixed = interlace(x_t, clean, observed)
    if conditioning == "rows":
        return mixed
    rows = as_rows(observed)
    n, _, height, width = x_t.shape
    mask = rows.to(x_t.dtype).expand(n, 1, height, width)
    return torch.cat([mixed, mask, torch.where(rows, clean, 0.0)], dim=1)


def masked_row_loss(
    predicted: Tensor,
    target: Tensor,
    observed: Tensor,
    rows: Literal["all", "unobserved"] = "all",
) -> Tensor:
    """Return the L1 loss of Eq. 6 in its corrected form, a scalar in float32.

    Eq. 6 prints ‖b∗ε − ε_θ‖. Taken at its word, the network would be asked for the noise of the
    rows that have none and for nothing where it is needed; the published training uses
    ‖(1−b)∗ε − ε_θ‖, as here. ``all`` averages over all rows (as published: the network also learns
    to answer 0 on observed rows), ``unobserved`` over the rows that it is there to fill.
    """
    hidden = (~as_rows(observed)).float()
    error = (hidden * target.float() - predicted.float()).abs()
    if rows == "all":
        return error.mean()
    weight = hidden.expand_as(error)
    return (error * weight).sum() / weight.sum().clamp(min=1.0)


def training_loss(
    network: Predict,
    schedule: CosineSchedule,
    objective: ObjectiveConfig,
    x0: Tensor,
    noise: Tensor,
    t: Tensor,
    observed: Tensor,
) -> Tensor:
    """Return Eq. 6 for one batch.

    Parameters
    ----------
    network
        ``network(input, t)`` → prediction (N, C, H, W); the caller chooses the precision.
    schedule, objective
        Of the model that is taught.
    x0, noise
        Sharp images in model units and ε ~ N(0, 1); (N, C, H, W) float32.
    t
        Steps, integer, (N,), uniform in 0..T−1.
    observed
        b of Eq. 4, bool (N, H).
    """
    alpha_bar = schedule.alpha_bar(t)
    x_t = q_sample(x0, noise, alpha_bar)
    predicted = network(network_input(x_t, x0, observed, objective.conditioning), t)
    v = objective.prediction == "v"
    target = v_from_x0(x0, noise, alpha_bar) if v else noise
    return masked_row_loss(predicted, target, observed, objective.loss_rows)
