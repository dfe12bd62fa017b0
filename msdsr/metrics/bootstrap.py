"""How sure a figure is: patients drawn again and again, with all that is theirs.

Crops of one patient are alike, so they are not drawn one by one: a bootstrap over clusters (Field
and Welsh, J. R. Stat. Soc. B 69, 2007, 369). The reference of real images stays as it is. Features
are never computed again; each statistic is prepared once from its patients' features, and a draw
costs milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigvalsh

from msdsr.metrics.features import FeatureSums
from msdsr.metrics.mmd import Discrepancy, kept_rows

RESAMPLES = 500
SEED = 2024
LEVEL = 0.95
FEWEST_PATIENTS = 3
"""With fewer, draws are too alike to tell anything."""

DIRECTIONS = 256
SAMPLE = 1024

Array = NDArray[np.float64]
Statistic = Callable[[NDArray[np.int64]], float]
"""Numbers of drawn patients (repeats allowed) in, the figure of their images out."""


class Interval(NamedTuple):
    """Where the figure of other patients of the same kind would lie; nan where nobody knows."""

    low: float
    high: float


UNKNOWN = Interval(float("nan"), float("nan"))


def interval(
    statistic: Statistic,
    patients: int,
    *,
    value: float | None = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    level: float = LEVEL,
) -> Interval:
    """Return the bootstrap interval of a figure.

    Parameters
    ----------
    statistic
        Called once with all patients (unless `value` is given), and once a draw. One that takes
        several planes or methods together gives the interval of their mean or difference, with
        the same draws for each.
    patients
        Their number P; patients are 0 … P − 1.
    value
        The figure of all patients, where the statistic only comes near it (`FidOfPatients`).
    resamples
        Draws of P patients with replacement. The same number, seed and P give the same draws.
    seed
        Of the draws.
    level
        Share of draws inside.

    Returns
    -------
    Interval
        The quantiles of the drawn figures, moved so that their mean is the figure of all patients:
        a draw holds doubles, which raises every FID alike. nan with fewer than 3 patients.
    """
    if patients < FEWEST_PATIENTS:
        return UNKNOWN
    value = statistic(np.arange(patients)) if value is None else value
    rng = np.random.default_rng(seed)
    drawn = np.array([statistic(rng.integers(0, patients, patients)) for _ in range(resamples)])
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < 2 or not np.isfinite(value):
        return UNKNOWN
    tail = (1 - level) / 2
    low, high = np.quantile(drawn, (tail, 1 - tail)) - drawn.mean() + value
    return Interval(float(low), float(high))


def mean_of_patients(values: Mapping[str, Any]) -> Statistic:
    """Return the mean over the values (one a slide or an image) of the drawn patients.

    Parameters
    ----------
    values
        From a patient to its values, at least one each; nan is left out.
    """
    kept = [np.asarray(v, float).ravel() for v in values.values()]
    kept = [v[~np.isnan(v)] for v in kept]
    totals = np.array([v.sum() for v in kept])
    counts = np.array([len(v) for v in kept])

    def mean(chosen: NDArray[np.int64]) -> float:
        n = int(counts[chosen].sum())
        return float(totals[chosen].sum() / n) if n else float("nan")

    return mean


class FidOfPatients:
    """FID of drawn patients from fixed real images.

    Parameters
    ----------
    real
        Sums over the real images, D features.
    sample
        (n, D) rows of the restored images, an even sample of all patients' (see
        `msdsr.metrics.features.FeatureSet.sample`).
    patients
        Their number.

    Notes
    -----
    tr (Σ_r Σ_f)^½ needs Σ_r only where Σ_f is not 0. Σ_f is held to the 256 directions in which
    the restored images vary most, and to all of them where there are fewer images than that; the
    figure is then exact. Otherwise what varies in further directions is left out of every draw
    alike, which moves the figure: tell `interval` the true one.

    A draw of P patients holds some twice and a third not at all. The fewer different images, the
    higher an FID, so drawn FIDs vary more than those of other patients would: an interval is rather
    too wide than too narrow. Fewer directions lessen that.
    """

    def __init__(
        self, real: FeatureSums, sample: NDArray[Any], patients: int, directions: int = DIRECTIONS
    ) -> None:
        self._real_mean = real.mean
        self._origin = sample.mean(axis=0, dtype=np.float64)
        few = sample[kept_rows(len(sample), SAMPLE)].astype(np.float64) - self._origin
        # Directions of the rows, from the inner products of the smaller side.
        _, sizes, right = np.linalg.svd(few, full_matrices=False)
        rank = int((sizes > sizes[0] * 1e-7).sum()) if len(sizes) and sizes[0] > 0 else 1
        self._basis = right[: min(rank, directions)].T
        across = self._basis.T @ real.covariance @ self._basis
        values, vectors = np.linalg.eigh(across)
        self._half = vectors * np.sqrt(values.clip(min=0))
        self._real_trace = float(np.trace(real.covariance))
        k = self._basis.shape[1]
        self._n = np.zeros(patients)
        self._total = np.zeros((patients, len(self._origin)))
        self._outer = np.zeros((patients, k, k))

    def add(self, patient: int, rows: NDArray[Any]) -> None:
        """Add images of a patient, (n, D) features; a cohort can go by slide after slide."""
        if len(rows) == 0:
            return
        apart = rows.astype(np.float64) - self._origin
        coordinates = apart @ self._basis
        self._n[patient] += len(rows)
        self._total[patient] += apart.sum(axis=0)
        self._outer[patient] += coordinates.T @ coordinates

    @classmethod
    def of(cls, real: FeatureSums, rows_by_patient: Mapping[str, NDArray[Any]]) -> FidOfPatients:
        """Return the statistic of all patients' rows; patients count in their order."""
        rows = list(rows_by_patient.values())
        together = np.concatenate(rows)
        # More than a sample's worth of directions is never asked for.
        made = cls(real, together[kept_rows(len(together), SAMPLE)], len(rows))
        for patient, theirs in enumerate(rows):
            made.add(patient, theirs)
        return made

    def __call__(self, chosen: NDArray[np.int64]) -> float:
        """Return the FID of the drawn patients' images; nan of fewer than two images."""
        times = np.bincount(chosen, minlength=len(self._n)).astype(np.float64)
        n = float(times @ self._n)
        if n < 2:
            return float("nan")
        mean = times @ self._total / n
        inside = mean @ self._basis
        outer = np.einsum("p,pij->ij", times, self._outer)
        covariance = (outer - n * np.outer(inside, inside)) / (n - 1)
        inner = self._half.T @ covariance @ self._half
        root = float(np.sqrt(eigvalsh((inner + inner.T) / 2).clip(min=0)).sum())
        step = self._origin + mean - self._real_mean
        return float(step @ step + self._real_trace + np.trace(covariance) - 2 * root)


