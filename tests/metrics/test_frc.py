import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from msdsr.metrics.frc import fourier_correlation


@pytest.fixture
def truth():
    return np.random.default_rng(3).normal(size=(24, 40, 48))


SPACING = (1.0, 0.5, 0.5)


def test_an_image_agrees_with_itself_whatever_its_scale(truth):
    for image, spacing in ((truth, SPACING), (truth[0], SPACING[1:])):
        curve = fourier_correlation(3 * image + 100, image, spacing)
        assert curve.correlation == pytest.approx(np.ones(len(curve.frequency)))
        assert (curve.count > 0).all()
        assert fourier_correlation(-image, image, spacing).correlation == pytest.approx(-1)


def test_unrelated_noise_agrees_by_chance_alone(truth):
    other = np.random.default_rng(4).normal(size=truth.shape)
    curve = fourier_correlation(other, truth, SPACING)
    # The taper correlates neighbouring frequencies: some 3 of them count as one along each axis.
    assert (np.abs(curve.correlation) < 5 * np.sqrt(8 / curve.count)).all()


def test_half_noise_gives_the_square_root_of_a_half(truth):
    other = np.random.default_rng(5).normal(size=truth.shape)
    curve = fourier_correlation(truth + other, truth, SPACING)
    mean = np.average(curve.correlation, weights=curve.count)
    assert mean == pytest.approx(np.sqrt(0.5), abs=0.03)


def test_frequencies_are_physical(truth):
    """A wave of 0.2 cycles/µm is lost; nothing else is."""
    x = np.arange(48) * 0.5
    wave = 30 * np.cos(2 * np.pi * 5 * x / 24)
    for image, spacing in ((truth, SPACING), (truth[0], SPACING[1:])):
        curve = fourier_correlation(image - wave, image + wave, spacing)
        assert curve.frequency[curve.correlation.argmin()] == pytest.approx(5 / 24, abs=0.03)
        assert curve.correlation.min() < -0.5
        far = np.abs(curve.frequency - 5 / 24) > 0.08
        assert curve.correlation[far].min() > 0.9


def test_each_axis_reaches_its_own_nyquist(truth):
    for axis, (n, spacing) in enumerate(zip(truth.shape, SPACING, strict=True)):
        curve = fourier_correlation(truth, truth, SPACING, axis)
        assert len(curve.frequency) == n // 2
        assert curve.frequency[-1] == pytest.approx(0.5 / spacing)
    whole = fourier_correlation(truth, truth, SPACING)
    assert whole.frequency[-1] == pytest.approx(0.5)


def test_blur_along_z_and_noise_show_along_z(truth):
    noise = 0.3 * np.random.default_rng(6).normal(size=truth.shape)
    seen = gaussian_filter(truth, (1, 0, 0)) + noise
    along = [fourier_correlation(seen, truth, SPACING, a, 10).correlation for a in range(3)]
    assert along[0][-1] < 0.5
    assert along[1][-1] > 0.8
    assert along[2][-1] > 0.8


def test_counts_are_those_of_the_full_transform(truth):
    ky, kx = np.meshgrid(np.fft.fftfreq(40, 0.5), np.fft.fftfreq(48, 0.47), indexing="ij")
    ring = np.rint(np.hypot(ky, kx) * 20).astype(int)
    curve = fourier_correlation(truth[0], truth[0], (0.5, 0.47))
    assert list(curve.count) == [int((ring == k).sum()) for k in range(1, 21)]


def test_what_does_not_fit_is_refused(truth):
    with pytest.raises(ValueError, match="shapes"):
        fourier_correlation(truth, truth[:8], SPACING)
    with pytest.raises(ValueError, match="spacings"):
        fourier_correlation(truth[0], truth[0], SPACING)
    with pytest.raises(ValueError, match="no Fourier correlation"):
        fourier_correlation(truth[:4], truth[:4], SPACING)


def test_darkness_has_no_correlation():
    dark = np.zeros((16, 16))
    assert np.isnan(fourier_correlation(dark, dark, (1, 1)).correlation).all()
