import numpy as np
import pytest

from msdsr.evaluate import blocks
from msdsr.evaluate.paired import paired_scores
from msdsr.evaluate.sources import Stored
from msdsr.metrics.similarity import PSNR_CEILING, psnr, ssim
from msdsr.volume import Region


@pytest.fixture
def volumes(textured, rng):
    truth = textured((2, 13, 24, 30))
    restored = truth + rng.integers(0, 1500, truth.shape).astype(np.uint16)
    return restored, truth


def scores_of(restored, truth, generated, count=100, channel="all"):
    found = paired_scores(
        Stored(restored), Stored(truth), generated, (20000, 20000), count, ("CH2", "CH3")
    )
    return {(s.plane, s.metric): s for s in found if s.channel == channel}


def test_acquired_planes_do_not_count(volumes):
    restored, truth = volumes
    generated = np.arange(13) % 2 == 1
    mended = restored.copy()
    mended[:, ~generated] = truth[:, ~generated]
    a, b = scores_of(restored, truth, generated), scores_of(mended, truth, generated)
    for plane in ("XY", "XZ", "YZ", "3D"):
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


def test_the_volume_is_scored_as_one(volumes):
    restored, truth = volumes
    generated = np.arange(13) % 2 == 1
    found = scores_of(restored, truth, generated)
    peaks = np.array([20000, 20000])
    error = psnr(restored[:, generated], truth[:, generated], peaks)
    assert found["3D", "PSNR"].value == pytest.approx(error)
    assert found["3D", "SSIM"].value == pytest.approx(ssim(restored, truth, peaks, generated))
    assert found["3D", "SSIM"].n == 1


def test_each_channel_has_scores_of_its_own(volumes):
    restored, truth = volumes
    generated = np.arange(13) % 2 == 1
    mixed = np.stack([truth[0], restored[1]])
    first, second, both = (
        scores_of(mixed, truth, generated, channel=c) for c in ("CH2", "CH3", "all")
    )
    assert first["XZ", "PSNR"].value == PSNR_CEILING
    assert first["z", "LAG1"].value == pytest.approx(1)
    assert first["z", "LSD"].value == pytest.approx(0)
    assert second["z", "LAG1"].value == pytest.approx(both["z", "LAG1"].value ** 2)
    assert second["XZ", "SSIM"].value < both["XZ", "SSIM"].value < first["XZ", "SSIM"].value


def test_spectra_and_steps_see_a_blur_along_z(textured):
    truth = textured((2, 32, 40, 40))
    blurred = (truth[:, :-1].astype(float) + truth[:, 1:]) / 2
    found = scores_of(blurred.astype(np.uint16), truth[:, :-1], np.ones(31, bool))
    assert found["z", "LAG1"].value < 0.95
    assert found["x", "LAG1"].value > found["z", "LAG1"].value + 0.03
    assert found["z", "LSD"].value > 3 * found["x", "LSD"].value


class Watched(Stored):
    """A volume that remembers how much was read at a time."""

    largest = 0

    def read(self, region):
        self.largest = max(self.largest, int(np.prod(region.shape)))
        return super().read(region)


def test_a_large_slide_is_taken_in_parts(textured, monkeypatch):
    truth = textured((2, 13, 40, 90))
    restored = truth + 700
    whole = scores_of(restored, truth, np.arange(13) % 2 == 1)
    monkeypatch.setattr(blocks, "SIDE", 32)
    source = Watched(restored)
    found = paired_scores(
        source, Stored(truth), np.arange(13) % 2 == 1, (20000, 20000), 100, ("CH2", "CH3")
    )
    parts = {(s.plane, s.metric): s for s in found if s.channel == "all"}
    assert source.largest == 13 * 20 * 30
    assert parts["3D", "PSNR"].n == 6
    assert parts["mean", "PSNR"].value == pytest.approx(whole["mean", "PSNR"].value)


def test_of_a_very_large_slide_a_few_parts_with_tissue_are_taken():
    tissue = np.zeros((5120, 5120), bool)
    tissue[:, 2560:] = True
    found = blocks.blocks_of((20, 5120, 5120), tissue)
    assert len(found) == blocks.MOST
    assert all(block.x0 >= 2560 and block.shape == (20, 512, 512) for block in found)
    assert {block.y0 // 1024 for block in found} == {0, 1, 2, 3, 4}
    assert blocks.blocks_of((5, 100, 200)) == [Region(0, 5, 0, 100, 0, 200)]
