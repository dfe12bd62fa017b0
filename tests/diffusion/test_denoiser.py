"""The denoiser that a network is."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from msdsr.config import ModelConfig, ObjectiveConfig
from msdsr.diffusion.denoiser import NetworkDenoiser, Schedule, noise_levels
from msdsr.diffusion.network import Model, build_network
from msdsr.diffusion.objective import network_input
from msdsr.diffusion.schedule import CosineSchedule
from msdsr.diffusion.transform import ChannelStatistics, standardised_transform, unit_transform
from msdsr.errors import UserError

SCHEDULE = CosineSchedule(1000)
SPREAD = 1.7
WIDE = [ChannelStatistics(0.0, 1.0, -1e6, 1e6)] * 3
OBSERVED = torch.arange(8) % 4 == 1


class WhiteOracle(nn.Module):
    """Predicts perfectly for data that is white noise of σ = 1.7, and notes what it was given."""

    def __init__(self, prediction: str, channels_in: int = 3) -> None:
        super().__init__()
        self.config = SimpleNamespace(in_channels=channels_in, out_channels=3, sample_size=8)
        self.time_proj = nn.Identity()
        self.prediction = prediction
        self.calls: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(self, given: torch.Tensor, t: torch.Tensor) -> SimpleNamespace:
        self.calls.append((given, self.time_proj(t)))
        a = 1 / (1 + SCHEDULE.sigma(float(t[0])) ** 2)
        variance = a * SPREAD**2 + 1 - a
        x_t = given[:, :3]
        x0 = math.sqrt(a) * SPREAD**2 / variance * x_t
        epsilon = math.sqrt(1 - a) / variance * x_t
        v = math.sqrt(a) * epsilon - math.sqrt(1 - a) * x0
        return SimpleNamespace(sample=epsilon if self.prediction == "epsilon" else v)


def oracle(prediction: str, conditioning: str = "rows") -> Model:
    objective = ObjectiveConfig.model_validate(
        {"prediction": prediction, "conditioning": conditioning}
    )
    network = WhiteOracle(prediction, 3 if conditioning == "rows" else 7)
    return Model(network, standardised_transform(("a", "b", "c"), WIDE), objective)


def tiny(conditioning: str = "mask_and_rows", prediction: str = "epsilon") -> Model:
    settings = ModelConfig.model_validate(
        {
            "preset": "tiny",
            "cohorts": ["demo"],
            "network": {
                "image_size": 8,
                "block_out_channels": [8, 16],
                "layers_per_block": 1,
                "attention_levels": [False, True],
                "attention_head_dim": 8,
                "norm_num_groups": 4,
            },
            "objective": {"conditioning": conditioning, "prediction": prediction},
        }
    )
    torch.manual_seed(1)
    network = build_network(settings, 3).eval()
    return Model(network, standardised_transform(("a", "b", "c"), WIDE), settings.objective)


def images(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
@given(st.floats(0.007, 600))
def test_both_predictions_give_the_posterior_mean(prediction: str, sigma: float) -> None:
    x, clean = images(3) * sigma, images(3, 1)
    x0 = NetworkDenoiser(oracle(prediction))(x, sigma, clean, OBSERVED)
    wanted = SPREAD**2 / (SPREAD**2 + sigma**2) * x
    tolerance = 1e-5 * max(1.0, sigma)  # float32: x0 = x − σ·ε cancels where σ is large
    hidden = ~OBSERVED
    torch.testing.assert_close(x0[:, :, hidden], wanted[:, :, hidden], atol=tolerance, rtol=1e-4)
    assert torch.equal(x0[:, :, OBSERVED], clean[:, :, OBSERVED])


@pytest.mark.parametrize("conditioning", ["rows", "mask_and_rows"])
def test_the_network_sees_what_it_was_trained_on(conditioning: str) -> None:
    model = oracle("epsilon", conditioning)
    x, clean, sigma = images(2), images(2, 1), 2.0
    clean[:, :, ~OBSERVED] = torch.nan
    x0 = NetworkDenoiser(model)(x, sigma, clean, OBSERVED)
    assert bool(x0.isfinite().all())
    given_, t = model.network.calls[0]
    wanted = network_input(x / math.sqrt(5), clean, OBSERVED, model.objective.conditioning)
    torch.testing.assert_close(given_, wanted)
    assert torch.equal(given_[:, :3, OBSERVED], clean[:, :, OBSERVED])  # not scaled by √ᾱ
    assert SCHEDULE.sigma(float(t[0])) == pytest.approx(sigma, rel=1e-5)


def test_steps_can_be_rounded() -> None:
    for whole in (False, True):
        model = oracle("epsilon")
        NetworkDenoiser(model, integer_timesteps=whole)(images(1), 2.0, images(1), OBSERVED)
        t = float(model.network.calls[0][1][0])
        assert (t == round(t)) is whole


@pytest.mark.parametrize("conditioning", ["rows", "mask_and_rows"])
def test_equals_the_plain_network(conditioning: str) -> None:
    """One time embedding for the batch changes nothing, and the model's network is untouched."""
    model = tiny(conditioning)
    x, clean = images(5), images(5, 1)
    t = 400
    sigma = float(SCHEDULE.sigmas[t])
    x0 = NetworkDenoiser(model, clamp=False)(x, sigma, clean, OBSERVED)
    given_ = network_input(
        x / math.sqrt(1 + sigma**2), clean, OBSERVED, model.objective.conditioning
    )
    with torch.no_grad():
        epsilon = model.network(given_, torch.full((5,), t)).sample
    wanted = torch.where(OBSERVED[:, None], clean, x - sigma * epsilon)
    torch.testing.assert_close(x0, wanted, atol=1e-5, rtol=1e-5)
    assert type(model.network.time_proj).__name__ == "Timesteps"


