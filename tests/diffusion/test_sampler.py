"""One step against diffusers and by hand; the walk against a literal Algorithm 1."""

import math
from collections.abc import Callable

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st

from msdsr.diffusion.sampler import ancestral_step, noise_split, restore_slices
from msdsr.diffusion.schedule import CosineSchedule

SCHEDULE = CosineSchedule(1000)
ABAR = SCHEDULE.alphas_cumprod
SIGMAS = SCHEDULE.sigmas


def images(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, 12, 8, generator=generator, dtype=torch.float64)


def to_x(x_t: torch.Tensor, t: int) -> torch.Tensor:
    return x_t / ABAR[t].sqrt()


@pytest.mark.parametrize("t", [1, 2, 10, 500, 997, 998, 999])
def test_full_eta_on_neighbours_is_the_ddpm_posterior(t: int) -> None:
    """By hand, Ho et al. 2020, Eq. 6 and 7."""
    x_t, x0, noise = images(0), images(1), images(2)
    beta, before, now = SCHEDULE.betas[t], ABAR[t - 1], ABAR[t]
    mean = before.sqrt() * beta / (1 - now) * x0
    mean = mean + (1 - beta).sqrt() * (1 - before) / (1 - now) * x_t
    wanted = mean + ((1 - before) / (1 - now) * beta).sqrt() * noise
    found = ancestral_step(to_x(x_t, t), x0, float(SIGMAS[t]), float(SIGMAS[t - 1]), 1.0, noise)
    torch.testing.assert_close(found * before.sqrt(), wanted, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("t", [1, 500, 990])
def test_full_eta_equals_diffusers_ddpm(t: int) -> None:
    scheduler = DDPMScheduler(
        1000, trained_betas=SCHEDULE.betas.tolist(), clip_sample=False, variance_type="fixed_small"
    )
    scheduler.alphas_cumprod = ABAR
    x_t, epsilon = images(3), images(4)
    theirs = scheduler.step(epsilon, t, x_t, generator=torch.Generator().manual_seed(5))
    noise = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(5), dtype=x_t.dtype)
    x0 = (x_t - (1 - ABAR[t]).sqrt() * epsilon) / ABAR[t].sqrt()
    ours = ancestral_step(to_x(x_t, t), x0, float(SIGMAS[t]), float(SIGMAS[t - 1]), 1.0, noise)
    torch.testing.assert_close(ours * ABAR[t - 1].sqrt(), theirs.prev_sample, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("steps", [10, 50, 200])
def test_every_eta_equals_diffusers_ddim(eta: float, steps: int) -> None:
    scheduler = DDIMScheduler(
        1000, trained_betas=SCHEDULE.betas.tolist(), clip_sample=False, set_alpha_to_one=True
    )
    scheduler.alphas_cumprod = ABAR
    scheduler.set_timesteps(steps)
    walk = scheduler.timesteps.tolist()
    for i in (0, len(walk) // 2, len(walk) - 1):
        t = walk[i]
        before = t - 1000 // steps
        x_t, epsilon, noise = images(6), images(7), images(8)
        theirs = scheduler.step(epsilon, t, x_t, eta=eta, variance_noise=noise).prev_sample
        x0 = (x_t - (1 - ABAR[t]).sqrt() * epsilon) / ABAR[t].sqrt()
        after = float(SIGMAS[before]) if before >= 0 else 0.0
        ours = ancestral_step(to_x(x_t, t), x0, float(SIGMAS[t]), after, eta, noise)
        scale = math.sqrt(1 / (1 + after**2))
        torch.testing.assert_close(ours * scale, theirs, atol=1e-6, rtol=1e-6)


@given(st.floats(1e-3, 1e3), st.floats(0, 0.999), st.floats(0, 1))
def test_the_noise_is_split_without_loss(sigma: float, part: float, eta: float) -> None:
    after = part * sigma
    down, up = noise_split(sigma, after, eta)
    assert down**2 + up**2 == pytest.approx(after**2)
    if eta == 0:
        assert up == 0
    if eta == 1:
        assert down == pytest.approx(after**2 / sigma)


def test_what_is_no_step_is_refused() -> None:
    x = images(0)
    for sigma, after, eta in ((1.0, 1.0, 1.0), (1.0, 2.0, 0.0), (1.0, 0.5, 1.1), (1.0, -0.1, 0.5)):
        with pytest.raises(ValueError, match="no step"):
            ancestral_step(x, x, sigma, after, eta, x)
    with pytest.raises(ValueError, match="needs noise"):
        ancestral_step(x, x, 1.0, 0.5, 1.0)
    assert torch.equal(ancestral_step(x, 2 * x, 1.0, 0.0), 2 * x)


def toy_network(x_t: torch.Tensor, t: float) -> torch.Tensor:
    """An analytic ε_θ that looks at neighbouring rows and at t."""
    around = x_t.roll(1, dims=2) + x_t.roll(-1, dims=2)
    return torch.tanh(0.6 * x_t + 0.15 * around) * math.sqrt(t / 1000) + 0.02 * x_t[:, :1]


def toy_denoiser(x: torch.Tensor, sigma: float, clean: torch.Tensor, observed: torch.Tensor):
    a = 1 / (1 + sigma**2)
    rows = observed[:, None]
    x_t = torch.where(rows, clean, math.sqrt(a) * x)
    epsilon = toy_network(x_t, round(SCHEDULE.timestep(sigma, integer=True)))
    return torch.where(rows, clean, x - sigma * epsilon)


def algorithm_1(low: torch.Tensor, factor: int, noise: Callable[[int], torch.Tensor]):
    """Transcribe Algorithm 1, with the DDPM of Ho et al. 2020 (Algorithm 2) as `restore`."""
    mask = torch.arange(0, low.shape[2] * factor, factor)
    x = noise(0).clone()
    for t in range(999, -1, -1):
        x[:, :, mask, :] = low
        epsilon = toy_network(x, t)
        beta, now = SCHEDULE.betas[t], ABAR[t]
        x = (x - beta / (1 - now).sqrt() * epsilon) / (1 - beta).sqrt()
        if t > 0:
            x = x + ((1 - ABAR[t - 1]) / (1 - now) * beta).sqrt() * noise(1000 - t)
    x[:, :, mask, :] = low
    return x


@pytest.mark.parametrize("factor", [2, 4])
def test_restore_slices_is_algorithm_1(factor: int) -> None:
    low = images(9)[:, :, : 12 // factor]
    draws = torch.randn(
        1000, 2, 3, 12, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    wanted = algorithm_1(low, factor, lambda i: draws[i])
    observed = torch.arange(12) % factor == 0
    clean = torch.full((2, 3, 12, 8), torch.nan, dtype=torch.float64)
    clean[:, :, observed] = low

    # x_T of Algorithm 1 has unit variance; x = x_T/√ᾱ_T, and σ_T = √(1−ᾱ_T)/√ᾱ_T.
    def noise(i: int) -> torch.Tensor:
        return draws[i] / (1 - ABAR[999]).sqrt() if i == 0 else draws[i]

    found = restore_slices(toy_denoiser, clean, observed, noise, SCHEDULE.ancestral_grid(), 1.0)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert torch.equal(found[:, :, observed], low)
    assert float(wanted.std()) > 0.1


def test_noise_is_asked_for_only_where_needed() -> None:
    asked: list[int] = []

    def noise(i: int) -> torch.Tensor:
        asked.append(i)
        return images(i)

    observed = torch.arange(12) % 4 == 0
    restore_slices(toy_denoiser, images(50), observed, noise, (8.0, 2.0, 0.5, 0.0), 1.0)
    assert asked == [0, 1, 2]
    asked.clear()
    restore_slices(toy_denoiser, images(50), observed, noise, (8.0, 2.0, 0.5, 0.0), 0.0)
    assert asked == [0]


def test_each_slice_may_have_its_own_rows() -> None:
    clean = images(0)
    observed = torch.stack([torch.arange(12) % 4 == 0, torch.arange(12) % 3 == 1])

    def denoiser(
        x: torch.Tensor, sigma: float, clean: torch.Tensor, observed: torch.Tensor
    ) -> torch.Tensor:
        return x / (1 + sigma**2)

    found = restore_slices(denoiser, clean, observed, images, (8.0, 1.0, 0.0))
    for i in range(2):
        assert torch.equal(found[i][:, observed[i]], clean[i][:, observed[i]])
        assert not torch.equal(found[i][:, ~observed[i]], clean[i][:, ~observed[i]])


@pytest.mark.parametrize("grid", [(1.0,), (1.0, 0.5), (0.0,)])
def test_a_grid_must_end_at_0(grid: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="end at 0"):
        restore_slices(toy_denoiser, images(0), torch.arange(12) % 2 == 0, images, grid)
