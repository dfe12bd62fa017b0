import numpy as np
import pytest
from skimage.metrics import (
    normalized_root_mse,
    peak_signal_noise_ratio,
    structural_similarity,
)

from msdsr.metrics.similarity import nrmse, psnr, ssim, ssim_profile, ssim_rows


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


SKIMAGE = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
PEAKS = np.array([20000, 9000])


@pytest.mark.parametrize("planes", [3, slice(None)], ids=["2D", "3D"])
def test_ssim_is_scikit_images(volumes, planes):
    restored, truth = (v[:, planes] for v in volumes)
    expected = [
        structural_similarity(
            restored[c].astype(float), truth[c].astype(float), data_range=peak, **SKIMAGE
        )
        for c, peak in enumerate(PEAKS)
    ]
    assert ssim(restored, truth, PEAKS) == pytest.approx(np.mean(expected), abs=1e-6)
    for c in range(2):
        alone = ssim(restored[c : c + 1], truth[c : c + 1], PEAKS[c : c + 1])
        assert alone == pytest.approx(expected[c], abs=1e-6)
    assert np.nanmean(ssim_profile(restored, truth, PEAKS)) == pytest.approx(
        np.mean(expected), abs=1e-6
    )


def test_the_map_is_scikit_images_row_by_row(volumes):
    restored, truth = (v[:, 3].astype(float) for v in volumes)
    whole = [
        structural_similarity(restored[c], truth[c], data_range=peak, full=True, **SKIMAGE)[1]
        for c, peak in enumerate(PEAKS)
    ]
    rows = ssim_rows(restored, truth, PEAKS)
    assert np.isnan(rows[:5]).all()
    assert np.isnan(rows[-5:]).all()
    assert rows[5:-5] == pytest.approx(np.mean(whole, axis=0)[5:-5, 5:-5].mean(axis=1), abs=1e-6)
    kept = np.arange(len(rows)) % 3 == 0
    assert ssim(restored, truth, PEAKS, kept) == pytest.approx(np.nanmean(rows[kept]))


def test_a_volume_scores_the_same_whatever_the_blocks(textured, rng, monkeypatch):
    truth = textured((2, 31, 16, 20))
    restored = truth + rng.integers(0, 1500, truth.shape).astype(np.uint16)
    whole = ssim_profile(restored, truth, PEAKS)
    monkeypatch.setattr("msdsr.metrics.similarity.BLOCK_VOXELS", 16 * 20 * 2)
    np.testing.assert_allclose(ssim_profile(restored, truth, PEAKS), whole, rtol=1e-12)


def test_what_is_too_thin_has_no_ssim(volumes):
    restored, truth = volumes
    assert np.isnan(ssim(restored[:, :10], truth[:, :10], PEAKS))
    at_the_end = np.arange(13) < 5
    assert np.isnan(ssim(restored, truth, PEAKS, at_the_end))


def test_each_channel_is_weighed_by_its_own_range(volumes):
    restored, truth = volumes
    same = psnr(restored[:, 3], truth[:, 3], np.array([10000, 10000]))
    assert psnr(restored[:, 3], truth[:, 3], np.array([20000, 20000])) == pytest.approx(
        same + 20 * np.log10(2)
    )


def test_a_dark_channel_is_left_out_of_nrmse():
    dark = np.zeros((2, 4, 4))
    assert np.isnan(nrmse(dark + 1, dark))
