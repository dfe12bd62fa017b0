"""How far restored slices are from real ones: FID, KID and MMD, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msdsr.evaluate.pool import Pool, Pooled
from msdsr.evaluate.slices import PLANES
from msdsr.metrics.bootstrap import FEWEST_PATIENTS as FEWEST
from msdsr.metrics.bootstrap import (
    UNKNOWN,
    DiscrepancyOfPatients,
    FidOfPatients,
    Interval,
    Statistic,
    interval,
)
from msdsr.metrics.features import FeatureSet
from msdsr.metrics.fid import fid, slice_mean
from msdsr.metrics.mmd import Kid, Mmd

FID, KID, MMD = "FID", "KID", "MMD"
MEAN = "mean"
Row = dict[str, Any]


@dataclass(frozen=True)
class Sureness:
    """How the intervals are drawn."""

    patients: int
    resamples: int
    seed: int

    @property
    def possible(self) -> bool:
        """Whether there are any."""
        return self.why_not() is None

    def why_not(self) -> str | None:
        """Say why there are no intervals; None where there are."""
        if self.resamples == 0:
            return "none: evaluate.bootstrap is 0"
        if self.patients < FEWEST:
            return f"none: {self.patients} patients, fewer than {FEWEST}"
        return None

    def interval(self, statistic: Statistic, value: float) -> Interval:
        """Return the 95 % interval of a figure; nan where there is none."""
        if not self.possible:
            return UNKNOWN
        return interval(
            statistic, self.patients, value=value, resamples=self.resamples, seed=self.seed
        )


class Ruler:
    """Real images, and everything that depends on them alone.

    Parameters
    ----------
    features
        (m, D) of the real images, at least two.
    """

    def __init__(self, features: NDArray[Any]) -> None:
        self.real = FeatureSet.of(features)
        self._sums = self.real.sums()
        self.kid = Kid(self.real)
        try:
            self.mmd: Mmd | None = Mmd(self.real)
        except ValueError:
            # Real images that are all the same give its kernel no width.
            self.mmd = None

    def measure(self, images: FeatureSet) -> Iterator[tuple[str, float, float]]:
        """Yield metric, value and standard error (nan but for KID) of at least two images."""
        yield FID, fid(self.real, images), float("nan")
        found = self.kid.estimate(images)
        yield KID, found.value, found.se
        if self.mmd is not None:
            yield MMD, self.mmd(images), float("nan")

    def drawn(self, metric: str, pool: Pool, patients: int) -> Statistic:
        """Return the figure as a function of drawn patients."""
        rows, owner = pool.features.sample, pool.patient_of_row
        if metric != FID:
            discrepancy = self.kid if metric == KID or self.mmd is None else self.mmd
            return _Remembered(DiscrepancyOfPatients(discrepancy, rows, owner, patients))
        statistic = FidOfPatients(self._sums, rows, patients)
        for patient in range(patients):
            statistic.add(patient, rows[owner == patient])
        return _Remembered(statistic)


class _Remembered:
    """A statistic that works out each draw once: the mean of planes asks for all of them again."""

    def __init__(self, statistic: Statistic) -> None:
        self._statistic = statistic
        self._known: dict[bytes, float] = {}

    def __call__(self, chosen: NDArray[np.int64]) -> float:
        key = chosen.tobytes()
        if key not in self._known:
            self._known[key] = self._statistic(chosen)
        return self._known[key]


def distance_rows(pooled: Pooled, ruler: Ruler, sure: Sureness) -> Iterator[Row]:
    """Yield FID, KID and MMD of each plane, and their means over XY, XZ and YZ.

    The row of plane ``mean`` and metric ``FID`` is SliceFID (paper, Eq. 10). The standard error
    of a mean of KIDs is the mean of theirs: no less than its own, as the planes share the real
    images.
    """
    found: dict[str, dict[str, tuple[float, float, int]]] = {}
    statistics: dict[str, dict[str, Statistic]] = {}
    for plane, pool in pooled.planes.items():
        if pool.n < 2:
            continue
        for metric, value, se in ruler.measure(pool.features):
            low, high = UNKNOWN
            if sure.possible:
                statistic = ruler.drawn(metric, pool, sure.patients)
                statistics.setdefault(metric, {})[plane] = statistic
                low, high = sure.interval(statistic, value)
            found.setdefault(metric, {})[plane] = (value, se, pool.n)
            yield figure_row(plane, metric, value, Interval(low, high), se, pool.n)
    for metric, by_plane in found.items():
        if all(plane in by_plane for plane in PLANES):
            value = slice_mean({plane: by_plane[plane][0] for plane in PLANES})
            se = float(np.mean([by_plane[plane][1] for plane in PLANES]))
            between = UNKNOWN
            if sure.possible:
                between = sure.interval(_mean_of(statistics[metric]), value)
            yield figure_row(MEAN, metric, value, between, se, min(by_plane[p][2] for p in PLANES))


def _mean_of(statistics: Mapping[str, Statistic]) -> Callable[[NDArray[np.int64]], float]:
    return lambda chosen: slice_mean({plane: statistics[plane](chosen) for plane in PLANES})


def figure_row(plane: str, metric: str, value: float, between: Interval, se: float, n: int) -> Row:
    """Return a row of the table of distances, but for whose it is."""
    return {
        "plane": plane,
        "metric": metric,
        "value": value,
        "low": between.low,
        "high": between.high,
        "se": se,
        "n": n,
    }


def resolved_rows(pooled: Pooled, ruler: Ruler) -> Iterator[Row]:
    """Yield FID and KID of XY crops by their planes from the nearest acquired one."""
    for distance, pool in sorted(pooled.distances.items()):
        if pool.n < 2:
            continue
        for metric, value, _ in ruler.measure(pool.features):
            if metric != MMD:
                yield {"distance": distance, "metric": metric, "value": value, "n": pool.n}


def worst_plane(rows: list[Row]) -> str | None:
    """Return the plane of XY, XZ and YZ with the largest FID; None where there is no FID."""
    values = {r["plane"]: r["value"] for r in rows if r["metric"] == FID and r["plane"] in PLANES}
    return max(values, key=lambda plane: values[plane]) if values else None
