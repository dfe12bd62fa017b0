"""The numbers of a cohort, as evaluation published them: every table there is, in one form."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from msdsr.errors import UserError

ACQUIRED, TRUTH, REAL, CEILING = "acquired", "truth", "real", "ceiling"
FLOORS = (ACQUIRED, TRUTH, REAL, CEILING)
"""What is no method, and is scored beside them: how low, or how high, a score can be."""

BASELINES = ("nearest", "linear", "cubic")
LABELS = {
    ACQUIRED: "real planes",
    TRUTH: "true volume",
    REAL: "real against real",
    CEILING: "perfect restoration",
}
MEAN, THREE_D, ALL = "mean", "3D", "all"
PLANES = ("XY", "XZ", "YZ")

WHO = ("cohort", "factor", "method")
WHOSE = ("slide", "patient")
TABLES: Mapping[str, tuple[str, ...]] = {
    "slicefid": (
        *(*WHO, "protocol", "rescaling", "plane", "metric"),
        *("value", "low", "high", "se", "n"),
    ),
    "distance": (*WHO, "protocol", "rescaling", "distance", "metric", "value", "n"),
    "paired": (*WHO, "plane", "channel", "metric", "value", "low", "high", "n"),
    "slides": (*WHO, *WHOSE, "plane", "channel", "metric", "value", "n"),
    "spectra": (*WHO, "axis", "quantity", "frequency", "value", "n"),
    "heldout": (*WHO, "plane", "channel", "metric", "value", "low", "high", "n"),
    "heldout_slides": (*WHO, *WHOSE, "plane", "channel", "metric", "value", "n"),
    "uncertainty": (
        *(*WHO, *WHOSE, "against", "level", "coverage", "coverage_calibrated"),
        *("width", "width_calibrated", "n"),
    ),
    "hotspots": (*WHO, *WHOSE, "reason", "z", "y", "x", "side", "score"),
}  # fmt: skip
"""Every table, and its columns."""

WITHOUT: Mapping[str, Any] = {
    "protocol": "v2",
    "rescaling": "window",
    "channel": ALL,
    "against": "heldout",
}
"""What a column that an older evaluation did not write holds; other columns hold nothing (NaN)."""

TEXT = (
    *("cohort", "method", "slide", "patient", "plane", "channel", "metric"),
    *("protocol", "rescaling", "axis", "quantity", "reason", "against"),
)
REQUIRED = ("slicefid",)


@dataclass(frozen=True)
class Number:
    """A number with what is known of its certainty.

    Parameters
    ----------
    value
        The number.
    low, high
        Its 95 % interval; NaN where there is none.
    se
        Its standard error; NaN where there is none.
    n
        Images, slices or slides that stand behind it.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    se: float = math.nan
    n: int = 0

    @property
    def has_interval(self) -> bool:
        """Whether both ends of the interval are known."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def apart_from(self, other: Number) -> bool | None:
        """Tell whether two intervals do not overlap; None where one of them is missing."""
        if not (self.has_interval and other.has_interval):
            return None
        return self.high < other.low or other.high < self.low


Values = Mapping[tuple[str, str, str], Number]
"""From (method, plane, metric) to a number."""


@dataclass(frozen=True)
class Numbers:
    """The tables of a cohort.

    Parameters
    ----------
    tables
        From a table's name to its rows; empty where there are none.
    folder
        Where they were read.
    """

    tables: Mapping[str, pd.DataFrame]
    folder: Path

    def __getitem__(self, name: str) -> pd.DataFrame:
        """Return a table, with every column of `TABLES`."""
        return self.tables[name]

    def files(self) -> Iterator[Path]:
        """Yield the files of all tables that are there, CSV and parquet, in a fixed order."""
        for name in sorted({p.stem for p in self.folder.iterdir() if p.suffix in KINDS}):
            for kind in KINDS:
                if (path := self.folder / f"{name}{kind}").exists():
                    yield path

    def views(self) -> list[tuple[str, str]]:
        """Return the pairs of protocol and rescaling that were measured, the first one first."""
        table = self["slicefid"]
        found = set(zip(table["protocol"], table["rescaling"], strict=True))
        known = [view for view in VIEWS if view in found]
        return known + sorted(found - set(VIEWS))

    def factors(self) -> list[int]:
        """Return the factors that anything was measured at."""
        names = ("slicefid", "paired", "heldout")
        return sorted({int(f) for name in names for f in self[name]["factor"]})


KINDS = (".csv", ".parquet")
VIEWS = (("v2", "window"), ("v2", "equalised"), ("paper", "equalised"))
VIEW_LABELS = {
    ("v2", "window"): "one fixed window",
    ("v2", "equalised"): "equalised histograms",
    ("paper", "equalised"): "as the paper",
}


def view_label(view: tuple[str, str]) -> str:
    """Return a pair of protocol and rescaling in words."""
    return VIEW_LABELS.get(view, " · ".join(view))


def read_numbers(metrics: Path) -> Numbers:
    """Read the tables of a cohort; one that is missing is empty.

    Parameters
    ----------
    metrics
        What `msdsr.evaluate.evaluate_cohort` published.

    Raises
    ------
    UserError
        When the table of distances is missing, or a table is damaged.
    """
    for name in REQUIRED:
        path = metrics / f"{name}.parquet"
        if not path.exists():
            raise UserError(path, "missing", "a table of a cohort", "evaluate the cohort again")
    return Numbers({name: read_table(metrics, name) for name in TABLES}, metrics)


def read_table(metrics: Path, name: str) -> pd.DataFrame:
    """Read one of `TABLES`, with every column of it; one that is missing is empty.

    Raises
    ------
    UserError
        When it is damaged.
    """
    path, columns = metrics / f"{name}.parquet", TABLES[name]
    if not path.exists():
        return pd.DataFrame(columns=[*columns])
    try:
        return _complete(pd.read_parquet(path), columns)
    except (OSError, ValueError) as error:
        raise UserError(
            path, f"unreadable ({error})", "a table of a cohort", "evaluate the cohort again"
        ) from None


def _complete(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return a table with every column, names as text and rows without a value left out."""
    for column in columns:
        if column not in table.columns:
            table[column] = WITHOUT.get(column, math.nan)
    for column in set(columns) & set(TEXT):
        table[column] = table[column].astype(str)
    table = table[[*columns]]
    if "value" in columns:
        table = table[pd.to_numeric(table["value"]).notna()]
    return table.reset_index(drop=True)


