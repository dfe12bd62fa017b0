"""The paper's baselines: what they are taught, and what they answer."""

from typing import Any

import pytest
import torch
from torch import Tensor

from msdsr.config import ModelConfig, ObjectiveConfig
from msdsr.diffusion.baselines import (
    Midplane,
    RowFiller,
    doublings,
    midplane_loss,
    one_pass_loss,
    refine_planes,
)
from msdsr.diffusion.network import Model, build_network
from msdsr.diffusion.noise import NoiseField
from msdsr.diffusion.objective import as_rows, interlace
from msdsr.diffusion.transform import ChannelStatistics, standardised_transform
from msdsr.errors import UserError

OBSERVED = torch.arange(8) % 4 == 1


def images(seed: int, n: int = 3, c: int = 2) -> Tensor:
    return torch.randn(n, c, 8, 8, generator=torch.Generator().manual_seed(seed))


def model_of(kind: str, **objective: Any) -> Model:
    torch.manual_seed(0)
    settings = ModelConfig.model_validate(
        {
            "kind": kind,
            "preset": "tiny",
            "cohorts": ["x"],
            "network": {
                "image_size": 8,
                "block_out_channels": [8, 16],
                "attention_levels": [False, True],
                "attention_head_dim": 8,
                "norm_num_groups": 4,
            },
            "objective": objective,
        }
    )
    transform = standardised_transform(
        ("CH2", "CH3"), [ChannelStatistics(10.0, 2.0, 5.0, 20.0)] * 2
    )
    network = build_network(settings, 2).eval()
    return Model(network, transform, settings.objective, kind=settings.kind)


def one_pass_settings(rows: str) -> ObjectiveConfig:
    return ObjectiveConfig.model_validate(
        {"conditioning": "rows", "prediction": "x0", "loss_rows": rows}
    )


@pytest.mark.parametrize(("rows", "wanted"), [("all", 1.5), ("unobserved", 2.0)])
def test_one_pass_sees_noise_in_the_missing_rows_and_is_asked_for_the_truth(
    rows: str, wanted: float
) -> None:
    x0, noise = images(0), images(1)
    observed = OBSERVED.expand(3, 8)

    def predict(given: Tensor, t: Tensor) -> Tensor:
        assert torch.equal(given, interlace(noise, x0, observed))
        assert torch.equal(t, torch.zeros(3, dtype=torch.int64))
        return x0 + torch.where(as_rows(observed), 0.0, 2.0)

    loss = one_pass_loss(predict, one_pass_settings(rows), x0, noise, observed)
    assert float(loss) == pytest.approx(wanted)


def test_the_middle_plane_is_asked_for_between_its_neighbours() -> None:
    before, between, after = images(2), images(3), images(4)

    def predict(given: Tensor, t: Tensor) -> Tensor:
        assert torch.equal(given, torch.cat([before, after], dim=1))
        assert not t.any()
        return between - 0.5

    assert float(midplane_loss(predict, before, between, after)) == pytest.approx(0.5)


@pytest.mark.parametrize("conditioning", ["rows", "mask_and_rows"])
def test_a_filler_keeps_observed_rows_and_the_range_of_the_data(conditioning: str) -> None:
    model = model_of("ms_unet", conditioning=conditioning)
    fill = RowFiller(model)
    clean = images(5)
    clean[:, :, ~OBSERVED] = torch.nan  # nobody has seen these rows
    filled = fill(images(6), clean, OBSERVED)
    assert torch.equal(filled[:, :, OBSERVED], clean[:, :, OBSERVED])
    assert torch.equal(filled[:, :, ~OBSERVED], model.transform.clamp(filled)[:, :, ~OBSERVED])
    assert not torch.equal(fill(images(7), clean, OBSERVED), filled)


def test_noise_of_absolute_voxels_makes_a_pass_independent_of_the_batch() -> None:
    fill, field = RowFiller(model_of("ms_unet")), NoiseField(3)
    clean = images(8, n=4)
    noise = field.normal(0, 2, (0, 8, 10, 14, 0, 8)).permute(2, 0, 1, 3)
    whole = fill(noise, clean, OBSERVED)
    alone = field.normal(0, 2, (0, 8, 12, 13, 0, 8)).permute(2, 0, 1, 3)
    torch.testing.assert_close(fill(alone, clean[2:3], OBSERVED), whole[2:3], atol=1e-6, rtol=0)


def test_a_midplane_reads_both_planes() -> None:
    between = Midplane(model_of("e2e_unet"))
    a, b = images(9), images(10)
    found = between(a, b)
    assert found.shape == a.shape
    assert not torch.equal(found, between(b, a))
    assert not torch.equal(found, between(a, images(11)))


@pytest.mark.parametrize(("factor", "calls"), [(2, [3]), (4, [3, 6]), (8, [3, 6, 12])])
def test_the_recursion_halves_the_spacing(factor: int, calls: list[int]) -> None:
    planes = torch.arange(4.0).pow(2).reshape(4, 1, 1, 1).expand(4, 2, 3, 3)
    seen = []

    def mean(a: Tensor, b: Tensor) -> Tensor:
        seen.append(len(a))
        return (a + b) / 2

    fine = refine_planes(planes, factor, mean)
    assert seen == calls
    assert torch.equal(fine[::factor], planes)
    # Middles of middles of straight lines lie on those lines: linear interpolation.
    for k in range(factor):
        part = k / factor
        wanted = planes[:-1] * (1 - part) + planes[1:] * part
        torch.testing.assert_close(fine[k::factor][:3], wanted)
    assert len(fine) == 3 * factor + 1


@pytest.mark.parametrize("factor", [1, 3, 6, 16])
def test_other_factors_are_refused(factor: int) -> None:
    with pytest.raises(UserError, match="2, 4 or 8, the powers of two"):
        doublings(factor)


def test_a_model_of_another_kind_is_no_baseline() -> None:
    with pytest.raises(ValueError, match="not ms_unet"):
        RowFiller(model_of("e2e_unet"))
    with pytest.raises(ValueError, match="not e2e_unet"):
        Midplane(model_of("ms_unet"))
