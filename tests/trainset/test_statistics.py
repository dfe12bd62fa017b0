import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from msdsr.trainset.statistics import PERCENTILES, Histogram


def summarise(images, dtype):
    histogram = Histogram.empty(images[0].shape[0], np.dtype(dtype))
    for image in images:
        histogram.add(image)
    return [histogram.summary(c) for c in range(images[0].shape[0])]


@given(arrays(np.uint16, (3, 1, 5, 7)))
def test_integers_are_exact(images):
    (found,) = summarise(images, np.uint16)
    assert found["mean"] == pytest.approx(images.mean(dtype=np.float64), rel=1e-12)
    assert found["std"] == pytest.approx(images.std(dtype=np.float64), rel=1e-12, abs=1e-9)
    for percentile in PERCENTILES:
        exact = np.percentile(images, percentile, method="inverted_cdf")
        assert found["percentiles"][f"{percentile:g}"] == exact


@given(
    arrays(
        np.float32,
        (2, 1, 4, 9),
        elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=False),
    )
)
def test_floats_are_near(images):
    (found,) = summarise(images, np.float32)
    exact = images.astype(np.float64)
    assert found["mean"] == pytest.approx(exact.mean(), rel=1e-9, abs=1e-6)
    assert found["std"] == pytest.approx(exact.std(), rel=1e-4, abs=1e-1)
    for percentile in PERCENTILES:
        near = np.percentile(exact, percentile, method="inverted_cdf")
        assert found["percentiles"][f"{percentile:g}"] == pytest.approx(near, rel=0.004, abs=1e-37)


def test_parts_add_up(rng):
    images = rng.integers(0, 5000, (6, 2, 8, 8)).astype(np.uint16)
    whole, first, second = (Histogram.empty(2, np.dtype(np.uint16)) for _ in range(3))
    for image in images:
        whole.add(image)
    for image in images[:2]:
        first.add(image)
    for image in images[2:]:
        second.add(image)
    first.merge(second)
    assert first.summary(0) == whole.summary(0)
    assert first.summary(1) == whole.summary(1)
    assert whole.summary(0) != whole.summary(1)


def test_other_types_and_nothing_are_refused():
    with pytest.raises(ValueError, match="float64"):
        Histogram.empty(1, np.dtype(np.float64))
    with pytest.raises(ValueError, match="no pixel"):
        Histogram.empty(1, np.dtype(np.uint8)).summary(0)
