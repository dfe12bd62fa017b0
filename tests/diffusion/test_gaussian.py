"""With the exact score of a Gaussian field, restored slices are draws from the exact posterior."""

import math

import pytest
import torch
from torch import Tensor

from msdsr.diffusion.noise import NoiseField
from msdsr.diffusion.sampler import restore_slices
from msdsr.diffusion.schedule import CosineSchedule

ROWS, COLUMNS, SLICES = 9, 32, 200
PLACES = torch.arange(ROWS, dtype=torch.float64)
COVARIANCE = torch.exp(-0.5 * ((PLACES[:, None] - PLACES[None]) / 2.0) ** 2) + 0.02 * torch.eye(
    ROWS, dtype=torch.float64
)
OBSERVED = torch.arange(ROWS) % 4 == 0
HIDDEN = ~OBSERVED


class ExactDenoiser:
    """E[x0 | x, observed rows] of a field whose columns are independent draws of N(0, K)."""

    def __init__(self) -> None:
        between = COVARIANCE[HIDDEN][:, OBSERVED]
        self.gain = between @ torch.linalg.inv(COVARIANCE[OBSERVED][:, OBSERVED])
        self.spread = COVARIANCE[HIDDEN][:, HIDDEN] - self.gain @ between.T

    def mean(self, clean: Tensor) -> Tensor:
        return torch.einsum("uo,ncow->ncuw", self.gain, clean[:, :, OBSERVED])

    def __call__(self, x: Tensor, sigma: float, clean: Tensor, observed: Tensor) -> Tensor:
        assert torch.equal(observed, OBSERVED)
        eye = torch.eye(len(self.spread), dtype=torch.float64)
        wiener = self.spread @ torch.linalg.inv(self.spread + sigma**2 * eye)
        mean = self.mean(clean)
        x0 = clean.clone()
        x0[:, :, HIDDEN] = mean + torch.einsum("uv,ncvw->ncuw", wiener, x[:, :, HIDDEN] - mean)
        return x0


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_posterior_mean_and_covariance(eta: float) -> None:
    factor = torch.linalg.cholesky(COVARIANCE)
    draw = torch.randn(1, 1, ROWS, COLUMNS, generator=torch.Generator().manual_seed(0)).double()
    clean = torch.einsum("ij,ncjw->nciw", factor, draw).expand(SLICES, 1, ROWS, COLUMNS).clone()
    denoiser = ExactDenoiser()
    field = NoiseField(4)

    def noise(step: int) -> Tensor:
        drawn = field.normal(step, 1, (0, ROWS, 0, SLICES, 0, COLUMNS))
        return drawn.permute(2, 0, 1, 3).double()

    grid = CosineSchedule().sigma_grid(200, 80.0, 0.01)
    restored = restore_slices(denoiser, clean, OBSERVED, noise, grid, eta)
    assert torch.equal(restored[:, :, OBSERVED], clean[:, :, OBSERVED])
    rest = (restored[:, :, HIDDEN] - denoiser.mean(clean)).permute(0, 1, 3, 2).reshape(-1, 6)
    n = len(rest)
    sd = denoiser.spread.diagonal().sqrt()
    # 5 standard errors, and 2 % for the finite number of steps.
    assert float((rest.mean(dim=0) / sd).abs().max()) < 5 / math.sqrt(n)
    found = rest.T @ rest / n
    error = (found - denoiser.spread) / (sd[:, None] * sd)
    assert float(error.abs().max()) < 5 * math.sqrt(2 / n) + 0.02


def test_few_steps_still_give_the_posterior_mean() -> None:
    clean = torch.zeros(SLICES, 1, ROWS, COLUMNS, dtype=torch.float64)
    clean[:, :, 4] = 2.0
    denoiser = ExactDenoiser()
    field = NoiseField(5)

    def noise(step: int) -> Tensor:
        drawn = field.normal(step, 1, (0, ROWS, 0, SLICES, 0, COLUMNS))
        return drawn.permute(2, 0, 1, 3).double()

    grid = CosineSchedule().sigma_grid(8, 80.0, 0.01)
    restored = restore_slices(denoiser, clean, OBSERVED, noise, grid, 1.0)
    error = (restored[:, :, HIDDEN] - denoiser.mean(clean)).mean(dim=(0, 1, 3))
    bound = 5 * denoiser.spread.diagonal().sqrt() / math.sqrt(SLICES * COLUMNS)
    assert bool((error.abs() < bound).all())
