"""Numbers as tables: a row a method, best values marked, floors last."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from msdsr.report.numbers import (
    ALL,
    FLOORS,
    MEAN,
    PLANES,
    REAL,
    THREE_D,
    Number,
    Numbers,
    Values,
    fixed,
    label_of,
    order,
    values_of,
    view_label,
)

LOW, HIGH, ONE = "low", "high", "one"
WAYS = {LOW: ("↓", "lower is better"), HIGH: ("↑", "higher is better"), ONE: ("→1", "1 is right")}
WORST = "worst"
SLICES = ("PSNR", "SSIM", "NRMSE", "LSD", "LAG1")


@dataclass(frozen=True)
class Column:
    """One column of a table: a metric of a plane, and how it is written."""

    plane: str
    metric: str
    label: str
    unit: str
    better: str
    digits: int
    scale: float = 1.0

    def show(self, value: float) -> str:
        """Return a value as it is written."""
        return fixed(value, self.digits, self.scale)

    @property
    def way(self) -> tuple[str, str]:
        """Return which way is better: a sign, and in words."""
        return WAYS[self.better]


DISTANCES = (
    Column(MEAN, "FID", "SliceFID", "", LOW, 1),
    Column("XY", "FID", "XY", "FID", LOW, 1),
    Column("XY generated", "FID", "XY generated", "FID", LOW, 1),
    Column("XZ", "FID", "XZ", "FID", LOW, 1),
    Column("YZ", "FID", "YZ", "FID", LOW, 1),
    Column(WORST, "FID", "worst", "FID", LOW, 1),
    Column(MEAN, "KID", "KID", "×10³", LOW, 1, 1000),
    Column(MEAN, "MMD", "MMD", "×10³", LOW, 1),
)
PAIRS = (
    *(Column(p, "PSNR", f"PSNR {p}", "dB", HIGH, 2) for p in (*PLANES, MEAN, THREE_D)),
    *(Column(p, "SSIM", f"SSIM {p}", "", HIGH, 3) for p in (*PLANES, MEAN, THREE_D)),
    *(Column(p, "NRMSE", f"NRMSE {p}", "", LOW, 3) for p in (MEAN, THREE_D)),
)
AXES = (
    *(Column(a, "LSD", f"LSD {a}", "dB", LOW, 2) for a in "zyx"),
    *(Column(a, "LAG1", f"LAG1 {a}", "", ONE, 2) for a in "zyx"),
)


@dataclass(frozen=True)
class Cell:
    """One number as it is shown; a dash where it was not measured."""

    text: str
    interval: str
    best: bool
    detail: str
    value: float | None
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One method's numbers."""

    method: str
    label: str
    floor: bool
    cells: tuple[Cell, ...]
    n: str


@dataclass(frozen=True)
class Table:
    """A table of one factor, in one view (a protocol, or a channel)."""

    view: str
    factor: int
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def csv(self) -> str:
        """Return the numbers as CSV: a row a method, and for each column its value and interval."""
        with io.StringIO(newline="") as text:
            out = csv.writer(text)
            names = [f"{c.label} {c.unit}".strip() for c in self.columns]
            out.writerow(["factor", "method", *names, "n"])
            for row in self.rows:
                cells = ["" if c.value is None else repr(c.value) for c in row.cells]
                out.writerow([self.factor, row.method, *cells, row.n])
            return text.getvalue()


@dataclass(frozen=True)
class Group:
    """Tables that answer one question.

    Parameters
    ----------
    name
        For addresses within the page.
    title, absent
        Its heading, and what is said where nothing was measured.
    notes
        What a reader should know before the numbers.
    legend, views
        What a reader may choose between, and the choices: (key, label).
    tables
        All tables; of each view as many.
    """

    name: str
    title: str
    absent: str
    legend: str
    views: tuple[tuple[str, str], ...]
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()


def make_table(
    values: Values, columns: Sequence[Column], *, view: str, factor: int, caption: str
) -> Table | None:
    """Return a table of some numbers; None where there is none.

    Parameters
    ----------
    values
        Numbers by method, plane and metric.
    columns
        What to show; a column without numbers is left out.
    view, factor, caption
        What the table is about.
    """
    methods = order([method for method, _, _ in values])
    shown = dict(values) | _worst(values, methods)
    columns = tuple(c for c in columns if any((m, c.plane, c.metric) in shown for m in methods))
    methods = [m for m in methods if any((m, c.plane, c.metric) in shown for c in columns)]
    if not columns or not methods:
        return None
    best = {c: best_of(shown, c.plane, c.metric, c.better) for c in columns}
    rows = tuple(_row(m, columns, shown, best) for m in methods)
    return Table(view, factor, caption, columns, rows)


def _worst(values: Values, methods: Sequence[str]) -> dict[tuple[str, str, str], Number]:
    """Return the worst plane of each method whose three planes were all scored."""
    found = {}
    for method in (m for m in methods if m != REAL):
        if (plane := worst_plane(values, method)) is not None:
            found[method, WORST, "FID"] = values[method, plane, "FID"]
    return found


def worst_plane(values: Values, method: str) -> str | None:
    """Return which of XY, XZ and YZ has the largest FID; None unless all three were scored."""
    planes = [p for p in PLANES if (method, p, "FID") in values]
    if len(planes) < len(PLANES):
        return None
    return max(planes, key=lambda p: values[method, p, "FID"].value)


