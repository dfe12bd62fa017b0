"""The numbers of a cohort, as rows and sentences."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

ACQUIRED, TRUTH = "acquired", "truth"
BASELINES = ("nearest", "linear")
LABELS = {
    ACQUIRED: "real planes",
    TRUTH: "true volume",
    "nearest": "nearest",
    "linear": "linear",
}
FEW_SLIDES = 5
PLANES = ("XY", "XZ", "YZ")
WHO = ("slide", "patient", "factor")


@dataclass(frozen=True)
class Column:
    """One column of a factor's table."""

    plane: str
    metric: str
    label: str
    unit: str
    low_is_good: bool
    show: Callable[[float], str]


def _fixed(digits: int, scale: float = 1.0) -> Callable[[float], str]:
    return lambda value: f"{value * scale:.{digits}f}".replace("-", "−")


COLUMNS = (
    Column("mean", "FID", "SliceFID", "", True, _fixed(1)),
    Column("XY", "FID", "XY", "FID", True, _fixed(1)),
    Column("XY generated", "FID", "XY generated", "FID", True, _fixed(1)),
    Column("XZ", "FID", "XZ", "FID", True, _fixed(1)),
    Column("YZ", "FID", "YZ", "FID", True, _fixed(1)),
    Column("mean", "KID", "KID", "×10³", True, _fixed(1, 1000)),
    Column("mean", "PSNR", "PSNR", "dB", False, _fixed(2)),
    Column("mean", "SSIM", "SSIM", "", False, _fixed(3)),
)


@dataclass(frozen=True)
class Cell:
    """One number as it is shown; nothing where it was not measured."""

    text: str
    best: bool
    detail: str


@dataclass(frozen=True)
class Row:
    """One method's numbers."""

    method: str
    label: str
    floor: bool
    cells: tuple[Cell, ...]
    n: str


@dataclass(frozen=True)
class FactorTable:
    """What was measured at one factor."""

    factor: int
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    verdict: tuple[str, ...]
    headline: str


def read_tables(metrics: Path) -> pd.DataFrame:
    """Return the distances and the paired scores of a cohort in one tidy table."""
    tables = [pd.read_parquet(metrics / f"{name}.parquet") for name in ("slicefid", "paired")]
    return pd.concat([table for table in tables if len(table)], ignore_index=True)


def order(methods: Sequence[str]) -> list[str]:
    """Return methods in the order of reading: baselines, methods, floors."""
    rank = {**dict.fromkeys(BASELINES, -2), ACQUIRED: 1, TRUTH: 2}
    return sorted(
        dict.fromkeys(methods),
        key=lambda m: (rank.get(m, 0), BASELINES.index(m) if m in BASELINES else 0, m),
    )


def factor_tables(numbers: pd.DataFrame, slides: int) -> list[FactorTable]:
    """Return one table a factor, best values marked, floors last.

    Parameters
    ----------
    numbers
        Columns factor, method, plane, metric, value, n.
    slides
        How many slides stand behind them.
    """
    tables = []
    for factor in sorted(int(f) for f in numbers["factor"].unique()):
        part = numbers[numbers["factor"] == factor]
        values = {
            (str(m), str(p), str(k)): (float(v), int(n))
            for m, p, k, v, n in part[["method", "plane", "metric", "value", "n"]].itertuples(
                index=False
            )
        }
        tables.append(_factor_table(factor, values, slides))
    return tables


Values = Mapping[tuple[str, str, str], tuple[float, int]]


def _factor_table(factor: int, values: Values, slides: int) -> FactorTable:
    methods = order([method for method, _, _ in values])
    columns = tuple(
        column
        for column in COLUMNS
        if any((m, column.plane, column.metric) in values for m in methods)
    )
    rows = tuple(_row(method, columns, values, methods) for method in methods)
    headline, verdict = _verdict(factor, values, methods, slides)
    return FactorTable(factor, columns, rows, verdict, headline)


def _row(method: str, columns: Sequence[Column], values: Values, methods: Sequence[str]) -> Row:
    cells = []
    for column in columns:
        found = values.get((method, column.plane, column.metric))
        if found is None:
            cells.append(Cell("–", False, "not measured"))
            continue
        what = "slices" if column.metric in ("PSNR", "SSIM", "NRMSE") else "images"
        best = method == _best(column.plane, column.metric, column.low_is_good, values, methods)
        cells.append(Cell(column.show(found[0]), best, f"{found[1]} {what}"))
    counts = [values[method, p, "FID"][1] for p in PLANES if (method, p, "FID") in values]
    n = (
        "–"
        if not counts
        else str(min(counts))
        if min(counts) == max(counts)
        else f"{min(counts)}–{max(counts)}"
    )
    return Row(method, LABELS.get(method, method), method in (ACQUIRED, TRUTH), tuple(cells), n)