def test_time_embedding_once_a_call() -> None:
    model = tiny()
    rows: list[int] = []
    model.network.time_embedding.register_forward_pre_hook(
        lambda _, args: rows.append(len(args[0]))
    )
    NetworkDenoiser(model)(images(6), 1.0, images(6), OBSERVED)
    assert rows == [1]


def test_a_batch_is_its_images() -> None:
    denoiser = NetworkDenoiser(tiny())
    x, clean = images(4), images(4, 1)
    each = torch.stack([OBSERVED.roll(i) for i in range(4)])
    whole = denoiser(x, 0.7, clean, each)
    for i in range(4):
        one = denoiser(x[i : i + 1], 0.7, clean[i : i + 1], each[i])
        torch.testing.assert_close(one, whole[i : i + 1], atol=1e-5, rtol=1e-5)


def test_bfloat16_is_near_and_x0_stays_float32() -> None:
    model = tiny()
    x, clean = images(2), images(2, 1)
    exact = NetworkDenoiser(model)(x, 0.5, clean, OBSERVED)
    rough = NetworkDenoiser(model, "bfloat16")(x, 0.5, clean, OBSERVED)
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    assert float((rough - exact).abs().max()) < 0.05
    assert torch.equal(rough[:, :, OBSERVED], clean[:, :, OBSERVED])


def test_clamp_holds_x0_in_the_data_but_not_the_observed_rows() -> None:
    model = oracle("epsilon")
    model.transform = unit_transform(("a", "b", "c"))
    x, clean = images(2), images(2, 1)
    x0 = NetworkDenoiser(model)(x, 0.5, clean, OBSERVED)
    assert float(x0[:, :, ~OBSERVED].min()) == 0
    assert float(x0[:, :, ~OBSERVED].max()) == 1
    assert torch.equal(x0[:, :, OBSERVED], clean[:, :, OBSERVED])
    free = NetworkDenoiser(model, clamp=False)(x, 0.5, clean, OBSERVED)
    assert float(free[:, :, ~OBSERVED].min()) < -1


def test_no_noise_level_no_answer() -> None:
    with pytest.raises(ValueError, match="σ = 0"):
        NetworkDenoiser(oracle("v"))(images(1), 0.0, images(1), OBSERVED)


def test_noise_levels_by_name() -> None:
    model = oracle("epsilon")
    assert noise_levels(model, "log_snr", 7) == model.sigma_grid(7)
    assert noise_levels(model, "published", 200) == SCHEDULE.published_grid(200)
    assert noise_levels(model, "ddpm", 3) == SCHEDULE.ancestral_grid()
    with pytest.raises(UserError, match=r"superresolve\.steps: 1000"):
        noise_levels(model, "published", 1000)


@pytest.mark.parametrize("schedule", ["published", "ddpm"])
def test_the_published_levels_are_whole_steps_to_the_network(schedule: Schedule) -> None:
    model = oracle("epsilon")
    denoiser = NetworkDenoiser(model, integer_timesteps=True)
    levels = noise_levels(model, schedule, 200)[:-1]
    for sigma in levels[:: len(levels) // 7]:
        denoiser(images(1), sigma, images(1), OBSERVED)
        t = float(model.network.calls[-1][1][0])
        assert t == round(t)
        assert float(SCHEDULE.sigmas[int(t)]) == sigma