class DiscrepancyOfPatients:
    """KID or MMD of drawn patients from fixed real images.

    Parameters
    ----------
    discrepancy
        What depends on the real images, and the kernel.
    rows
        (n, D) features of restored images; of more than 5000, an even sample.
    patient_of_row
        Number of the patient that each row belongs to, 0 … P − 1, shape (n,).
    patients
        Their number P.

    Notes
    -----
    An image that was drawn twice is not compared with its double.
    """

    def __init__(
        self,
        discrepancy: Discrepancy,
        rows: NDArray[Any],
        patient_of_row: NDArray[np.integer[Any]],
        patients: int,
    ) -> None:
        kept = kept_rows(len(rows))
        owner = np.asarray(patient_of_row)[kept]
        order = np.argsort(owner, kind="stable")
        rows, owner = rows[kept][order].astype(np.float64), owner[order]
        bounds = np.searchsorted(owner, np.arange(patients + 1))
        parts = [rows[a:b] for a, b in pairwise(bounds)]
        self._scale = discrepancy.scale
        self._real_mean = discrepancy.real_mean
        self._n = np.diff(bounds).astype(np.float64)
        self._across = np.zeros(patients)
        self._within = np.zeros((patients, patients))
        self._same = np.zeros(patients)
        for p, mine in enumerate(parts):
            if not len(mine):
                continue
            self._across[p] = discrepancy.kernel(mine, discrepancy.real).mean(axis=1).sum()
            similar = discrepancy.kernel(mine, rows)
            self._same[p] = np.diagonal(similar[:, bounds[p] :]).sum()
            by_row = np.add.reduceat(similar.sum(axis=0), bounds[:-1][self._n > 0])
            self._within[p, self._n > 0] = by_row

    def __call__(self, chosen: NDArray[np.int64]) -> float:
        """Return the discrepancy of the drawn patients' images; nan where there is no pair."""
        times = np.bincount(chosen, minlength=len(self._n)).astype(np.float64)
        n = float(times @ self._n)
        pairs = n * n - float(times**2 @ self._n)
        if pairs <= 0:
            return float("nan")
        within = float(times @ self._within @ times - times**2 @ self._same) / pairs
        across = float(times @ self._across) / n
        return self._scale * (within + self._real_mean - 2 * across)
