import numpy as np
import pytest
from skimage.metrics import (
    normalized_root_mse,
    peak_signal_noise_ratio,
    structural_similarity,
)

from msdsr.metrics.similarity import nrmse, psnr, ssim_rows


@pytest.fixture
def volumes(textured, rng):
    truth = textured((2, 13, 24, 30))
    restored = truth + rng.integers(0, 1500, truth.shape).astype(np.uint16)
    return restored, truth


def test_psnr_and_nrmse_are_scikit_images(volumes):
    restored, truth = (v[:1, 3] for v in volumes)
    assert psnr(restored, truth, np.array([20000])) == pytest.approx(
        peak_signal_noise_ratio(truth.astype(float), restored.astype(float), data_range=20000)
    )
    assert nrmse(restored, truth) == pytest.approx(
        normalized_root_mse(truth.astype(float), restored.astype(float))
    )


def test_ssim_is_scikit_images(volumes):
    restored, truth = (v[:, 3].astype(float) for v in volumes)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = [
        structural_similarity(restored[c], truth[c], data_range=peak, **options)
        for c, peak in enumerate((20000, 9000))
    ]
    rows = ssim_rows(restored, truth, np.array([20000, 9000]))
    assert np.nanmean(rows) == pytest.approx(np.mean(expected), abs=1e-9)


def test_each_channel_is_weighed_by_its_own_range(volumes):
    restored, truth = volumes
    same = psnr(restored[:, 3], truth[:, 3], np.array([10000, 10000]))
    assert psnr(restored[:, 3], truth[:, 3], np.array([20000, 20000])) == pytest.approx(
        same + 20 * np.log10(2)
    )


def test_a_dark_channel_is_left_out_of_nrmse():
    dark = np.zeros((2, 4, 4))
    assert np.isnan(nrmse(dark + 1, dark))
