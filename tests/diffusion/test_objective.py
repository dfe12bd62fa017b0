"""Eq. 3, 5 and 6, by hand and against diffusers."""

import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st

from msdsr.config import ObjectiveConfig
from msdsr.diffusion import objective
from msdsr.diffusion.schedule import CosineSchedule

SCHEDULE = CosineSchedule(1000)
THEIRS = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")


def images(seed: int, n: int = 4, c: int = 3, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(n, c, 8, 6, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_q_sample_and_v_equal_diffusers() -> None:
    x0, noise, t = images(0), images(1), torch.tensor([0, 1, 500, 999])
    alpha_bar = SCHEDULE.alpha_bar(t)
    ours = objective.q_sample(x0, noise, alpha_bar)
    torch.testing.assert_close(ours, THEIRS.add_noise(x0, noise, t), atol=1e-5, rtol=0)
    exact = DDPMScheduler(1000, trained_betas=SCHEDULE.betas.tolist())
    exact.alphas_cumprod = SCHEDULE.alphas_cumprod
    x0, noise = x0.double(), noise.double()
    ours = objective.q_sample(x0, noise, alpha_bar)
    torch.testing.assert_close(ours, exact.add_noise(x0, noise, t), atol=1e-6, rtol=0)
    v = objective.v_from_x0(x0, noise, alpha_bar)
    torch.testing.assert_close(v, exact.get_velocity(x0, noise, t), atol=1e-6, rtol=0)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_x0_equals_diffusers(prediction: str) -> None:
    scheduler = DDPMScheduler(1000, prediction_type=prediction, clip_sample=False)
    scheduler.alphas_cumprod = SCHEDULE.alphas_cumprod
    convert = objective.x0_from_epsilon if prediction == "epsilon" else objective.x0_from_v
    for t in (0, 3, 500, 990):
        x_t, predicted = images(2, dtype=torch.float64), images(3, dtype=torch.float64)
        theirs = scheduler.step(predicted, t, x_t).pred_original_sample
        ours = convert(x_t, predicted, float(SCHEDULE.alphas_cumprod[t]))
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-9)


@given(st.lists(st.integers(0, 998), min_size=4, max_size=4))
def test_the_three_predictions_agree(steps: list[int]) -> None:
    x0, noise = images(4, dtype=torch.float64), images(5, dtype=torch.float64)
    alpha_bar = SCHEDULE.alpha_bar(torch.tensor(steps))
    x_t = objective.q_sample(x0, noise, alpha_bar)
    v = objective.v_from_x0(x0, noise, alpha_bar)
    near = {"atol": 1e-9, "rtol": 1e-9}
    torch.testing.assert_close(objective.x0_from_epsilon(x_t, noise, alpha_bar), x0, **near)
    torch.testing.assert_close(objective.epsilon_from_x0(x_t, x0, alpha_bar), noise, **near)
    torch.testing.assert_close(objective.x0_from_v(x_t, v, alpha_bar), x0, **near)
    torch.testing.assert_close(objective.epsilon_from_v(x_t, v, alpha_bar), noise, **near)


@pytest.mark.parametrize("each", [False, True])
def test_interlace_by_hand(each: bool) -> None:
    x, clean = images(6), images(7)
    observed = torch.arange(8) % 3 == 1
    clean[:, :, ~observed] = torch.nan  # nobody has seen these rows
    mixed = objective.interlace(x, clean, observed.expand(4, 8) if each else observed)
    for row in range(8):
        source = clean if row in (1, 4, 7) else x
        assert torch.equal(mixed[:, :, row], source[:, :, row])


def test_network_input_by_hand() -> None:
    x, clean = images(8), images(9)
    observed = torch.zeros(4, 8, dtype=torch.bool)
    observed[0, 2] = observed[3, 5] = True
    assert torch.equal(
        objective.network_input(x, clean, observed, "rows"),
        objective.interlace(x, clean, observed),
    )
    full = objective.network_input(x, clean, observed, "mask_and_rows")
    assert full.shape[1] == objective.network_channels(3, "mask_and_rows") == 7
    assert torch.equal(full[:, :3], objective.interlace(x, clean, observed))
    assert torch.equal(full[:, 3], observed.float()[:, :, None].expand(4, 8, 6))
    assert torch.equal(full[0, 4:, 2], clean[0, :, 2])
    assert torch.equal(full[3, 4:, 5], clean[3, :, 5])
    assert float(full[:, 4:].abs().sum()) == pytest.approx(
        float(clean[0, :, 2].abs().sum() + clean[3, :, 5].abs().sum())
    )


def test_masked_row_loss_by_hand() -> None:
    target = torch.tensor([[[[1.0], [2.0], [3.0], [4.0]]]])
    predicted = torch.tensor([[[[0.5], [0.5], [0.5], [0.5]]]])
    observed = torch.tensor([True, False, False, True])
    # Observed rows ask for 0, the others for their noise: (.5 + 1.5 + 2.5 + .5)/4.
    assert objective.masked_row_loss(predicted, target, observed, "all") == pytest.approx(1.25)
    assert objective.masked_row_loss(predicted, target, observed, "unobserved") == 2.0
    everything = torch.ones(4, dtype=torch.bool)
    assert objective.masked_row_loss(predicted, target, everything, "unobserved") == 0.0


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
@pytest.mark.parametrize("rows", ["all", "unobserved"])
def test_an_oracle_has_no_loss(prediction: str, rows: str) -> None:
    x0, noise = images(10), images(11)
    t = torch.tensor([0, 10, 700, 999])
    observed = torch.rand(4, 8, generator=torch.Generator().manual_seed(1)) < 0.4
    settings = ObjectiveConfig.model_validate(
        {"prediction": prediction, "loss_rows": rows, "conditioning": "rows"}
    )
    seen: list[torch.Tensor] = []

    def oracle(given: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        assert torch.equal(steps, t)
        seen.append(given)
        answer = noise
        if prediction == "v":
            answer = objective.v_from_x0(x0, noise, SCHEDULE.alpha_bar(t))
        return torch.where(objective.as_rows(observed), 0.0, answer)

    loss = objective.training_loss(oracle, SCHEDULE, settings, x0, noise, t, observed)
    assert float(loss) == 0.0
    clean_rows = objective.as_rows(observed).expand_as(x0)
    assert torch.equal(seen[0][clean_rows], x0[clean_rows])

    def silent(given: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(given)

    assert float(objective.training_loss(silent, SCHEDULE, settings, x0, noise, t, observed)) > 0.1
