"""The schedule equals diffusers', and t ↔ σ and the grids keep their laws."""

import itertools
import math

import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st

from msdsr.diffusion.schedule import CosineSchedule
from msdsr.errors import UserError

SCHEDULE = CosineSchedule(1000)


@pytest.mark.parametrize("timesteps", [10, 1000])
def test_equals_diffusers(timesteps: int) -> None:
    theirs = DDPMScheduler(timesteps, beta_schedule="squaredcos_cap_v2")
    ours = CosineSchedule(timesteps)
    torch.testing.assert_close(ours.betas, theirs.betas.double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(
        ours.alphas_cumprod, theirs.alphas_cumprod.double(), atol=1e-6, rtol=0
    )


def test_sigma_is_the_noise_to_signal_ratio_and_rises() -> None:
    a = SCHEDULE.alphas_cumprod
    torch.testing.assert_close(SCHEDULE.sigmas**2, (1 - a) / a)
    assert bool((SCHEDULE.sigmas.diff() > 0).all())
    assert float(SCHEDULE.betas.max()) == 0.999


def test_alpha_bar_takes_any_shape() -> None:
    t = torch.tensor([[0, 5], [999, 500]])
    assert torch.equal(SCHEDULE.alpha_bar(t), SCHEDULE.alphas_cumprod[t])


@given(st.floats(0, 999))
def test_timestep_inverts_sigma(t: float) -> None:
    assert SCHEDULE.timestep(SCHEDULE.sigma(t)) == pytest.approx(t, abs=1e-6)


@given(st.integers(0, 999))
def test_trained_levels_have_whole_steps(t: int) -> None:
    sigma = float(SCHEDULE.sigmas[t])
    assert SCHEDULE.sigma(t) == pytest.approx(sigma, rel=1e-12)
    assert SCHEDULE.timestep(sigma, integer=True) == t


@given(st.floats(1e-6, 1e6))
def test_levels_outside_the_training_get_its_ends(sigma: float) -> None:
    t = SCHEDULE.timestep(sigma)
    assert 0 <= t <= 999
    if sigma < float(SCHEDULE.sigmas[0]):
        assert t == 0
    if sigma > float(SCHEDULE.sigmas[-1]):
        assert t == 999


def test_sigma_refuses_steps_that_do_not_exist() -> None:
    for t in (-0.1, 999.5):
        with pytest.raises(ValueError, match="outside"):
            SCHEDULE.sigma(t)


@given(st.integers(2, 300), st.floats(1, 500), st.floats(0.007, 0.5))
def test_sigma_grid_is_uniform_in_log_snr(steps: int, first: float, last: float) -> None:
    grid = SCHEDULE.sigma_grid(steps, first, last)
    assert len(grid) == steps + 1
    assert grid[0] == pytest.approx(first)
    assert grid[-2] == pytest.approx(last)
    assert grid[-1] == 0
    gaps = [math.log(a / b) for a, b in itertools.pairwise(grid[:-1])]
    assert max(gaps) == pytest.approx(min(gaps))
    assert min(gaps) > 0


def test_sigma_grid_stays_inside_the_training() -> None:
    grid = SCHEDULE.sigma_grid(5, 1e9, 1e-9)
    assert grid[0] == float(SCHEDULE.sigmas[-2]) < 700 < float(SCHEDULE.sigmas[-1])
    assert grid[-2] == pytest.approx(float(SCHEDULE.sigmas[0]))
    assert SCHEDULE.sigma_grid(1, 80, 0.01) == (80.0, 0.0)


@given(st.integers(1, 300))
def test_snapped_grid_holds_trained_levels_only(steps: int) -> None:
    grid = SCHEDULE.sigma_grid(steps, snap=True)
    assert set(grid[:-1]) <= set(SCHEDULE.sigmas.tolist())
    assert all(a > b for a, b in itertools.pairwise(grid))


@pytest.mark.parametrize(("steps", "first", "last"), [(0, 80, 0.01), (5, 0.01, 0.01), (5, 1, 0)])
def test_sigma_grid_refuses_nonsense(steps: int, first: float, last: float) -> None:
    with pytest.raises(ValueError, match="no grid"):
        SCHEDULE.sigma_grid(steps, first, last)


def test_published_and_ancestral_grids() -> None:
    published = SCHEDULE.published_grid(200)
    assert len(published) == 201
    assert published[0] == float(SCHEDULE.sigmas[996])
    assert published[-2:] == (float(SCHEDULE.sigmas[1]), 0.0)
    assert published[:-1] == tuple(SCHEDULE.sigmas[list(range(996, 0, -5))].tolist())
    ancestral = SCHEDULE.ancestral_grid()
    assert len(ancestral) == 1001
    assert ancestral[0] == float(SCHEDULE.sigmas[-1])
    with pytest.raises(UserError, match=r"superresolve\.steps"):
        SCHEDULE.published_grid(1000)


def test_one_step_is_no_schedule() -> None:
    with pytest.raises(UserError, match=r"objective\.timesteps: 1"):
        CosineSchedule(1)
