"""The second-order multistep: against diffusers, and its order on a Gaussian with known answer."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

from msdsr.diffusion.sampler import ancestral_step, restore_slices, second_order
from msdsr.diffusion.schedule import CosineSchedule

SCHEDULE = CosineSchedule(1000)
NOTHING = torch.zeros(1, dtype=torch.bool)
SPREAD = 0.8
FIRST, LAST = 20.0, 0.02


def images(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, 12, 8, generator=generator, dtype=torch.float64)


def grid(steps: int) -> list[float]:
    return [FIRST * (LAST / FIRST) ** (i / steps) for i in range(steps + 1)] + [0.0]


def gaussian(x, sigma, clean, observed):
    """E[x0 | x] of white noise of σ = 0.8."""
    return x * SPREAD**2 / (SPREAD**2 + sigma**2)


def walk(draws: torch.Tensor, steps: int, eta: float, order: int) -> torch.Tensor:
    """Return the end of a walk whose noise at level i is draws[i]."""
    clean = torch.zeros_like(draws[0])
    return restore_slices(gaussian, clean, NOTHING, lambda i: draws[i], grid(steps), eta, order)


def ode_error(steps: int, order: int) -> float:
    """Error of the deterministic walk; the truth is x0 ∝ √(s² + σ²), then one exact denoising."""
    draws = torch.ones(1, 1, 1, 1, 1, dtype=torch.float64)
    at_last = FIRST * math.sqrt((SPREAD**2 + LAST**2) / (SPREAD**2 + FIRST**2))
    truth = at_last * SPREAD**2 / (SPREAD**2 + LAST**2)
    return abs(float(walk(draws, steps, 0.0, order)) - truth)


def variance_error(steps: int, order: int) -> float:
    """Error of the variance of the stochastic walk, without any sampling.

    The walk is linear in its noise: image j gets unit noise at level j alone, and the variance is
    the sum of the squares of what they come to. The truth is Bayes' rule for x_t = x_u + noise:
    x_u | x_t ~ N(x_t·(s² + u²)/(s² + t²), (s² + u²)(t² − u²)/(s² + t²)).
    """
    draws = torch.eye(steps + 1, dtype=torch.float64).reshape(steps + 1, steps + 1, 1, 1, 1)
    found = float(walk(draws, steps, 1.0, order).square().sum())
    s2, t2, u2 = SPREAD**2, FIRST**2, LAST**2
    at_last = ((s2 + u2) / (s2 + t2)) ** 2 * t2 + (s2 + u2) * (t2 - u2) / (s2 + t2)
    return abs(found - at_last * (s2 / (s2 + u2)) ** 2)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("error", [ode_error, variance_error])
def test_walks_converge_with_their_order(error: Callable[[int, int], float], order: int) -> None:
    errors = [error(steps, order) for steps in (40, 80, 160)]
    rates = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(abs(rate - order) < 0.25 for rate in rates), rates


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers
@pytest.mark.parametrize(("algorithm", "eta"), [("dpmsolver++", 0.0), ("sde-dpmsolver++", 1.0)])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("steps", [6, 20])
def test_equals_diffusers(algorithm: str, eta: float, order: int, steps: int) -> None:
    scheduler = DPMSolverMultistepScheduler(
        1000,
        trained_betas=SCHEDULE.betas.tolist(),
        algorithm_type=algorithm,
        solver_order=order,
        prediction_type="sample",
        final_sigmas_type="zero",
        lower_order_final=False,
    )
    scheduler.set_timesteps(steps)
    times = scheduler.timesteps
    sigmas = [*(float(s) for s in scheduler.sigmas)]
    assert len(sigmas) == steps + 1
    estimates = [images(100 + i) for i in range(steps)]
    noise = [images(200 + i) for i in range(steps)]
    x = images(0) * sigmas[0]
    theirs = x / math.hypot(1, sigmas[0])
    before = None
    for i, t in enumerate(times):
        theirs = scheduler.step(estimates[i], t, theirs, variance_noise=noise[i]).prev_sample
        given = before if order == 2 else None
        aim = second_order(estimates[i], given, sigmas[max(i - 1, 0)], sigmas[i], sigmas[i + 1])
        x = ancestral_step(x, aim, sigmas[i], sigmas[i + 1], eta, noise[i])
        before = estimates[i]
        scale = math.hypot(1, sigmas[i + 1])
        torch.testing.assert_close(x / scale, theirs, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize(("order", "eta"), [(3, 1.0), (0, 0.0), (2, 0.5)])
def test_unknown_orders_are_refused(order: int, eta: float) -> None:
    with pytest.raises(ValueError, match="no sampler of order"):
        restore_slices(gaussian, images(0), NOTHING, lambda i: images(i), (1.0, 0.0), eta, order)