def values_of(table: pd.DataFrame, **where: Any) -> dict[tuple[str, str, str], Number]:
    """Return the numbers of some rows by method, plane and metric.

    Parameters
    ----------
    table
        A table of `TABLES` with a plane and a metric.
    **where
        Columns, and what they must hold.
    """
    for column, wanted in where.items():
        table = table[table[column] == wanted]
    columns = [c if c in table.columns else None for c in ("value", "low", "high", "se")]
    found = {}
    for row in table.to_dict("records"):
        key = (str(row["method"]), str(row["plane"]), str(row["metric"]))
        value, low, high, se = (math.nan if c is None else float(row[c]) for c in columns)
        count = row["n"]
        found[key] = Number(value, low, high, se, int(count) if count == count else 0)
    return found


def order(methods: Sequence[str]) -> list[str]:
    """Return methods in the order of reading: baselines, methods, floors."""
    rank = {**dict.fromkeys(BASELINES, -2), ACQUIRED: 1, TRUTH: 2, REAL: 3, CEILING: 4}
    return sorted(
        dict.fromkeys(methods),
        key=lambda m: (rank.get(m, 0), BASELINES.index(m) if m in BASELINES else 0, m),
    )


def label_of(method: str) -> str:
    """Return what a method is called on the page."""
    return LABELS.get(method, method)


def fixed(value: float, digits: int, scale: float = 1.0) -> str:
    """Return a number with a fixed count of digits and a proper minus."""
    return f"{value * scale:.{digits}f}".replace("-", "−") if math.isfinite(value) else "–"
