import time

import numpy as np
import pytest
from scipy.linalg import sqrtm

from msdsr.metrics.features import FeatureSet, FeatureSums
from msdsr.metrics.fid import fid, fid_notes, frechet_from_rows, frechet_from_sums, slice_mean
from msdsr.metrics.mmd import Kid


def by_matrix_root(x, y):
    cov_x, cov_y = np.cov(x.T), np.cov(y.T)
    step = x.mean(axis=0) - y.mean(axis=0)
    return step @ step + np.trace(cov_x + cov_y - 2 * sqrtm(cov_x @ cov_y).real)


@pytest.fixture
def pair(rng):
    def make(n, m, dimensions):
        mix = rng.standard_normal((dimensions, dimensions)) / np.sqrt(dimensions)
        x = rng.standard_normal((n, dimensions)) @ mix
        y = rng.standard_normal((m, dimensions)) * 1.4 + 0.3
        return x.astype(np.float32), y.astype(np.float32)

    return make


@pytest.mark.parametrize(("n", "m", "dimensions"), [(200, 150, 12), (300, 300, 48)])
def test_both_ways_give_scipys_matrix_root(pair, n, m, dimensions):
    x, y = pair(n, m, dimensions)
    expected = by_matrix_root(x.astype(float), y.astype(float))
    assert frechet_from_rows(x, y) == pytest.approx(expected, rel=1e-6)
    assert frechet_from_sums(FeatureSums.of(x), FeatureSums.of(y)) == pytest.approx(
        expected, rel=1e-6
    )


@pytest.mark.parametrize(("n", "m"), [(20, 30), (20, 100), (2, 100)])
def test_with_fewer_images_than_features_both_ways_agree(pair, n, m):
    x, y = pair(n, m, 64)
    rows = fid(FeatureSet.of(x), FeatureSet.of(y))
    assert rows == pytest.approx(frechet_from_sums(FeatureSums.of(x), FeatureSums.of(y)), rel=1e-5)
    assert rows == pytest.approx(fid(FeatureSet.of(y), FeatureSet.of(x)), rel=1e-9)


def test_a_set_is_at_distance_zero_from_itself_and_a_shift_adds_its_square(rng):
    x = rng.random((90, 16)).astype(np.float32)
    assert fid(FeatureSet.of(x), FeatureSet.of(x)) == pytest.approx(0, abs=1e-9)
    assert fid(FeatureSet.of(x), FeatureSet.of(x + 0.5)) == pytest.approx(16 * 0.25, rel=1e-5)


def test_sums_beyond_the_limit_give_the_same_distance(pair):
    x, y = pair(400, 300, 24)
    whole = fid(FeatureSet.of(x), FeatureSet.of(y))
    assert fid(FeatureSet.of(x, limit=50), FeatureSet.of(y, limit=50)) == pytest.approx(
        whole, rel=1e-9
    )


def test_few_images_make_fid_too_high_but_not_kid(rng):
    def draws(n):
        return [FeatureSet.of(rng.standard_normal((n, 32))) for _ in range(20)]

    real = FeatureSet.of(rng.standard_normal((500, 32)))
    kid = Kid(real)
    few, many = draws(20), draws(150)
    assert np.mean([fid(real, s) for s in few]) > 3 * np.mean([fid(real, s) for s in many])
    for draw in (few, many):
        values = [kid(s) for s in draw]
        assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))


def test_the_nuclear_norm_is_fast_at_full_size(rng):
    x, y = (rng.random((120, 2048)).astype(np.float32) for _ in range(2))
    start = time.perf_counter()
    value = fid(FeatureSet.of(x), FeatureSet.of(y))
    assert time.perf_counter() - start < 5
    assert value > 0


def test_one_image_has_no_covariance(rng):
    with pytest.raises(ValueError, match="two images"):
        fid(FeatureSet.of(rng.random((1, 4))), FeatureSet.of(rng.random((9, 4))))


def test_slicefid_is_the_mean_of_three_planes():
    assert slice_mean({"XY": 16.2, "YZ": 28.9, "XZ": 31.4, "XY generated": 99}) == pytest.approx(
        25.5, abs=0.05
    )


@pytest.mark.parametrize(("images", "word"), [(2, "singular"), (2048, "singular"), (2049, "10000")])
def test_a_reader_is_told_what_few_images_do(images, word):
    (note,) = fid_notes(images)
    assert word in note
    assert f"FID on {images} images" in note
    assert fid_notes(10_000) == []
