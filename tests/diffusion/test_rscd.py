"""RSCD with an exact prior and an exact calibrator of Gaussian images."""

import math

import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from msdsr.config import ObjectiveConfig
from msdsr.diffusion import rscd
from msdsr.diffusion.objective import q_sample
from msdsr.diffusion.schedule import CosineSchedule

SCHEDULE = CosineSchedule(1000)
ABAR = SCHEDULE.alphas_cumprod
SIDE, RANK, STRENGTH = 16, 6, 8.0


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


BASIS = torch.linalg.qr(torch.randn(SIDE * SIDE, RANK, generator=seeded(0)).double()).Q
"""Clean images are random mixtures of six patterns; all else in an image is noise."""


def clean_images(n: int, seed: int) -> Tensor:
    mixture = STRENGTH * torch.randn(n, RANK, generator=seeded(seed)).double()
    return (mixture @ BASIS.T).reshape(n, 1, SIDE, SIDE)


def exact_prior(x_t: Tensor, t: Tensor) -> Tensor:
    """E[x0 | x_t] of a Gaussian in the span of the patterns."""
    a = SCHEDULE.alpha_bar(t)[:, None]
    gain = STRENGTH**2 * a.sqrt() / (STRENGTH**2 * a + 1 - a)
    return (gain * (x_t.flatten(1) @ BASIS) @ BASIS.T).reshape(x_t.shape)


def exact_calibrator(x: Tensor) -> Tensor:
    """The t whose 1 − ᾱ is the variance found outside the span of the patterns."""
    flat = x.flatten(1)
    rest = flat - flat @ BASIS @ BASIS.T
    variance = rest.square().sum(dim=1) / (SIDE * SIDE - RANK)
    return torch.searchsorted(1 - ABAR, variance).double()


def noise_of(n: int):
    def noise(step: int) -> Tensor:
        return torch.randn(n, 1, SIDE, SIDE, generator=seeded(100 + step)).double()

    return noise


def noisy(x0: Tensor, t: list[int], seed: int) -> Tensor:
    fresh = torch.randn(x0.shape, generator=seeded(seed)).double()
    return q_sample(x0, fresh, SCHEDULE.alpha_bar(torch.tensor(t)))


def test_images_come_back_from_their_own_noise_level() -> None:
    levels = [0, 5, 40, 70, 100]
    x0 = clean_images(5, 1)
    x = noisy(x0, levels, 2)
    restored, told = rscd.restore_images(exact_prior, exact_calibrator, x, noise_of(5), SCHEDULE)
    assert told.tolist() == pytest.approx(levels, abs=12)
    # What is clean at once is left alone, bit for bit.
    assert torch.equal(restored[:2], x[:2])
    assert bool((exact_calibrator(restored) < rscd.CLEAN).all())
    before = (x - x0).square().mean(dim=(1, 2, 3))
    after = (restored - x0).square().mean(dim=(1, 2, 3))
    assert bool((after[2:] < 0.15 * before[2:]).all())


def test_fifteen_rounds_go_so_far_and_no_further() -> None:
    """Each goes 10 steps back of t̂ + 3: what is noisier than about 105 steps keeps some noise."""
    x = noisy(clean_images(2, 13), [185, 185], 14)
    restored, _ = rscd.restore_images(exact_prior, exact_calibrator, x, noise_of(2), SCHEDULE)
    left = exact_calibrator(restored)
    assert bool(((left > rscd.CLEAN) & (left < 110)).all())


def test_a_batch_is_as_good_as_each_image_alone() -> None:
    x = noisy(clean_images(3, 3), [30, 160, 90], 4)
    together, _ = rscd.restore_images(exact_prior, exact_calibrator, x, noise_of(3), SCHEDULE)
    for k in range(3):

        def noise(step: int, k: int = k) -> Tensor:
            return noise_of(3)(step)[k : k + 1]

        alone, _ = rscd.restore_images(exact_prior, exact_calibrator, x[k : k + 1], noise, SCHEDULE)
        torch.testing.assert_close(alone[0], together[k], atol=1e-9, rtol=1e-9)


