"""Coverage and sharpness of the standard deviation, where the right answer is known."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from msdsr.config import EvaluateConfig
from msdsr.evaluate.heldout import open_held
from msdsr.evaluate.sources import Stored
from msdsr.evaluate.uncertainty import held_uncertainty, true_uncertainty
from msdsr.manifest import Manifest, write_manifest
from msdsr.volume import VoxelSize, write_volume

PEAKS = [1000.0, 2000.0]
SIGMA = 50.0
NAMES = ("CH2", "CH3")


@pytest.fixture
def sampled(tmp_path):
    """A restoration at 4× whose errors are normal with σ 50, and which claims ``claimed``."""

    def make(claimed, scales=(1.0, 1.0), planes=9, flat=False, shape=(40, 50)):
        rng = np.random.default_rng(6)
        truth = np.full((2, planes, *shape), 500, np.float32)
        acquired = tmp_path / "denoised.ome.zarr"
        write_volume(acquired, truth, VoxelSize(1.0, 0.5, 0.5), NAMES)
        fine = np.full((2, 2 * (planes - 1) + 1, *shape), 500, np.float32)
        restored = fine + rng.normal(0, SIGMA, fine.shape).astype(np.float32)
        sigma = np.full_like(fine, claimed) * np.array(scales, np.float32)[:, None, None, None]
        if flat:
            sigma[..., :25] = 0
        sigma[:, ::4] = 0
        store = tmp_path / "msdsr_4x.ome.zarr"
        for path, voxels in ((store, restored), (tmp_path / "msdsr_4x_std.ome.zarr", sigma)):
            said = {"scales": dict(zip(NAMES, scales, strict=True)), "calibrated": scales != (1, 1)}
            write_volume(path, voxels, VoxelSize(0.5, 0.5, 0.5), NAMES, provenance=said)
            write_manifest(path, Manifest(stage="superresolve", algorithm=1))
        held = open_held(acquired, {"msdsr": store}, {}, 4, EvaluateConfig(heldout="whole"))
        return held, fine, restored, tmp_path / "msdsr_4x_std.ome.zarr"

    return make


def test_an_honest_sigma_covers_what_it_says_and_an_overconfident_one_is_mended(sampled):
    held, *_ = sampled(SIGMA)
    table = pd.DataFrame(held_uncertainty(held, "msdsr", PEAKS))
    assert set(table.against) == {"heldout"}
    assert list(table.level) == [0.5, 0.8, 0.9, 0.95]
    np.testing.assert_allclose(table.coverage, table.level, atol=0.015)
    np.testing.assert_allclose(table.coverage_calibrated, table.level, atol=0.015)
    # Both channels have one σ; the width is over the data range of each.
    wide = 2 * norm.ppf((1 + table.level) / 2) * SIGMA * np.mean(1 / np.array(PEAKS))
    np.testing.assert_allclose(table.width, wide, rtol=1e-3)
    assert set(table.n) == {2 * 4 * 40 * 50}

    held, *_ = sampled(SIGMA / 2)
    table = pd.DataFrame(held_uncertainty(held, "msdsr", PEAKS))
    expected = 2 * norm.cdf(norm.ppf((1 + table.level) / 2) / 2) - 1
    np.testing.assert_allclose(table.coverage, expected, atol=0.015)
    np.testing.assert_allclose(table.coverage_calibrated, table.level, atol=0.015)
    np.testing.assert_allclose(table.width_calibrated, wide, rtol=0.05)


def test_the_scales_of_the_store_are_taken_out_before_it_is_judged(sampled):
    raw = held_uncertainty(sampled(SIGMA / 2)[0], "msdsr", PEAKS)
    scaled = held_uncertainty(sampled(SIGMA / 2, (3.0, 0.5))[0], "msdsr", PEAKS)
    pd.testing.assert_frame_equal(pd.DataFrame(raw), pd.DataFrame(scaled), rtol=1e-3)


def test_no_plane_calibrates_itself(sampled):
    held, *_ = sampled(SIGMA, planes=3)  # a single held-out plane
    table = pd.DataFrame(held_uncertainty(held, "msdsr", PEAKS))
    np.testing.assert_allclose(table.coverage, table.level, atol=0.03)
    assert table.coverage_calibrated.isna().all()
    assert table.width_calibrated.isna().all()


def test_against_a_truth_the_run_is_judged_with_its_own_scales(sampled):
    _, fine, restored, spread = sampled(SIGMA / 2, (2.0, 2.0))
    rows = [z for z in range(fine.shape[1]) if z % 4]
    found = true_uncertainty(Stored(restored), spread, Stored(fine), rows, PEAKS)
    table = pd.DataFrame(found)
    assert set(table.against) == {"truth"}
    np.testing.assert_allclose(table.coverage_calibrated, table.level, atol=0.01)
    np.testing.assert_allclose(2 * table.width, table.width_calibrated, rtol=1e-4)
    _, _, restored, spread = sampled(SIGMA)
    table = pd.DataFrame(true_uncertainty(Stored(restored), spread, Stored(fine), rows, PEAKS))
    np.testing.assert_allclose(table.coverage, table.level, atol=0.01)
    assert table.coverage_calibrated.isna().all()


def test_background_without_a_sigma_does_not_count(sampled):
    _, fine, restored, spread = sampled(SIGMA, flat=True)
    rows = [z for z in range(fine.shape[1]) if z % 4]
    table = pd.DataFrame(true_uncertainty(Stored(restored), spread, Stored(fine), rows, PEAKS))
    assert set(table.n) == {2 * len(rows) * 40 * 25}
    np.testing.assert_allclose(table.coverage, table.level, atol=0.015)
    assert true_uncertainty(Stored(restored), spread, Stored(fine), [0, 4], PEAKS) == []
