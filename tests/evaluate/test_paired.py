import numpy as np
import pytest

from msdsr.evaluate.paired import paired_scores
from msdsr.evaluate.sources import Stored
from msdsr.metrics.similarity import PSNR_CEILING, psnr


@pytest.fixture
def volumes(textured, rng):
    truth = textured((2, 13, 24, 30))
    restored = truth + rng.integers(0, 1500, truth.shape).astype(np.uint16)
    return restored, truth


def scores_of(restored, truth, generated, count=100):
    found = paired_scores(Stored(restored), Stored(truth), generated, (20000, 20000), count)
    return {(s.plane, s.metric): s for s in found}


def test_acquired_planes_do_not_count(volumes):
    restored, truth = volumes
    generated = np.arange(13) % 2 == 1
    mended = restored.copy()
    mended[:, ~generated] = truth[:, ~generated]
    a, b = scores_of(restored, truth, generated), scores_of(mended, truth, generated)
    for plane in ("XY", "XZ", "YZ"):
        for metric in ("PSNR", "NRMSE"):
            assert a[plane, metric] == b[plane, metric]
    mended[:, generated] = truth[:, generated]
    assert scores_of(mended, truth, generated)["mean", "PSNR"].value == PSNR_CEILING
    assert scores_of(mended, truth, generated)["mean", "SSIM"].value == pytest.approx(1)


def test_slices_are_scored_one_by_one_then_averaged(volumes):
    restored, truth = volumes
    generated = np.arange(13) % 2 == 1
    found = scores_of(restored, truth, generated)
    each = [psnr(restored[:, z], truth[:, z], np.array([20000, 20000])) for z in range(1, 13, 2)]
    assert found["XY", "PSNR"].value == pytest.approx(np.mean(each))
    assert found["XY", "PSNR"].n == 6
    assert found["XZ", "SSIM"].n == 24
    assert found["YZ", "NRMSE"].n == 30
    assert found["mean", "SSIM"].value == pytest.approx(
        np.mean([found[p, "SSIM"].value for p in ("XY", "XZ", "YZ")])
    )


def test_the_cap_holds_and_thin_volumes_have_no_ssim_across(volumes):
    restored, truth = (v[:, :9] for v in volumes)
    found = scores_of(restored, truth, np.arange(9) % 2 == 1, count=3)
    assert found["XZ", "PSNR"].n == 3
    assert ("XY", "SSIM") in found
    assert ("XZ", "SSIM") not in found
    assert ("mean", "SSIM") not in found