def test_rounds_steps_cap_and_margin_are_those_of_the_method() -> None:
    walked: list[int] = []

    def prior(x_t: Tensor, t: Tensor) -> Tensor:
        walked.append(int(t))
        return 0 * x_t

    answers = iter([700.0, 189.6, 10.0, 9.9])

    def calibrator(x: Tensor) -> Tensor:
        return torch.tensor([next(answers)])

    one = torch.ones(1, 1, SIDE, SIDE).double()
    _, told = rscd.restore_images(prior, calibrator, one, noise_of(1), SCHEDULE)
    starts = (193, 193, 13)
    assert walked == [t for start in starts for t in range(start, start - 10, -1)]
    assert told.tolist() == [700.0]
    walked.clear()
    restless = rscd.restore_images(
        prior, lambda x: torch.full((len(x),), 50.0), one, noise_of(1), SCHEDULE
    )
    assert len(walked) == 15 * 10
    assert torch.isfinite(restless[0]).all()


@pytest.mark.parametrize("t", [1, 50, 193])
def test_a_reverse_step_equals_diffusers(t: int) -> None:
    scheduler = DDPMScheduler(
        1000, trained_betas=SCHEDULE.betas.tolist(), clip_sample=False, prediction_type="sample"
    )
    scheduler.alphas_cumprod = ABAR
    x_t, x0 = clean_images(2, 5), clean_images(2, 6)
    theirs = scheduler.step(x0, t, x_t, generator=seeded(7)).prev_sample
    fresh = torch.randn(x_t.shape, generator=seeded(7), dtype=x_t.dtype)
    ours = rscd.reverse_step(x_t, x0, t, SCHEDULE, fresh)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
    assert torch.equal(rscd.reverse_step(x_t, x0, 0, SCHEDULE, fresh), x0)


@given(st.integers(0, 2**40), st.integers(4, 40))
def test_severities_are_two_at_most_and_the_second_fills_a_rectangle(seed: int, size: int) -> None:
    for severity in rscd.draw_severity(8, size, 500, seeded(seed)):
        values = severity.unique()
        assert 1 <= len(values) <= 2
        assert int(values.min()) >= 0
        assert int(values.max()) <= 500
        if len(values) == 2:
            shapes = []
            for value in values:
                at = (severity == value).nonzero()
                extent = at.max(dim=0).values - at.min(dim=0).values + 1
                shapes.append(int(extent.prod()) == len(at))
            assert any(shapes)


def test_half_of_the_images_are_composed() -> None:
    drawn = rscd.draw_severity(4000, 64, 500, seeded(1)).flatten(1)
    mixed = (drawn.min(dim=1).values != drawn.max(dim=1).values).float().mean()
    assert 0.42 < float(mixed) < 0.51  # the thinnest rectangles hold no pixel
    corner = drawn[:, 0].float()
    assert float(corner.mean()) == pytest.approx(250, abs=10)


def test_the_calibrator_is_taught_the_noise_of_every_pixel() -> None:
    x0, fresh = clean_images(4, 8), torch.randn(4, 1, SIDE, SIDE, generator=seeded(9)).double()
    severity = rscd.draw_severity(4, SIDE, 500, seeded(10))
    seen: list[Tensor] = []

    def predict(image: Tensor, t: Tensor) -> Tensor:
        seen.append(image)
        assert not t.any()
        return severity[:, None] / 500 + 0.25

    loss = rscd.calibrator_loss(predict, SCHEDULE, x0, fresh, severity)
    assert float(loss) == pytest.approx(0.25)
    a = ABAR[severity][:, None]
    torch.testing.assert_close(seen[0], a.sqrt() * x0 + (1 - a).sqrt() * fresh)


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_an_oracle_of_the_prior_has_no_loss(prediction: str) -> None:
    objective = ObjectiveConfig.model_validate({"prediction": prediction, "conditioning": "none"})
    x0, fresh = clean_images(3, 11), torch.randn(3, 1, SIDE, SIDE, generator=seeded(12)).double()
    t = torch.tensor([0, 300, 990])
    a = SCHEDULE.alpha_bar(t).reshape(-1, 1, 1, 1)
    answer = fresh if prediction == "epsilon" else a.sqrt() * fresh - (1 - a).sqrt() * x0

    def loss(offset: float) -> float:
        def predict(x: Tensor, steps: Tensor) -> Tensor:
            return answer + offset

        return float(rscd.prior_loss(predict, SCHEDULE, objective, x0, fresh, t))

    assert loss(0.0) == pytest.approx(0.0, abs=1e-10)
    assert loss(0.5) == pytest.approx(0.25, rel=1e-5)
    assert math.isfinite(loss(1.0))
