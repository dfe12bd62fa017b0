"""What two cohorts' numbers differ by, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from msdsr.report.numbers import ALL, FLOORS, PLANES, Number, Values
from msdsr.report.sides import Side

RESAMPLES, SEED = 2000, 0
FEWEST_PATIENTS = 3
"""With fewer, draws of patients are too alike to tell anything."""


class Measure(NamedTuple):
    """One measure as it is shown. ``better`` is ``low``, ``high`` or ``one`` (the nearer to 1)."""

    metric: str
    plane: str
    label: str
    better: str
    digits: int
    scale: float = 1.0


DISTANCES = (
    Measure("FID", "mean", "SliceFID", "low", 1),
    Measure("FID", "XY", "FID XY", "low", 1),
    Measure("FID", "XY generated", "FID XY generated", "low", 1),
    Measure("FID", "XZ", "FID XZ", "low", 1),
    Measure("FID", "YZ", "FID YZ", "low", 1),
    Measure("KID", "mean", "KID ×10³", "low", 2, 1000.0),
    Measure("MMD", "mean", "MMD ×10³", "low", 2),
)
SCORES = (
    Measure("PSNR", "mean", "PSNR (dB)", "high", 2),
    Measure("PSNR", "XY", "PSNR XY (dB)", "high", 2),
    Measure("SSIM", "mean", "SSIM", "high", 3),
    Measure("SSIM", "XY", "SSIM XY", "high", 3),
    Measure("SSIM", "3D", "SSIM 3D", "high", 3),
    Measure("NRMSE", "mean", "NRMSE", "low", 3),
    Measure("NRMSE", "XY", "NRMSE XY", "low", 3),
    Measure("LSD", "z", "log-spectral distance z (dB)", "low", 2),
    Measure("LAG1", "z", "lag-1 ratio z (1 is right)", "one", 3),
)


@dataclass(frozen=True)
class Difference:
    """B less A, with what its interval comes from; ``how`` is empty where there is none."""

    value: float
    low: float = math.nan
    high: float = math.nan
    how: str = ""


@dataclass(frozen=True)
class Compared:
    """One measure of one method in both cohorts."""

    measure: Measure
    a: Number
    b: Number
    difference: Difference
    verdict: str


def compare_measure(
    measure: Measure,
    a: Number,
    b: Number,
    slides: tuple[pd.DataFrame, pd.DataFrame],
    *,
    comparable: bool,
) -> Compared:
    """Return a measure of both sides with their difference, and what may be said of it.

    Parameters
    ----------
    measure
        Which it is.
    a, b
        The cohorts' figures.
    slides
        For each side the measure of every slide (columns slide, patient, value).
    comparable
        Whether the two were measured alike; if not, nothing is said of the difference.
    """
    difference = difference_of(*slides) if comparable else Difference(b.value - a.value)
    if not difference.how:
        difference = Difference(b.value - a.value)
    return Compared(measure, a, b, difference, _verdict(measure, a, b, difference, comparable))


def difference_of(a: pd.DataFrame, b: pd.DataFrame) -> Difference:
    """Return the difference of two means over slides with a bootstrap interval over patients.

    Where both sides hold the same slides the slides are paired, and the patients of the pairs are
    drawn; else the patients of each side are drawn by themselves. All slides of a drawn patient
    count (Field and Welsh, J. R. Stat. Soc. B 69, 2007, 369).

    Parameters
    ----------
    a, b
        Columns slide, patient, value; one row a slide.

    Returns
    -------
    Difference
        B less A, the 2.5 % and 97.5 % quantiles of 2000 draws; without an interval where either
        side has fewer than 3 patients.
    """
    if a.empty or b.empty:
        return Difference(math.nan)
    key = ["slide", "patient"]
    pairs = a.merge(b, on=key, suffixes=("_a", "_b"))
    rng = np.random.default_rng(SEED)
    if len(pairs) == len(a) == len(b):
        pairs["value"] = pairs["value_b"] - pairs["value_a"]
        if pairs["patient"].nunique() < FEWEST_PATIENTS:
            return Difference(float(pairs["value"].mean()))
        drawn = _draws(pairs, rng)
        how = f"paired, {pairs['patient'].nunique()} patients"
        return _interval(float(pairs["value"].mean()), drawn, how)
    value = float(b["value"].mean() - a["value"].mean())
    patients = [side["patient"].nunique() for side in (a, b)]
    if min(patients) < FEWEST_PATIENTS:
        return Difference(value)
    drawn = -_draws(a, rng) + _draws(b, rng)
    return _interval(value, drawn, f"{patients[0]} and {patients[1]} patients")


def _draws(slides: pd.DataFrame, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the mean over slides of as many draws of patients, each with all its slides."""
    groups = slides.groupby("patient")["value"]
    sums, counts = groups.sum().to_numpy(float), groups.count().to_numpy(float)
    picked = rng.integers(0, len(sums), (RESAMPLES, len(sums)))
    means: NDArray[np.float64] = sums[picked].sum(1) / counts[picked].sum(1)
    return means


def _interval(value: float, drawn: NDArray[np.float64], how: str) -> Difference:
    low, high = (float(v) for v in np.quantile(drawn, (0.025, 0.975)))
    return Difference(value, low, high, how)


def _verdict(
    measure: Measure, a: Number, b: Number, difference: Difference, comparable: bool
) -> str:
    if not comparable:
        return "not comparable"
    better = _better(measure, a.value, b.value)
    if difference.how:
        return better if difference.low > 0 or difference.high < 0 else "no difference shown"
    apart = a.apart_from(b)
    if apart is None:
        return "no interval: may be chance"
    return f"{better}: the intervals do not overlap" if apart else "the intervals overlap"


def _better(measure: Measure, a: float, b: float) -> str:
    if measure.better == "one":
        a, b = abs(math.log(max(a, 1e-12))), abs(math.log(max(b, 1e-12)))
    if a == b:
        return "equal"
    low = measure.better != "high"
    return "B is better" if (b < a) == low else "A is better"


def slide_values(
    side: Side, table: str, factor: int, method: str, measure: Measure
) -> pd.DataFrame:
    """Return a measure slide by slide; empty where it was not measured so, as FID never is.

    KID of the planes' mean is the mean of a slide's three planes, where it has all of them.
    """
    rows = side.tables[table]
    columns = ["slide", "patient", "value"]
    if rows.empty:
        return pd.DataFrame(columns=columns)
    rows = rows[
        (rows["factor"] == factor)
        & (rows["method"] == method)
        & (rows["metric"] == measure.metric)
        & (rows["channel"] == ALL)
    ]
    if measure.metric == "KID" and measure.plane == "mean":
        rows = rows[rows["plane"].isin(PLANES)]
        groups = rows.groupby(["slide", "patient"])["value"]
        means = groups.mean()[groups.count() == 3]
        return means.reset_index()[columns]
    return rows.loc[(rows["plane"] == measure.plane) & rows["value"].notna(), columns]


def methods_of(*found: Values) -> list[str]:
    """Return the methods that all sides hold, floors last."""
    shared = set.intersection(*({method for method, _, _ in each} for each in found))
    names = [method for method, _, _ in found[0] if method in shared]
    return sorted(dict.fromkeys(names), key=lambda m: FLOORS.index(m) + 1 if m in FLOORS else 0)
