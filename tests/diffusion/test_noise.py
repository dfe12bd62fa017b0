"""The noise is Gaussian, and a function of seed, step, channel and absolute voxel alone."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from msdsr.diffusion.noise import NoiseField, Region, gaussian_taps

BOX: Region = (-3, 5, 10, 19, -7, 8)


def corr(a: torch.Tensor, b: torch.Tensor) -> float:
    """Correlation in units of its standard error."""
    return float((a * b).mean()) * math.sqrt(a.numel())


@st.composite
def boxes(draw: st.DrawFn) -> Region:
    edges: list[int] = []
    for low, high in ((-3, 5), (10, 19), (-7, 8)):
        a = draw(st.integers(low, high - 1))
        edges += [a, draw(st.integers(a + 1, high))]
    return tuple(edges)  # type: ignore[return-value]


def cut(whole: torch.Tensor, box: Region) -> torch.Tensor:
    z0, z1, y0, y1, x0, x1 = (b - o for b, o in zip(box, (-3, -3, 10, 10, -7, -7), strict=True))
    return whole[:, z0:z1, y0:y1, x0:x1]


@given(boxes(), st.integers(0, 2**63), st.integers(0, 1000), st.integers(1, 7))
def test_any_region_holds_the_same_bits(box: Region, seed: int, step: int, channels: int) -> None:
    field = NoiseField(seed)
    whole = field.normal(step, 7, BOX)
    assert torch.equal(field.normal(step, channels, box), cut(whole[:channels], box))


@settings(max_examples=20)
@given(boxes(), st.sampled_from(["z", "y", "x"]), st.floats(0.3, 4), st.floats(0.01, 1))
def test_any_region_holds_the_same_correlated_bits(
    box: Region, axis: str, length: float, strength: float
) -> None:
    field = NoiseField(3)
    whole = field.correlated(1, 2, BOX, axis, length, strength)  # type: ignore[arg-type]
    part = field.correlated(1, 2, box, axis, length, strength)  # type: ignore[arg-type]
    assert torch.equal(part, cut(whole, box))


def test_the_chunks_do_not_show() -> None:
    field = NoiseField(11)
    far = 2**40
    wide = field.normal(0, 1, (0, 3, far, far + 70, 0, 3000))  # two chunks of 2^17 voxels
    lines = [field.normal(0, 1, (z, z + 1, far, far + 70, 0, 3000)) for z in range(3)]
    assert torch.equal(wide, torch.cat(lines, dim=1))
    assert wide.shape == (1, 3, 70, 3000)


def test_moments() -> None:
    noise = NoiseField(0).normal(0, 2, (0, 20, 0, 200, 0, 200)).double()
    n = noise.numel()
    assert abs(float(noise.mean())) < 5 / math.sqrt(n)
    assert abs(float(noise.var()) - 1) < 5 * math.sqrt(2 / n)
    assert abs(float((noise**3).mean())) < 5 * math.sqrt(15 / n)
    assert abs(float((noise**4).mean()) - 3) < 5 * math.sqrt(96 / n)
    shares = torch.histc(noise, 40, -2, 2) / n
    edges = torch.linspace(-2, 2, 41, dtype=torch.float64)
    truth = torch.special.ndtr(edges).diff()
    assert float((shares - truth).abs().max()) < 5 * math.sqrt(0.04 / n)


def test_neighbours_steps_channels_and_seeds_are_strangers() -> None:
    box: Region = (0, 32, 0, 64, 0, 64)
    noise = NoiseField(0).normal(0, 7, box)
    for shift in range(1, 6):
        assert abs(corr(noise[:, shift:], noise[:, :-shift])) < 5
        assert abs(corr(noise[:, :, shift:], noise[:, :, :-shift])) < 5
        assert abs(corr(noise[..., shift:], noise[..., :-shift])) < 5
    assert abs(corr(noise[:, 1:, 1:], noise[:, :-1, :-1])) < 5
    for other in range(1, 7):
        assert abs(corr(noise[0], noise[other])) < 5
    for other in (NoiseField(1), NoiseField(-1), NoiseField(2**40)):
        assert abs(corr(noise, other.normal(0, 7, box))) < 5
    for step in (1, 2, 1000):
        assert abs(corr(noise, NoiseField(0).normal(step, 7, box))) < 5
    # Squares would show a dependence that leaves plain correlation at 0.
    power = noise**2 - 1
    assert abs(corr(power[..., 1:], power[..., :-1])) < 5 * 2
    assert abs(corr(power[0], power[1])) < 5 * 2


def test_seed_and_step_do_not_stand_in_for_each_other() -> None:
    draws = [NoiseField(s).normal(t, 1, (0, 2, 0, 8, 0, 8)) for s in range(4) for t in range(4)]
    assert len({draw.numpy().tobytes() for draw in draws}) == 16


def test_the_spectrum_is_flat() -> None:
    noise = NoiseField(5).normal(0, 1, (0, 32, 0, 64, 0, 64))[0]
    power = torch.fft.fftn(noise).abs() ** 2 / noise.numel()
    for dim in range(3):
        others = tuple(d for d in range(3) if d != dim)
        line = power.mean(dim=others)
        each = power.numel() / len(line) / 2
        assert float((line - 1).abs().max()) < 6 / math.sqrt(each)


def test_the_field_never_changes() -> None:
    """Released volumes were drawn from these numbers."""
    noise = NoiseField(2024).normal(3, 4, (5, 6, 7, 8, 9, 11))
    wanted = [
        -0.647403359,
        -1.206141591,
        1.676306009,
        -0.004837213,
        1.038575172,
        1.874563217,
        -0.880782068,
        -0.982801318,
    ]
    assert noise.flatten().tolist() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("axis", ["z", "y", "x"])
def test_correlated_noise_has_its_spectrum(axis: str) -> None:
    length, strength = 2.0, 0.5
    box: Region = (0, 64, 0, 64, 0, 64)
    noise = NoiseField(1).correlated(0, 1, box, axis, length, strength)[0]  # type: ignore[arg-type]
    dim = "zyx".index(axis)
    independent = noise.numel() / (2 * math.sqrt(math.pi) * length)
    assert abs(float(noise.var()) - 1) < 6 * math.sqrt(2 / independent)
    for shift in (1, 2, 4):
        kept = 64 - shift
        pairs = noise.narrow(dim, shift, kept) * noise.narrow(dim, 0, kept)
        wanted = strength * math.exp(-((shift / length) ** 2) / 4)
        assert abs(float(pairs.mean()) - wanted) < 6 / math.sqrt(independent)
        for other in {0, 1, 2} - {dim}:
            pairs = noise.narrow(other, shift, kept) * noise.narrow(other, 0, kept)
            assert abs(float(pairs.mean())) < 6 / math.sqrt(independent)


def test_no_strength_is_white_noise() -> None:
    field = NoiseField(9)
    assert torch.equal(field.correlated(2, 3, BOX, "y", 2.0, 0.0), field.normal(2, 3, BOX))
    for length, strength in ((0.0, 0.5), (2.0, 1.5), (2.0, -0.1)):
        with pytest.raises(ValueError, match="strength"):
            field.correlated(2, 3, BOX, "y", length, strength)


@given(st.floats(0.2, 10))
def test_taps_have_unit_energy_and_reach_4_sigma(length: float) -> None:
    taps = np.array(gaussian_taps(length))
    assert np.sum(taps**2) == pytest.approx(1)
    assert len(taps) >= 2 * 4 * length + 1
    assert np.array_equal(taps, taps[::-1])


def test_an_upside_down_region_is_refused() -> None:
    with pytest.raises(ValueError, match="no noise"):
        NoiseField(0).normal(0, 1, (0, 1, 5, 4, 0, 1))
    assert NoiseField(0).normal(0, 1, (0, 1, 5, 5, 0, 1)).shape == (1, 1, 0, 1)
