"""Raw intensities ↔ model units."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from msdsr.config import ObjectiveConfig
from msdsr.diffusion.transform import (
    ChannelStatistics,
    DataTransform,
    build_transform,
    standardised_transform,
    unit_transform,
)
from msdsr.errors import UserError

SRH = (
    ChannelStatistics(7000.0, 1500.0, 4000.0, 16000.0),
    ChannelStatistics(9000.0, 2500.0, 4500.0, 30000.0),
)


def raw(channels: int = 2, dtype: type = np.uint16) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, np.iinfo(dtype).max, (3, channels, 5, 7)).astype(dtype))


def test_published_unit_transform_by_hand() -> None:
    transform = unit_transform(("CH2", "CH3"), derive_ch1=True)
    assert transform.model_channels == ("CH1", "CH2", "CH3")
    values = torch.tensor([[20000, 60000, 0], [30000, 1000, 65535]], dtype=torch.uint16)
    data = transform.forward(values[None, :, None, :])[0, :, 0]
    assert data[1].tolist() == pytest.approx([20000 / 65536, 60000 / 65536, 0])
    assert data[2].tolist() == pytest.approx([30000 / 65536, 1000 / 65536, 65535 / 65536])
    assert data[0].tolist() == pytest.approx([15000 / 65536, 0, 1])  # clamped on both sides


@given(st.permutations(["CH2", "CH3"]), st.integers(0, 2))
def test_derived_channel_whatever_the_order_and_the_axis(names: list[str], axis: int) -> None:
    transform = unit_transform(names, derive_ch1=True)
    image = torch.rand(2, 4, 6) * 60000
    moved = image.movedim(0, axis)
    data = transform.forward(moved, channel_axis=axis).movedim(axis, 0)
    by_name = dict(zip(names, image, strict=True))
    assert torch.allclose(data[1], by_name["CH2"] / 65536)
    assert torch.allclose(data[2], by_name["CH3"] / 65536)
    back = transform.inverse(data.movedim(0, axis), channel_axis=axis)
    assert torch.allclose(back, moved, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", ["unit", "standardised"])
def test_integers_survive_the_round_trip(dtype: type, kind: str) -> None:
    objective = ObjectiveConfig.model_validate({"data": kind})
    transform = build_transform(("a", "b"), SRH, objective, np.dtype(dtype).name)
    values = raw(dtype=dtype)
    back = transform.inverse(transform.forward(values)).round()
    assert torch.equal(back, values.to(torch.float32))


@given(st.integers(1, 8))
def test_standardised_data_has_no_mean_and_unit_variance(n: int) -> None:
    values = torch.randn(4, n, 50, 50) * torch.arange(1, n + 1).reshape(1, n, 1, 1) + 7
    statistics = [
        ChannelStatistics(float(v.mean()), float(v.std()), float(v.min()), float(v.max()))
        for v in values.movedim(1, 0)
    ]
    transform = standardised_transform([f"c{i}" for i in range(n)], statistics)
    data = transform.forward(values)
    assert data.dtype == torch.float32
    assert torch.allclose(data.mean(dim=(0, 2, 3)), torch.zeros(n), atol=1e-4)
    assert torch.allclose(data.std(dim=(0, 2, 3)), torch.ones(n), atol=1e-4)
    assert (transform.data_sigma, transform.data_mean) == (1.0, 0.0)
    assert torch.equal(transform.clamp(data), data)  # the margin spares all data


def test_clamp() -> None:
    far = torch.tensor([-1e6, 1e6]).reshape(1, 1, 1, 2)
    unit = unit_transform(("CH2", "CH3"), derive_ch1=True).clamp(far.expand(1, 3, 1, 2))
    assert unit.flatten().tolist() == [0, 1] * 3
    held = standardised_transform(("a", "b"), SRH).clamp(far.expand(1, 2, 1, 2))
    # 0.5 of the range 4000..16000 beyond it, in units of 1500 about 7000.
    assert held[0, 0, 0].tolist() == pytest.approx([(-2000 - 7000) / 1500, (22000 - 7000) / 1500])


def test_unit_statistics() -> None:
    transform = unit_transform(("CH2", "CH3"), SRH)
    assert transform.data_mean == pytest.approx(8000 / 65536)
    assert transform.data_sigma == pytest.approx(((1500**2 + 2500**2) / 2) ** 0.5 / 65536)
    assert unit_transform(("CH2", "CH3")).data_sigma == 0.05


def test_json_keeps_every_bit() -> None:
    transform = standardised_transform(
        ("a", "b"), [ChannelStatistics(1 / 3, 2 / 7, 0.1, 0.7), ChannelStatistics(1e-9, 3, 0, 9)]
    )
    assert DataTransform.from_dict(json.loads(json.dumps(transform.to_dict()))) == transform


def test_reads_the_summary_of_a_training_set() -> None:
    percentiles = {"0.1": 1.0, "1": 2.0, "50": 5.0, "99": 8.0, "99.9": 9.0}
    found = ChannelStatistics.from_summary({"mean": 5, "std": 2, "percentiles": percentiles})
    assert found == ChannelStatistics(5.0, 2.0, 1.0, 9.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shift": [0.0]}, "2 numbers"),
        ({"scale": [1.0, 0.0]}, "above 0"),
        ({"scale": [1.0, "x"]}, "scale.1"),
        ({"low": [0.0, float("nan")]}, "low.1"),
        ({"extra": 1}, "extra"),
        ({"derive_ch1": True}, "channels CH2 and CH3"),
    ],
)
def test_damaged_transforms_are_refused(change: dict[str, object], message: str) -> None:
    values = standardised_transform(("a", "b"), SRH).to_dict() | change
    with pytest.raises(UserError, match=message):
        DataTransform.from_dict(values)


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(UserError, match="channel b: standard deviation 0"):
        standardised_transform(("a", "b"), [SRH[0], ChannelStatistics(5, 0, 5, 5)])
    derived = ObjectiveConfig(derive_ch1=True)
    with pytest.raises(UserError, match="data: unit"):
        build_transform(("CH2", "CH3"), SRH, derived)
    with pytest.raises(UserError, match="dtype int32"):
        build_transform(("CH2", "CH3"), SRH, ObjectiveConfig(data="unit"), "int32")
    with pytest.raises(UserError, match="5 channels; expected 2"):
        standardised_transform(("a", "b"), SRH).forward(raw(5))
    with pytest.raises(UserError, match=r"2 channels; expected 3 \(CH1, CH2, CH3\)"):
        unit_transform(("CH2", "CH3"), derive_ch1=True).inverse(torch.zeros(1, 2, 3, 3))


def test_symmetric_data_lie_between_minus_one_and_one() -> None:
    settings = ObjectiveConfig(data="symmetric")
    statistics = [ChannelStatistics(16384.0, 3276.8, 0.0, 60000.0)] * 2
    transform = build_transform(("CH2", "CH3"), statistics, settings)
    raw = torch.tensor([0.0, 32768.0, 65536.0]).reshape(1, 1, 1, 3).expand(1, 2, 1, 3)
    data = transform.forward(raw)
    assert data[0, 0, 0].tolist() == [-1.0, 0.0, 1.0]
    assert torch.equal(transform.inverse(data), raw)
    assert (transform.data_mean, transform.data_sigma) == pytest.approx((-0.5, 0.1))
    assert transform.clamp(3 * data)[0, 0, 0].tolist() == [-1.0, 0.0, 1.0]
    with pytest.raises(UserError, match="derive_ch1"):
        build_transform(
            ("CH2", "CH3"), statistics, ObjectiveConfig(data="symmetric", derive_ch1=True)
        )