def _best(
    plane: str, metric: str, low_is_good: bool, values: Values, methods: Sequence[str]
) -> str | None:
    """Return the method with the best value, or None when there is nothing to compare."""
    found = {
        m: values[m, plane, metric][0]
        for m in methods
        if m not in (ACQUIRED, TRUTH) and (m, plane, metric) in values
    }
    if len(found) < 2:
        return None
    return min(found, key=lambda m: found[m] if low_is_good else -found[m])


def _verdict(
    factor: int, values: Values, methods: Sequence[str], slides: int
) -> tuple[str, tuple[str, ...]]:
    """Say in words what the table says: a headline, and what supports or limits it."""
    best = _best("mean", "FID", True, values, methods)
    if best is None:
        return f"{factor}×: too few slices for SliceFID", ()
    fid = {m: values[m, "mean", "FID"][0] for m in methods if (m, "mean", "FID") in values}
    rivals = [m for m in fid if m not in (best, ACQUIRED, TRUTH)]
    rival = min(rivals, key=lambda m: fid[m])
    less = 100 * (1 - fid[best] / fid[rival]) if fid[rival] > 0 else 0.0
    headline = (
        f"{best} has the lowest SliceFID at {factor}×: {fid[best]:.1f}, "
        f"{less:.0f}\u00a0% below {rival} ({fid[rival]:.1f})"
    )
    lines = []
    by_kid = _best("mean", "KID", True, values, methods)
    if by_kid is not None:
        agrees = by_kid == best
        lines.append("KID agrees." if agrees else f"KID does not agree: it is lowest for {by_kid}.")
    for metric, digits, unit in (("PSNR", 2, " dB"), ("SSIM", 3, "")):
        top = _best("mean", metric, False, values, methods)
        if top is not None:
            value = values[top, "mean", metric][0]
            own = values.get((best, "mean", metric), (math.nan, 0))[0]
            mine = "" if top == best else f" ({best}: {own:.{digits}f}{unit})"
            lines.append(f"{metric} is highest for {top}: {value:.{digits}f}{unit}{mine}.")
    worst = max(
        (p for p in PLANES if (best, p, "FID") in values),
        key=lambda p: values[best, p, "FID"][0],
    )
    lines.append(f"The worst plane of {best} is {worst} (FID {values[best, worst, 'FID'][0]:.1f}).")
    if TRUTH in fid:
        lines.append(f"The true volume itself scores {fid[TRUTH]:.1f} on as many images.")
    if slides < FEW_SLIDES:
        lines.append(f"{slides} slide{'s' if slides > 1 else ''} only: differences may be chance.")
    return headline, tuple(lines)


def slide_rows(metrics: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Return one row a slide and factor: KID (mean of the planes) and PSNR of each method.

    Returns
    -------
    headings, rows
        Headings of the numeric columns; rows with ``slide``, ``patient``, ``factor`` and ``cells``.
    """
    table = pd.read_parquet(metrics / "slides.parquet")
    kid = table[(table["metric"] == "KID") & table["plane"].isin(PLANES)]
    psnr = table[(table["plane"] == "mean") & (table["metric"] == "PSNR")]
    methods = [m for m in order(list(table["method"])) if m not in (ACQUIRED, TRUTH)]
    headings: list[str] = []
    columns: list[dict[tuple[Any, ...], float]] = []
    for name, part, needed, scale in (("KID ×10³", kid, 3, 1000), ("PSNR dB", psnr, 1, 1)):
        for method in methods:
            found: dict[tuple[Any, ...], list[float]] = {}
            own = part.loc[part["method"] == method, [*WHO, "value"]]
            for *who, value in own.itertuples(index=False):
                found.setdefault(tuple(who), []).append(scale * float(value))
            means = {who: sum(v) / needed for who, v in found.items() if len(v) == needed}
            if means:
                headings.append(f"{name} {method}")
                columns.append(means)
    keys = table[list(WHO)].drop_duplicates().sort_values(["factor", "slide"])
    rows = [
        {
            **dict(zip(WHO, who, strict=True)),
            "cells": [_fixed(1)(c[who]) if who in c else "–" for c in columns],
        }
        for who in (tuple(row) for row in keys.itertuples(index=False))
    ]
    return headings, rows
