"""The field and its exact posterior, against dense linear algebra on a field small enough."""

import pytest
import torch

from msdsr.phantom.gaussian import GaussianField, SliceDenoiser, frechet_by_plane

SIDE = 6
OBSERVED = torch.arange(SIDE) % 3 == 0


def dense(field):
    """Return the covariance of one slice, all pixels by all pixels."""
    lag = torch.fft.ifft2(field.slice_spectrum).real
    places = torch.cartesian_prod(torch.arange(SIDE), torch.arange(SIDE))
    difference = (places[:, None] - places[None]) % SIDE
    return lag[difference[..., 0], difference[..., 1]]


@pytest.mark.parametrize("texture", ["smooth", "rough"])
def test_the_slice_denoiser_is_the_gaussian_conditional_mean(texture):
    field = GaussianField(SIDE, 1.5, texture)
    covariance = dense(field)
    generator = torch.Generator().manual_seed(0)
    clean, x = torch.randn(2, 3, 1, SIDE, SIDE, dtype=torch.float64, generator=generator)
    sigma = 0.7
    rows = OBSERVED[:, None].expand(SIDE, SIDE).flatten()
    noise = torch.where(rows, 0.0, sigma**2).to(torch.float64)
    given = torch.where(rows, clean.reshape(3, -1), x.reshape(3, -1))
    gain = covariance @ torch.linalg.inv(covariance + noise.diag() + 1e-10 * torch.eye(SIDE**2))
    expected = (given @ gain.T).reshape(3, 1, SIDE, SIDE)
    found = SliceDenoiser(field, OBSERVED)(x, sigma, clean, OBSERVED)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(found[:, :, OBSERVED], clean[:, :, OBSERVED])


def test_a_part_of_a_slice_is_refused():
    denoiser = SliceDenoiser(GaussianField(SIDE, 1.5, "smooth"), OBSERVED)
    x = torch.zeros(1, 1, SIDE, SIDE - 1)
    with pytest.raises(ValueError, match="a whole slice"):
        denoiser(x, 1.0, x, OBSERVED)


def test_a_sample_has_unit_variance_and_the_field_s_slices():
    field = GaussianField(32, 2.0, "rough")
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([field.sample(generator) for _ in range(6)])
    assert float(drawn.var()) == pytest.approx(1, abs=0.05)
    assert frechet_by_plane(field, drawn)["mean"] < 6
    assert frechet_by_plane(field, drawn * 0.5)["mean"] == pytest.approx(250, rel=0.1)
    stretched = drawn.repeat_interleave(2, dim=1)[:, :32]
    distances = frechet_by_plane(field, stretched)
    assert distances["XY"] < 10 < 30 < min(distances["XZ"], distances["YZ"])


def test_the_posterior_keeps_what_was_observed_and_has_the_right_spread():
    field = GaussianField(12, 2.0, "rough")
    observed = torch.arange(12) % 4 == 0
    generator = torch.Generator().manual_seed(1)
    truth = field.sample(generator)
    drawn = torch.stack([field.posterior(truth, observed, generator) for _ in range(200)])
    assert torch.equal(drawn[:, observed], truth[observed].expand(200, -1, -1, -1))
    spread = drawn.var(dim=0).mean(dim=(1, 2))
    # By symmetry: the planes next to an observed one are alike, and the middle one varies most.
    assert float(spread[1]) == pytest.approx(float(spread[3]), rel=0.1)
    assert 0 < float(spread[1]) < float(spread[2]) < 1
    # The truth is as likely as any draw: its distance from their mean has the draws' own spread.
    distance = (truth - drawn.mean(dim=0)).square().mean(dim=(1, 2))[~observed].mean()
    assert float(distance) == pytest.approx(float(spread[~observed].mean()), rel=0.2)
