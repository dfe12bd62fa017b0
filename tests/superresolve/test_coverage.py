import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, t

from msdsr.metrics.coverage import BINS_AN_OCTAVE, Coverage, half_width
from msdsr.superresolve.samples import Moments, moments_of, sample_seed

BIN = 2 ** (1 / BINS_AN_OCTAVE) - 1


def seen(true, claimed, n=200_000, seed=0):
    coverage = Coverage()
    rng = np.random.default_rng(seed)
    coverage.add(rng.normal(0, true, n), np.full(n, claimed))
    return coverage


@pytest.mark.parametrize("true", [0.3, 1.0, 2.5])
def test_the_scale_of_gaussian_errors_is_found_within_sampling_error(true):
    n = 200_000
    coverage = seen(true * 40, 40.0, n)
    # The quantile of |N(0, 1)| at 0.9 has the standard error √(0.9·0.1/n) / density.
    error = np.sqrt(0.09 / n) / (2 * norm.pdf(half_width(0.9))) / half_width(0.9)
    assert coverage.scale(0.9) == pytest.approx(true, rel=4 * error + BIN / 10)
    for level in (0.5, 0.68, 0.9, 0.99):
        wide = half_width(level) * coverage.scale(0.9)
        assert coverage.within(wide) == pytest.approx(level, abs=4 * 0.5 / np.sqrt(n) + 1e-3)


def test_few_samples_make_wider_intervals_and_the_scale_knows():
    # Of K samples, (truth − mean)/(s·√(1 + 1/K)) has Student's t with K − 1 degrees.
    k, n = 4, 200_000
    rng = np.random.default_rng(1)
    samples, truth = rng.normal(5, 2, (k, n)), rng.normal(5, 2, n)
    moments = moments_of(samples)
    coverage = Coverage()
    coverage.add(truth - moments.mean, moments.std)
    expected = t.ppf(0.95, k - 1) * np.sqrt(1 + 1 / k) / half_width(0.9)
    assert coverage.scale(0.9) == pytest.approx(expected, rel=0.02)
    assert coverage.within(half_width(0.9) * coverage.scale()) == pytest.approx(0.9, abs=1e-6)


def test_counts_add_up_over_blocks_and_survive_json():
    whole, one, other = Coverage(), Coverage(), Coverage()
    rng = np.random.default_rng(2)
    error, sigma = rng.normal(size=1000), rng.random(1000)
    sigma[::10] = 0
    whole.add(error, sigma)
    one.add(error[:300], sigma[:300])
    other.add(error[300:], sigma[300:])
    both = Coverage.from_json((one + other).to_json())
    np.testing.assert_array_equal(both.counts, whole.counts)
    assert both.without_sigma == whole.without_sigma == 100
    assert whole.voxels == 900


def test_an_exact_estimate_and_a_hopeless_one_are_counted_too():
    coverage = Coverage()
    coverage.add(np.array([0.0, 0.0, 1e30]), np.ones(3))
    assert coverage.voxels == 3
    assert coverage.within(1.0) == pytest.approx(2 / 3)
    assert np.isnan(Coverage().scale())


@given(k=st.integers(2, 7), offset=st.sampled_from([0.0, 30000.0]), seed=st.integers(0, 50))
def test_moments_are_those_of_the_whole_stack(k, offset, seed):
    rng = np.random.default_rng(seed)
    stack = np.rint(rng.normal(offset + 500, 100, (k, 2, 3, 4))).clip(0, 65535).astype(np.uint16)
    moments = moments_of(stack)
    np.testing.assert_allclose(moments.mean, stack.mean(0), rtol=1e-6)
    np.testing.assert_allclose(moments.std, stack.std(0, ddof=1), rtol=2e-3, atol=1e-2)
    same = moments_of([stack[0]] * k)
    np.testing.assert_array_equal(same.mean, stack[0])
    assert not same.std.any()


def test_one_volume_has_no_spread_and_none_no_mean():
    assert not moments_of([np.ones((1, 1), np.uint8)]).std.any()
    with pytest.raises(ValueError, match="no volume"):
        _ = Moments().mean


def test_samples_have_seeds_of_their_own_and_the_first_is_the_runs():
    assert sample_seed(7, 0) == 7
    assert len({sample_seed(s, k) for s in range(5) for k in range(5)}) == 25
