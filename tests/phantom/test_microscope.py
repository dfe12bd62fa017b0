import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from msdsr.config import PhantomConfig
from msdsr.phantom.microscope import FULL_SCALE, Field, Microscope
from msdsr.phantom.tissue import Tissue

QUIET = {"photons": 1e9, "read_noise": 0.0, "laser_drift": 0.0}
ROWS = np.arange(48)


def microscope(**settings):
    config = PhantomConfig(**settings)
    return Microscope(Tissue(4, config.voxel_um), Field(100, -50, 7), config, key=8)


def test_a_quiet_microscope_sees_every_nth_plane_of_the_truth():
    scope = microscope(**QUIET, z_ratio=3)
    acquired = scope.acquire(4, ROWS, ROWS)
    truth = scope.truth(10, ROWS, ROWS)
    assert acquired.dtype == np.uint16
    assert acquired.shape == (2, 4, 48, 48)
    difference = acquired.astype(int) - truth[:, ::3].astype(int)
    assert np.abs(difference).max() <= 12
    assert difference.std() < 3


def test_the_acquired_planes_do_not_depend_on_blocks_or_on_the_truth():
    scope = microscope(planes=5)
    whole = scope.acquire(5, ROWS, ROWS)
    left = scope.acquire(5, ROWS[3:20], ROWS[:30])
    assert np.array_equal(whole[:, :, 3:20, :30], left)
    truth = scope.truth(9, ROWS, ROWS)
    assert np.array_equal(whole, scope.acquire(5, ROWS, ROWS, truth))


def test_shot_noise_has_the_variance_of_poisson():
    scope = microscope(photons=400.0, read_noise=0.0, laser_drift=0.0)
    for mean in (5.0, 40.0):
        signal = np.full((1, 4, 300, 300), mean / 400, np.float32)
        counts = scope._detect(signal, np.arange(300), np.arange(300)) * 400
        assert counts.mean() == pytest.approx(mean, rel=0.01)
        assert counts.var() == pytest.approx(mean, rel=0.03)
        skewness = ((counts - mean) ** 3).mean() / mean**1.5
        assert skewness == pytest.approx(mean**-0.5, abs=0.05)
        assert np.allclose(counts, np.rint(counts), atol=1e-3)


def test_read_noise_has_its_strength():
    scope = microscope(photons=1e9, read_noise=0.01)
    signal = np.full((1, 1, 200, 200), 0.3, np.float32)
    noisy = scope._detect(signal, np.arange(200), np.arange(200))
    assert noisy.std() == pytest.approx(0.01, rel=0.03)


def test_the_laser_drifts_along_strips():
    scope = microscope(laser_drift=0.05, strip=30)
    y = np.arange(3000)
    gain = scope.gain(2, y, np.arange(60))
    assert gain.std() == pytest.approx(0.05, rel=0.3)
    assert (gain[:, :, :30] == gain[:, :, :1]).all()
    assert (gain[:, :, 0] != gain[:, :, 30]).any()
    assert (gain[0] != gain[1]).any()
    assert np.abs(np.diff(gain[0, :, 0])).max() < 0.01


def test_blur_acts_along_z_alone():
    sharp, soft = microscope(**QUIET), microscope(**QUIET, axial_blur_um=1.0)
    truth = sharp.truth(41, ROWS, ROWS).astype(np.float64)
    expected = gaussian_filter1d(truth, 2.0, axis=1)[:, 16:25:2]
    blurred = soft.acquire(13, ROWS, ROWS)[:, 8:13]
    assert np.abs(blurred - expected).max() < 0.001 * FULL_SCALE


def test_saturation_does_not_wrap_around():
    scope = microscope(photons=100.0, read_noise=0.5)
    signal = np.array([[[[0.0, 1.0]] * 50]], np.float32)
    from msdsr.phantom.microscope import to_uint16

    levels = to_uint16(scope._detect(signal, np.arange(50), np.arange(2)))
    assert levels[..., 0].min() == 0
    assert levels[..., 1].max() == FULL_SCALE
