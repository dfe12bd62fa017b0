import numpy as np
import pytest

from msdsr.metrics.spectra import (
    AXES,
    frequencies,
    lag_one_ratio,
    power_ratio,
    power_spectrum,
    spectral_distance,
)


@pytest.fixture
def white():
    return np.random.default_rng(0).normal(size=(2, 24, 32, 40))


@pytest.mark.parametrize("axis", AXES)
def test_white_noise_has_a_flat_spectrum_of_its_variance(white, axis):
    spectrum = power_spectrum(3 * white, axis)
    n = white.shape[1 + AXES.index(axis)]
    assert spectrum.shape == (2, n // 2)
    # The lowest frequency loses some to the mean that is taken off each line.
    assert spectrum[:, 1:] == pytest.approx(np.full((2, n // 2 - 1), 9.0), rel=0.1)


@pytest.mark.parametrize("axis", AXES)
def test_a_wave_stands_at_its_frequency_along_its_axis_alone(axis):
    shape = (1, 32, 32, 32)
    places = np.arange(32).reshape([-1 if a == axis else 1 for a in AXES])
    wave = np.broadcast_to(np.sin(2 * np.pi * 5 * places / 32), shape)
    assert power_spectrum(wave, axis)[0].argmax() == 4
    for other in set(AXES) - {axis}:
        assert power_spectrum(wave, other).max() == pytest.approx(0, abs=1e-12)


def test_a_ramp_has_no_power_at_high_frequencies():
    ramp = np.broadcast_to(np.arange(32.0), (1, 4, 4, 32))
    spectrum = power_spectrum(ramp, "x")[0]
    assert spectrum[8:].max() < 1e-4 * spectrum[0]


def test_the_distance_is_in_decibels_and_sees_one_axis(white):
    assert spectral_distance(white, white, "z") == 0
    half = white * np.sqrt(0.5)
    assert spectral_distance(half, white, "y") == pytest.approx(10 * np.log10(2))
    smooth = (white + np.roll(white, 1, axis=1)) / np.sqrt(2)
    assert spectral_distance(smooth, white, "z") > 3
    assert spectral_distance(smooth, white, "x") < 0.3


def test_each_channel_counts_once_whatever_its_scale(white):
    scaled = white * np.array([1.0, 1e4])[:, None, None, None]
    changed = scaled * np.array([2.0, 1.0])[:, None, None, None]
    expected = 10 * np.log10(4) / 2
    assert spectral_distance(changed, scaled, "x") == pytest.approx(expected)
    assert lag_one_ratio(changed, scaled, "x") == pytest.approx(np.sqrt(2))


def test_lag_one_sees_jumps_and_blur_across_one_axis(white):
    tissue = np.cumsum(white, axis=1)  # a random walk along z, white across y
    jumping = tissue + 0.5 * np.random.default_rng(1).normal(size=(2, 24, 1, 1))
    assert lag_one_ratio(jumping, tissue, "z") > 1.1
    assert lag_one_ratio(jumping, tissue, "y") == pytest.approx(1)
    blurred = (tissue + np.roll(tissue, 1, axis=2)) / 2
    assert lag_one_ratio(blurred, tissue, "y") < 0.9


def test_integers_do_not_wrap():
    falling = np.full((1, 4, 4, 4), 10, np.uint16)
    falling[:, 2:] = 3
    rising = falling[:, ::-1]
    assert lag_one_ratio(falling, rising, "z") == pytest.approx(1)
    assert np.array_equal(power_spectrum(falling, "z"), power_spectrum(rising, "z"))


def test_a_line_too_short_for_a_spectrum_is_refused(white):
    with pytest.raises(ValueError, match="no spectrum along z of 3 voxels"):
        power_spectrum(white[:, :3], "z")


def test_a_ratio_stands_at_physical_frequencies(white):
    places = np.arange(40) * 0.5
    wave = 40 * np.cos(2 * np.pi * 0.25 * places)
    ratio = power_ratio(white * [[[[2.0]]], [[[1.0]]]] + wave, white, "x")
    where = frequencies(40, 0.5)
    assert where[-1] == 1.0
    assert where.shape == ratio.shape[1:]
    assert where[ratio[1].argmax()] == 0.25
    far = np.abs(where - 0.25) > 0.1
    assert ratio[0, far] == pytest.approx(4, rel=1e-6)
    assert ratio[1, far] == pytest.approx(1, rel=1e-6)


def test_no_power_in_the_truth_gives_no_ratio():
    assert np.isnan(power_ratio(np.ones((1, 4, 4, 8)), np.zeros((1, 4, 4, 8)), "x")).all()
