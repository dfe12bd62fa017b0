import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from msdsr.metrics.noise import noise_variance


@pytest.mark.parametrize("sigma", [3.0, 40.0])
def test_white_noise_on_smooth_structure_is_found(sigma):
    rng = np.random.default_rng(3)
    smooth = gaussian_filter(rng.standard_normal((256, 200)), 4)
    smooth *= 500 / smooth.std()
    image = 2000 + smooth + rng.normal(0, sigma, smooth.shape)
    # The bias of the median in squares of 256 correlated pixels is a few percent.
    assert noise_variance(image) == pytest.approx(sigma**2, rel=0.08)


def test_brighter_parts_may_hold_more_noise():
    rng = np.random.default_rng(4)
    image = np.concatenate([rng.normal(0, s, (128, 128)) for s in (2.0, 10.0)])
    assert noise_variance(image) == pytest.approx((4 + 100) / 2, rel=0.1)


def test_edges_and_ramps_are_no_noise():
    image = np.add.outer(np.arange(64.0), 3 * np.arange(64.0))
    image[:, 20:] += 1000
    assert noise_variance(image) == pytest.approx(0, abs=1e-6)
    assert np.isnan(noise_variance(np.zeros((2, 9))))
