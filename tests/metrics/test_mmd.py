import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msdsr.metrics.features import FeatureSet
from msdsr.metrics.mmd import Kid, Mmd, cubic, kept_rows, median_distance


def cubed(a, b):
    return (float(a.astype(float) @ b.astype(float)) / len(a) + 1) ** 3


def written_out(x, y, k):
    """The unbiased estimate as its definition has it."""
    return (
        np.mean([k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
        + np.mean([k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j])
        - 2 * np.mean([k(a, b) for a in x for b in y])
    )


@pytest.fixture
def pair(rng):
    return rng.random((7, 5)).astype(np.float32), rng.random((9, 5)).astype(np.float32)


def test_kid_is_the_estimator_written_out(pair):
    x, y = pair
    found = Kid(FeatureSet.of(x))(FeatureSet.of(y))
    assert found == pytest.approx(written_out(x, y, cubed), rel=1e-9)


def test_mmd_is_the_estimator_written_out_a_thousandfold(pair):
    x, y = pair
    sigma = np.median([np.linalg.norm(a - b) for i, a in enumerate(x) for b in x[:i]])
    assert median_distance(FeatureSet.of(x)) == pytest.approx(sigma, rel=1e-6)

    def k(a, b):
        return np.exp(-np.sum((a.astype(float) - b) ** 2) / (2 * sigma**2))

    found = Mmd(FeatureSet.of(x))(FeatureSet.of(y))
    assert found == pytest.approx(1000 * written_out(x, y, k), rel=1e-5)


@given(st.integers(3, 9), st.integers(3, 9), st.sampled_from([Kid, Mmd]))
def test_the_standard_error_is_the_jackknife_written_out(n, m, kind):
    rng = np.random.default_rng([n, m])
    x, y = rng.random((m, 4)), rng.random((n, 4)) + 0.2
    score = kind(FeatureSet.of(x))
    rows = [v.astype(np.float32).astype(float) for v in (x, y)]

    def without(i, j):
        out = zip(rows, (i, j), strict=True)
        kept = [v if k is None else np.delete(v, k, axis=0) for v, k in out]
        means = [score.kernel(v, v) for v in kept]
        inner = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in means]
        return score.scale * (sum(inner) - 2 * score.kernel(*kept).mean())

    variance = sum(
        (k - 1) / k * np.sum((values - np.mean(values)) ** 2)
        for k, values in (
            (m, [without(i, None) for i in range(m)]),
            (n, [without(None, j) for j in range(n)]),
        )
    )
    estimate = score.estimate(FeatureSet.of(y))
    assert estimate.value == pytest.approx(without(None, None), abs=1e-9)
    assert estimate.se == pytest.approx(np.sqrt(variance), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("kind", [Kid, Mmd])
def test_the_standard_error_is_that_of_other_draws(rng, kind):
    def draw(count, shift):
        return FeatureSet.of(rng.standard_normal((count, 12)) + shift)

    estimates = [kind(draw(80, 0)).estimate(draw(60, 0.3)) for _ in range(60)]
    spread = np.std([e.value for e in estimates], ddof=1)
    assert np.mean([e.se for e in estimates]) == pytest.approx(spread, rel=0.35)


@pytest.mark.parametrize("kind", [Kid, Mmd])
def test_no_bias_with_few_images(rng, kind):
    score = kind(FeatureSet.of(rng.standard_normal((400, 8))))
    for n in (5, 60):
        values = [score(FeatureSet.of(rng.standard_normal((n, 8)))) for _ in range(40)]
        assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(len(values))


def test_blocks_do_not_matter(rng, monkeypatch):
    x, y = FeatureSet.of(rng.random((23, 6))), FeatureSet.of(rng.random((17, 6)))
    whole = Kid(x).estimate(y)
    monkeypatch.setattr("msdsr.metrics.mmd.BLOCK", 4)
    assert Kid(x).estimate(y).value == pytest.approx(whole.value, rel=1e-9)
    assert Kid(x).estimate(y).se == pytest.approx(whole.se, rel=1e-9)


def test_two_images_have_a_value_but_no_error(pair):
    x, y = pair
    estimate = Kid(FeatureSet.of(x)).estimate(FeatureSet.of(y[:2]))
    assert np.isfinite(estimate.value)
    assert np.isnan(estimate.se)
    with pytest.raises(ValueError, match="two images"):
        Kid(FeatureSet.of(x)).estimate(FeatureSet.of(y[:1]))
    with pytest.raises(ValueError, match="two images"):
        Kid(FeatureSet.of(x[:1]))


def test_equal_images_give_no_width():
    with pytest.raises(ValueError, match="no width"):
        Mmd(FeatureSet.of(np.ones((5, 3))))


def test_rows_are_thinned_evenly():
    assert list(kept_rows(4, 5)) == [0, 1, 2, 3]
    assert list(kept_rows(9, 5)) == [0, 2, 4, 6, 8]
    assert cubic(np.ones((1, 4)), np.ones((1, 4))) == 8
