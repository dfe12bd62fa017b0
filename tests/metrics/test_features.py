import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msdsr.metrics.features import FeatureSet, FeatureSums


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(3, 30))
def test_however_rows_arrive_the_sums_are_those_of_all(parts, limit):
    rows = np.random.default_rng(sum(parts)).random((sum(parts), 5)).astype(np.float32)
    if len(rows) < 2:
        return
    features = FeatureSet(limit)
    for part in np.split(rows, np.cumsum(parts)[:-1]):
        features.add(part)
    assert features.n == len(rows)
    assert features.complete == (len(rows) <= limit)
    sums = features.sums()
    assert sums.mean == pytest.approx(rows.mean(axis=0), rel=1e-5)
    assert sums.covariance == pytest.approx(np.cov(rows.T.astype(float)), rel=1e-6, abs=1e-9)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=10))
def test_beyond_the_limit_an_even_sample_is_kept(parts):
    numbers = np.arange(sum(parts), dtype=np.float32)[:, None]
    features = FeatureSet(limit=16)
    for part in np.split(numbers, np.cumsum(parts)[:-1]):
        features.add(part)
    kept = features.sample[:, 0]
    assert len(kept) <= 16
    steps = np.diff(kept)
    assert (steps == steps[0]).all() if len(steps) else True
    assert kept[0] == 0
    assert len(kept) >= min(8, len(numbers))


def test_sums_add_up(rng):
    rows = rng.random((30, 4))
    together = FeatureSums.of(rows[:11]) + FeatureSums.of(rows[11:])
    assert together.n == 30
    assert together.covariance == pytest.approx(FeatureSums.of(rows).covariance)


def test_an_empty_set_has_no_sample():
    with pytest.raises(ValueError, match="no features"):
        _ = FeatureSet().sample
