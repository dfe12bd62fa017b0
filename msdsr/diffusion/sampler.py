"""From noise to slices: Algorithm 1 with any grid of noise levels.

Everything is in the variance-exploding form x = x0 + σ·n, in model units (see schedule.py).
The functions are pure: the noise is handed in.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from msdsr.diffusion.denoiser import Denoiser
from msdsr.diffusion.objective import interlace

NoiseFunction = Callable[[int], Tensor]
"""``noise(i)`` is the unit noise (N, C, H, W) that level i of the grid starts with or puts back."""


def noise_split(sigma: float, sigma_next: float, eta: float) -> tuple[float, float]:
    """Return (down, up): the old noise that is kept and the fresh noise that is added.

    up = η·√(σ_n²(σ² − σ_n²)/σ²), down = √(σ_n² − up²): Eq. 16 of the DDIM paper (Song et al. 2021)
    divided by √ᾱ. η = 1 on neighbouring steps is the DDPM posterior with variance β̃ (Ho et al.
    2020, Eq. 7); η = 0 is the deterministic DDIM.
    """
    if not 0 <= sigma_next < sigma or not 0 <= eta <= 1:
        raise ValueError(f"no step from σ = {sigma} to {sigma_next} with η = {eta}")
    up = eta * sigma_next * math.sqrt(1 - (sigma_next / sigma) ** 2)
    return math.sqrt(max(sigma_next**2 - up**2, 0.0)), up


def ancestral_step(
    x: Tensor,
    x0: Tensor,
    sigma: float,
    sigma_next: float,
    eta: float = 1.0,
    noise: Tensor | None = None,
) -> Tensor:
    """Return x at the noise level ``sigma_next``: x0 + down·(x − x0)/σ + up·n.

    Parameters
    ----------
    x, x0
        The noisy image at level ``sigma`` and its denoised estimate, of one shape.
    sigma, sigma_next
        σ > σ_next ≥ 0.
    eta
        1: ancestral (DDPM); 0: deterministic (DDIM).
    noise
        n ~ N(0, 1), of the shape of x; not needed when η = 0 or σ_next = 0.

    Raises
    ------
    ValueError
        When the levels do not fall, η lies outside 0..1, or needed noise is missing.
    """
    down, up = noise_split(sigma, sigma_next, eta)
    kept = torch.lerp(x0, x, down / sigma)
    if up == 0:
        return kept
    if noise is None:
        raise ValueError("an ancestral step needs noise")
    return kept.add_(noise, alpha=up)


def check_order(order: int, eta: float) -> None:
    """Refuse an order that no sampler here has.

    Raises
    ------
    ValueError
        When the order is not 1 or 2, or 2 with an η other than 0 or 1, for which the second-order
        formulas are known.
    """
    if order not in (1, 2) or (order == 2 and eta not in (0, 1)):
        raise ValueError(f"no sampler of order {order} with η = {eta}")


def second_order(
    x0: Tensor, before: Tensor | None, sigma_before: float, sigma: float, sigma_next: float
) -> Tensor:
    """Return the x0 that a first-order step must aim at to be right to the second order.

    D = (1 + 1/(2r))·x0 − 1/(2r)·x0_before with r = h_before/h, where h = log σ − log σ_next is the
    length of the step: DPM-Solver++(2M), Lu et al. 2022 (arXiv:2211.01095), Algorithm 2. Put into
    :func:`ancestral_step` in place of x0 it is that algorithm with η = 0, and SDE-DPM-Solver++(2M)
    of the same paper (section 4.3) with η = 1: both differ from DDIM and from the ancestral step
    in nothing else. The first step (no ``before``) and the last (to σ = 0, where h is infinite and
    the result is x0 itself) are of first order.

    Parameters
    ----------
    x0, before
        Estimates at ``sigma`` and at the level before, of the same denoiser.
    sigma_before, sigma, sigma_next
        Falling noise levels.
    """
    if before is None or sigma_next == 0:
        return x0
    r = math.log(sigma_before / sigma) / math.log(sigma / sigma_next)
    return torch.lerp(before, x0, 1 + 0.5 / r)


def restore_slices(
    denoiser: Denoiser,
    clean: Tensor,
    observed: Tensor,
    noise: NoiseFunction,
    sigmas: Sequence[float],
    eta: float = 1.0,
    order: int = 1,
) -> Tensor:
    """Restore a batch of slices (`msdsr.restore` in Algorithm 1).

    Parameters
    ----------
    denoiser
        The estimate of x0.
    clean
        (N, C, H, W) in model units; only observed rows are looked at.
    observed
        Acquired rows, bool, (H,) or (N, H).
    noise
        ``noise(0)`` starts the walk; ``noise(i)`` is put back on arrival at ``sigmas[i]``.
    sigmas
        Falling noise levels that end at 0, in model units.
    eta
        1: ancestral (DDPM); 0: deterministic (DDIM).
    order
        1, or 2: the multistep of :func:`second_order`, with η 0 or 1.

    Returns
    -------
    Tensor
        (N, C, H, W); observed rows equal those of ``clean`` bit for bit.
    """
    if len(sigmas) < 2 or sigmas[-1] != 0:
        raise ValueError("the noise levels must end at 0")
    check_order(order, eta)
    before = None
    x = interlace(sigmas[0] * noise(0), clean, observed)
    for i, (sigma, sigma_next) in enumerate(itertools.pairwise(sigmas), start=1):
        x0 = denoiser(x, sigma, clean, observed)
        aim = second_order(x0, before, sigmas[max(i - 2, 0)], sigma, sigma_next)
        fresh = noise(i) if eta > 0 and sigma_next > 0 else None
        x = interlace(ancestral_step(x, aim, sigma, sigma_next, eta, fresh), clean, observed)
        before = x0 if order == 2 else None
    return x