def _row(
    method: str,
    columns: Sequence[Column],
    values: Values,
    best: Mapping[Column, str | None],
) -> Row:
    cells = []
    for column in columns:
        number = values.get((method, column.plane, column.metric))
        if number is None:
            cells.append(Cell("–", "", False, "not measured", None))
            continue
        note = (worst_plane(values, method) or "") if column.plane == WORST else ""
        cells.append(_cell(number, column, method == best[column], note))
    counts = {
        values[method, c.plane, c.metric].n
        for c in columns
        if (method, c.plane, c.metric) in values
    }
    counts.discard(0)
    low, high = (min(counts), max(counts)) if counts else (0, 0)
    n = "–" if not counts else str(low) if low == high else f"{low}–{high}"
    return Row(method, label_of(method), method in FLOORS, tuple(cells), n)


def _cell(number: Number, column: Column, best: bool, note: str) -> Cell:
    what = "slices" if column.metric in SLICES else "images"
    detail = f"{number.n} {what}" if number.n else ""
    if math.isfinite(number.se):
        detail += f"; standard error {column.show(number.se)}"
    interval = ""
    if number.has_interval:
        interval = f"[{column.show(number.low)}, {column.show(number.high)}]"
    value = number.value if math.isfinite(number.value) else None
    return Cell(column.show(number.value), interval, best, detail, value, note)


def best_of(values: Values, plane: str, metric: str, better: str) -> str | None:
    """Return the method with the best value, or None when there is nothing to compare."""
    found = {
        m: number.value
        for (m, p, k), number in values.items()
        if (p, k) == (plane, metric) and m not in FLOORS and math.isfinite(number.value)
    }
    if len(found) < 2 or len(set(found.values())) == 1:
        return None
    return min(found, key=lambda m: _badness(found[m], better))


def _badness(value: float, better: str) -> float:
    return abs(value - 1) if better == ONE else -value if better == HIGH else value


def groups(numbers: Numbers, summary: Mapping[str, Any]) -> list[Group]:
    """Return all tables of a cohort, group by group, with the notes that its summary holds."""
    found = [
        _distances(numbers),
        _by_distance(numbers),
        *_pairs(
            numbers,
            "paired",
            ("paired", "Against the truth, 2D and 3D", "No truth is known for these slides."),
            ("axes", "Along the axes, against the truth"),
        ),
        *_pairs(
            numbers,
            "heldout",
            (
                "heldout",
                "Against held-out acquired planes",
                "No acquired planes were left out, restored and compared.",
            ),
            ("heldout-axes", "Along the axes, against held-out planes"),
        ),
    ]
    notes = {"heldout": _heldout_notes(summary)}
    return [replace(group, notes=notes.get(group.name, ())) for group in found]


def _heldout_notes(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what the evaluation has to say of the held-out planes of each factor."""
    notes = summary.get("heldout", {})
    return tuple(f"{factor}×: {each['note']}" for factor, each in notes.items() if "note" in each)


def _distances(numbers: Numbers) -> Group:
    found = []
    for view in numbers.views():
        for factor in numbers.factors():
            values = values_of(
                numbers["slicefid"], protocol=view[0], rescaling=view[1], factor=factor
            )
            caption = f"{factor}×: distance to real images"
            found.append(
                make_table(values, DISTANCES, view="/".join(view), factor=factor, caption=caption)
            )
    return _group(
        "distances",
        "Distance to real images",
        "No distances were measured.",
        "Intensities",
        [("/".join(view), view_label(view)) for view in numbers.views()],
        found,
    )


def _by_distance(numbers: Numbers) -> Group:
    table, found = numbers["distance"], []
    for view in numbers.views():
        for factor in numbers.factors():
            part = table[
                (table["factor"] == factor)
                & (table["protocol"] == view[0])
                & (table["rescaling"] == view[1])
            ]
            steps = sorted({float(d) for d in part["distance"]})
            for metric, digits, scale, unit in (("FID", 1, 1, ""), ("KID", 1, 1000, " ×10³")):
                values = {
                    (str(r["method"]), f"{float(r['distance']):g}", metric): Number(
                        float(r["value"]), n=int(r["n"])
                    )
                    for r in part[part["metric"] == metric].to_dict("records")
                }
                columns = [
                    Column(
                        f"{d:g}",
                        metric,
                        f"{d:g}",
                        "planes away" if d else "acquired",
                        LOW,
                        digits,
                        scale,
                    )
                    for d in steps
                ]
                caption = (
                    f"{factor}×: {metric}{unit} of XY planes, by distance from an acquired plane"
                )
                found.append(
                    make_table(values, columns, view="/".join(view), factor=factor, caption=caption)
                )
    return _group(
        "by-distance",
        "By distance from an acquired plane",
        "Distances were not resolved by the distance from an acquired plane.",
        "Intensities",
        [("/".join(view), view_label(view)) for view in numbers.views()],
        found,
    )


def _pairs(
    numbers: Numbers, name: str, scores: tuple[str, str, str], axes: tuple[str, str]
) -> list[Group]:
    table = numbers[name]
    channels = sorted({str(c) for c in table["channel"]}, key=lambda c: (c != ALL, c))
    views = [(c, "all channels" if c == ALL else c) for c in channels]
    made = []
    for (key, title), absent, columns, what in (
        (scores[:2], scores[2], PAIRS, "scores"),
        (axes, "", AXES, "spectra and seams"),
    ):
        found = [
            make_table(
                values_of(table, factor=factor, channel=channel),
                columns,
                view=channel,
                factor=factor,
                caption=f"{factor}×: {what}",
            )
            for channel in channels
            for factor in numbers.factors()
        ]
        made.append(_group(key, title, absent, "Channel", views, found))
    return [group for group in made if group.tables or group.absent]


def _group(
    name: str,
    title: str,
    absent: str,
    legend: str,
    views: Sequence[tuple[str, str]],
    tables: Sequence[Table | None],
) -> Group:
    kept = tuple(table for table in tables if table is not None)
    used = {table.view for table in kept}
    return Group(name, title, absent, legend, tuple(v for v in views if v[0] in used), kept)
