import numpy as np
import pytest

from msdsr.metrics.bootstrap import (
    DiscrepancyOfPatients,
    FidOfPatients,
    interval,
    mean_of_patients,
)
from msdsr.metrics.features import FeatureSet, FeatureSums
from msdsr.metrics.fid import fid
from msdsr.metrics.mmd import Kid, Mmd

D = 24


@pytest.fixture
def cohort(rng):
    """Real rows, and the restored rows of five patients, each with a look of its own."""
    real = rng.standard_normal((300, D)).astype(np.float32)
    patients = {
        f"p{i}": (rng.standard_normal((n, D)) + 0.4 * rng.standard_normal(D)).astype(np.float32)
        for i, n in enumerate((30, 20, 41, 30, 12))
    }
    return real, patients


def drawn_rows(patients, chosen):
    return np.concatenate([list(patients.values())[i] for i in chosen])


CHOSEN = np.array([0, 2, 2, 4, 2])


@pytest.mark.parametrize("n_each", [41, 4])
def test_a_drawn_fid_is_that_of_the_drawn_rows(cohort, n_each):
    real, patients = cohort
    patients = {name: rows[:n_each] for name, rows in patients.items()}
    statistic = FidOfPatients.of(FeatureSums.of(real), patients)
    for chosen in (np.arange(5), CHOSEN, np.array([3, 3, 3, 3, 3])):
        expected = fid(FeatureSet.of(real), FeatureSet.of(drawn_rows(patients, chosen)))
        assert statistic(chosen) == pytest.approx(expected, rel=1e-6)


def test_slides_can_be_added_one_by_one(cohort):
    real, patients = cohort
    whole = FidOfPatients.of(FeatureSums.of(real), patients)
    parts = FidOfPatients(FeatureSums.of(real), drawn_rows(patients, range(5)), 5)
    for number, rows in enumerate(patients.values()):
        parts.add(number, rows[:7])
        parts.add(number, rows[7:])
        parts.add(number, rows[:0])
    assert parts(CHOSEN) == pytest.approx(whole(CHOSEN), rel=1e-9)


def test_fewer_directions_keep_the_spread_of_the_draws(cohort, rng):
    """As with Inception, most directions hardly vary."""
    real, patients = cohort
    size = 1.0 / np.arange(1, D + 1)
    real, patients = real * size, {name: rows * size for name, rows in patients.items()}
    exact = FidOfPatients.of(FeatureSums.of(real), patients)
    few = FidOfPatients(FeatureSums.of(real), drawn_rows(patients, range(5)), 5, directions=8)
    for number, rows in enumerate(patients.values()):
        few.add(number, rows)
    draws = rng.integers(0, 5, (40, 5))
    exactly, nearly = (np.array([s(chosen) for chosen in draws]) for s in (exact, few))
    assert np.corrcoef(exactly, nearly)[0, 1] > 0.99
    assert np.std(nearly) == pytest.approx(np.std(exactly), rel=0.05)


@pytest.mark.parametrize("kind", [Kid, Mmd])
def test_a_drawn_discrepancy_leaves_doubles_out(cohort, kind):
    real, patients = cohort
    score = kind(FeatureSet.of(real))
    owner = np.repeat(np.arange(5), [len(rows) for rows in patients.values()])
    shuffled = np.random.default_rng(1).permutation(len(owner))
    rows = drawn_rows(patients, range(5))[shuffled]
    statistic = DiscrepancyOfPatients(score, rows, owner[shuffled], 5)
    together = score(FeatureSet.of(drawn_rows(patients, range(5))))
    assert statistic(np.arange(5)) == pytest.approx(together, rel=1e-9, abs=1e-12)
    drawn = drawn_rows(patients, CHOSEN).astype(float)
    name = np.concatenate([np.flatnonzero(owner == p) for p in CHOSEN])
    similar = score.kernel(drawn, drawn)[name[:, None] != name]
    across = score.kernel(drawn, score.real)
    expected = score.scale * (similar.mean() + score.real_mean - 2 * across.mean())
    assert statistic(CHOSEN) == pytest.approx(expected, rel=1e-9)


def test_patients_without_images_change_nothing(cohort):
    real, patients = cohort
    score, rows = Kid(FeatureSet.of(real)), patients["p0"]
    for owners in (np.zeros(30, int), np.full(30, 2), np.repeat([0, 2], 15)):
        statistic = DiscrepancyOfPatients(score, rows, owners, 4)
        assert statistic(np.arange(4)) == pytest.approx(score(FeatureSet.of(rows)), abs=1e-12)
        assert np.isnan(statistic(np.array([1, 1, 3, 3])))
    statistic = FidOfPatients(FeatureSums.of(real), rows, 2)
    statistic.add(1, rows)
    assert np.isnan(statistic(np.array([0, 0])))


def test_the_interval_of_a_mean_is_that_of_its_standard_error(rng):
    values = {str(i): rng.normal(i % 7, 0.1, 5) for i in range(80)}
    means = np.array([v.mean() for v in values.values()])
    margin = 1.96 * means.std(ddof=1) / np.sqrt(80)
    low, high = interval(mean_of_patients(values), 80, resamples=2000)
    assert low == pytest.approx(means.mean() - margin, abs=0.12 * margin)
    assert high == pytest.approx(means.mean() + margin, abs=0.12 * margin)


def test_crops_of_one_patient_are_not_taken_as_many(rng):
    few = {str(i): np.repeat(rng.normal(), 1000) for i in range(6)}
    low, high = interval(mean_of_patients(few), 6)
    assert high - low > 0.5


def test_draws_are_seeded_and_the_figure_may_be_told(rng):
    statistic = mean_of_patients({str(i): rng.normal(size=3) for i in range(9)})
    assert interval(statistic, 9, seed=1) == interval(statistic, 9, seed=1)
    assert interval(statistic, 9, seed=1) != interval(statistic, 9, seed=2)
    moved = interval(statistic, 9, value=statistic(np.arange(9)) + 5)
    assert moved.low == pytest.approx(interval(statistic, 9).low + 5)


def test_two_patients_tell_nothing():
    assert np.isnan(interval(mean_of_patients({"a": [1], "b": [2]}), 2)).all()
    assert np.isnan(interval(mean_of_patients({k: [np.nan] for k in "abc"}), 3)).all()
