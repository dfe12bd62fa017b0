"""Figures of the cohort: distances by plane, and what depends on frequency, distance or level."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from msdsr.report.calibrated import calibration_chart
from msdsr.report.charts import LINE, MARKERS, MUTED, STYLE, Chart, colour_of, finish
from msdsr.report.numbers import (
    ACQUIRED,
    ALL,
    FLOORS,
    LABELS,
    MEAN,
    REAL,
    TRUTH,
    Number,
    Numbers,
    Values,
    order,
    values_of,
)

ROWS = (
    (MEAN, "SliceFID"),
    ("XY", "XY, all planes"),
    ("XY generated", "XY, generated"),
    ("XZ", "XZ"),
    ("YZ", "YZ"),
)
FLOOR_LINES = (
    (ACQUIRED, ("XY",), "real planes", ":"),
    (TRUTH, (MEAN,), "true volume", "--"),
    (REAL, (MEAN, "XY"), "real against real", "-."),
)
DASHES = {method: dashes for method, _, _, dashes in FLOOR_LINES}
MOST_POINTS = 64
"""Points of one line: a spectrum of a large crop has more than can be told apart."""


@dataclass(frozen=True)
class Lines:
    """A figure of one panel a factor and column, with a line a method.

    Parameters
    ----------
    name, section, caption
        What the figure is called, where it stands, and what stands below it.
    column, x, y
        Columns of the table: what a panel is about, and the two axes.
    x_label, y_label
        What stands at the axes.
    panel
        The panel's title, from the factor and the column's value.
    level
        A line for comparison: ``1`` for ratios, ``x`` for the diagonal.
    better
        How to read it, for the alternative text.
    """

    name: str
    section: str
    caption: str
    column: str
    x: str
    y: str
    x_label: str
    y_label: str
    panel: Callable[[int, str], str]
    better: str
    level: str = ""
    log: bool = False


SPECTRA = Lines(
    "spectra",
    "Spectra",
    "Power of the restored volume over that of the truth, by axis: below 1 detail is missing, above"
    " 1 there is too much.",
    "axis",
    "frequency",
    "value",
    "cycles/µm",
    "power ratio",
    lambda factor, axis: f"{factor}×, along {axis}",
    "1 is right",
    level="1",
    log=True,
)
FRC = Lines(
    "frc",
    "Correlation with the truth by frequency",
    "Fourier ring correlation (FRC) along an axis and Fourier shell correlation (FSC) of the"
    " volume: 1 where restored and true detail agree, 0 where they have nothing in common.",
    "axis",
    "frequency",
    "value",
    "cycles/µm",
    "correlation",
    lambda factor, axis: f"{factor}×, {axis}",
    "1 is best",
)
BY_DISTANCE = Lines(
    "distance",
    "By distance from an acquired plane",
    "FID of generated XY planes by how many planes away the nearest acquired one is.",
    "metric",
    "distance",
    "value",
    "planes from an acquired one",
    "FID",
    lambda factor, metric: f"{factor}×",
    "lower is better",
)


def figures(numbers: Numbers) -> list[Chart]:
    """Draw everything that was measured of a cohort, in the order of reading."""
    spectra, uncertainty = numbers["spectra"], numbers["uncertainty"]
    ratio = spectra[spectra["quantity"] == "power_ratio"]
    correlation = spectra[spectra["quantity"].isin(["frc", "fsc"])]
    drawn = [
        slicefid_chart(numbers),
        lines_chart(ratio, SPECTRA),
        lines_chart(correlation, FRC),
        lines_chart(_first_view(numbers, "distance", metric="FID"), BY_DISTANCE),
        seams_chart(numbers),
        calibration_chart(uncertainty),
    ]
    return [chart for chart in drawn if chart is not None]


def _first_view(numbers: Numbers, name: str, metric: str) -> pd.DataFrame:
    table = numbers[name]
    view = next(iter(numbers.views()), ("", ""))
    return table[
        (table["protocol"] == view[0])
        & (table["rescaling"] == view[1])
        & (table["metric"] == metric)
    ]


# --- distances by plane ---------------------------------------------------------------------------


def slicefid_chart(numbers: Numbers) -> Chart | None:
    """Draw FID of every method by plane, one panel a factor, with the floors as lines."""
    view = next(iter(numbers.views()), ("", ""))
    table = numbers["slicefid"]
    panels = {}
    for factor in numbers.factors():
        values = values_of(table, protocol=view[0], rescaling=view[1], factor=factor, metric="FID")
        if any(m not in FLOORS for m, _, _ in values):
            panels[factor] = {(m, p): number for (m, p, _), number in values.items()}
    if not panels:
        return None
    methods = order([m for values in panels.values() for m, _ in values if m not in FLOORS])
    rows = [r for r in ROWS if any((m, r[0]) in v for v in panels.values() for m in methods)]
    with rc_context(STYLE):
        size = (4.6 * len(panels) + 1, (0.34 + 0.08 * len(methods)) * len(rows) + 1.5)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
        for ax, (factor, panel) in zip(axes, panels.items(), strict=True):
            _slicefid_panel(ax, panel, methods, rows)
            ax.set_title(f"{factor}×", loc="left", fontweight="bold")
        axes[0].set_yticks(range(len(rows)), [label for _, label in rows])
        axes[0].invert_yaxis()
        axes[0].set_xlim(left=0)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=6, frameon=False)
        alt = "FID by plane; lower is better. " + " ".join(
            f"At {factor}×, SliceFID: {_said(values, methods)}."
            for factor, values in panels.items()
        )
        caption = (
            "FID by plane. SliceFID is the mean of XY (all planes), XZ and YZ. Bars: 95 %"
            " intervals, where they were measured. Lines: acquired planes of these slides against"
            " the real images of others (dotted), the true volume (dashed), real images against"
            " real ones (dash-dot)."
        )
        return finish("slicefid", figure, alt, "SliceFID", caption)


def _said(values: dict[tuple[str, str], Number], methods: Sequence[str]) -> str:
    found = [(m, values[m, MEAN]) for m in methods if (m, MEAN) in values]
    return ", ".join(f"{m} {number.value:.1f}" for m, number in found)


def _slicefid_panel(
    ax: Axes,
    values: dict[tuple[str, str], Number],
    methods: Sequence[str],
    rows: Sequence[tuple[str, str]],
) -> None:
    for i, (plane, _) in enumerate(rows):
        spread = [values[m, plane].value for m in methods if (m, plane) in values]
        if spread:
            ax.plot([min(spread), max(spread)], [i, i], color=LINE, linewidth=3, zorder=1)
    for j, method in enumerate(methods):
        points = [(values[method, p], i) for i, (p, _) in enumerate(rows) if (method, p) in values]
        # Intervals would lie on top of each other: each method a little lower than the one before.
        shift = 0.08 * (j - (len(methods) - 1) / 2)
        colour = colour_of(method, methods)
        for number, i in points:
            if number.has_interval:
                ends = [number.low, number.high]
                ax.plot(ends, [i + shift] * 2, color=colour, linewidth=1.6, alpha=0.7, zorder=2)
        ax.plot(
            [number.value for number, _ in points],
            [i + (shift if number.has_interval else 0) for number, i in points],
            linestyle="none",
            marker=MARKERS.get(method, "o"),
            markersize=6 if method in MARKERS else 8,
            color=colour,
            label=method,
            zorder=3,
        )
    for name, planes, label, style in FLOOR_LINES:
        found = [values[name, p].value for p in planes if (name, p) in values]
        if found:
            ax.axvline(found[0], color=MUTED, linestyle=style, linewidth=1.2, zorder=2, label=label)
    ax.set_xlabel("FID (lower is better)")
    ax.tick_params(left=False, bottom=False)
    ax.grid(axis="x", linewidth=0.6)
    ax.set_axisbelow(True)


# --- lines ----------------------------------------------------------------------------------------


def lines_chart(table: pd.DataFrame, what: Lines) -> Chart | None:
    """Draw a panel a factor and column, with a line a method; None without rows."""
    if table.empty:
        return None
    factors = sorted({int(f) for f in table["factor"]})
    columns = sorted({str(c) for c in table[what.column]}, key=lambda c: ("zyx3".find(c[0]), c))
    methods = order([str(m) for m in table["method"]])
    with rc_context(STYLE):
        figure = Figure(
            figsize=(3.1 * len(columns) + 1.6, 2.3 * len(factors) + 0.9), layout="constrained"
        )
        grid = figure.subplots(len(factors), len(columns), squeeze=False, sharey=True)
        for line, factor in zip(grid, factors, strict=True):
            for ax, column in zip(line, columns, strict=True):
                part = table[(table["factor"] == factor) & (table[what.column] == column)]
                _lines_panel(ax, part, methods, what)
                ax.set_title(what.panel(factor, column), loc="left", fontweight="bold")
            line[0].set_ylabel(what.y_label)
        for ax in grid[-1]:
            ax.set_xlabel(what.x_label)
        handles, labels = _legend(grid.flat)
        figure.legend(handles, labels, loc="outside upper left", ncols=6, frameon=False)
        alt = _read_out(table, methods, what)
        return finish(what.name, figure, alt, what.section, what.caption)


def _lines_panel(ax: Axes, part: pd.DataFrame, methods: Sequence[str], what: Lines) -> None:
    for method in methods:
        own = part[part["method"] == method].groupby(what.x, as_index=False)[what.y].mean()
        if own.empty:
            continue
        own = own.iloc[:: max(1, math.ceil(len(own) / MOST_POINTS))]
        ax.plot(
            own[what.x],
            own[what.y],
            color=MUTED if method in FLOORS else colour_of(method, methods),
            linestyle=DASHES.get(method, "-"),
            marker=MARKERS.get(method, "o") if len(own) <= 12 else "",
            markersize=4,
            linewidth=1.5,
            label=LABELS.get(method, method),
        )
    if what.level == "1":
        ax.axhline(1, color=MUTED, linestyle="--", linewidth=1)
    if what.log and len(part) and (part[what.y] > 0).all():
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
    ax.grid(axis="y", linewidth=0.6)
    ax.tick_params(left=False, which="both", bottom=False)


def _legend(axes: Iterable[Axes]) -> tuple[list[Artist], list[str]]:
    """Return the entries of all panels, each once."""
    found: dict[str, Artist] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    return list(found.values()), list(found)


def _read_out(table: pd.DataFrame, methods: Sequence[str], what: Lines) -> str:
    """Say a figure's lines by their means: a line itself cannot be read out."""
    means = table.groupby(["factor", "method"])[what.y].mean()
    said = [
        f"{factor}×: "
        + ", ".join(f"{m} {means[factor, m]:.3g}" for m in methods if (factor, m) in means)
        for factor in sorted({int(f) for f in table["factor"]})
    ]
    axes = f"{what.section}: {what.y_label} over {what.x_label}; {what.better}."
    return f"{axes} Means: {'; '.join(said)}."


# --- seams ----------------------------------------------------------------------------------------


def seams_chart(numbers: Numbers) -> Chart | None:
    """Draw the lag-1 ratio of every method along each axis, one panel a factor."""
    name = "paired" if (numbers["paired"]["metric"] == "LAG1").any() else "heldout"
    panels: dict[int, Values] = {}
    for factor in numbers.factors():
        lag = values_of(numbers[name], factor=factor, channel=ALL, metric="LAG1")
        if lag:
            panels[factor] = lag
    if not panels:
        return None
    axes_zyx = [a for a in "zyx" if any(p == a for v in panels.values() for _, p, _ in v)]
    methods = order([m for values in panels.values() for m, _, _ in values])
    with rc_context(STYLE):
        figure = Figure(figsize=(3.6 * len(panels) + 1.2, 2.9), layout="constrained")
        grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        width = 0.8 / len(methods)
        for ax, (factor, values) in zip(grid, panels.items(), strict=True):
            for j, method in enumerate(methods):
                found = [(i, values[method, a, "LAG1"].value) for i, a in enumerate(axes_zyx)
                         if (method, a, "LAG1") in values]  # fmt: skip
                at = np.array([i for i, _ in found]) + (j - (len(methods) - 1) / 2) * width
                colour = MUTED if method in FLOORS else colour_of(method, methods)
                ax.bar(at, [v for _, v in found], width * 0.9, color=colour, label=method)
            ax.axhline(1, color=MUTED, linestyle="--", linewidth=1)
            ax.set_xticks(range(len(axes_zyx)), [f"along {a}" for a in axes_zyx])
            ax.set_title(f"{factor}×", loc="left", fontweight="bold")
            ax.tick_params(left=False, bottom=False)
        grid[0].set_ylabel("lag-1 ratio")
        handles, labels = _legend(grid)
        figure.legend(handles, labels, loc="outside upper left", ncols=6, frameon=False)
        alt = "Lag-1 ratio along each axis; 1 is right. " + " ".join(
            f"At {factor}×, along z: {_along_z(values, methods)}."
            for factor, values in panels.items()
        )
        caption = (
            "How much neighbouring planes differ, over how much they differ in the truth: above 1"
            " seams or noise between planes, below 1 planes too alike."
        )
        return finish("seams", figure, alt, "Seams", caption)


def _along_z(values: Values, methods: Sequence[str]) -> str:
    found = [(m, values[m, "z", "LAG1"]) for m in methods if (m, "z", "LAG1") in values]
    return ", ".join(f"{m} {number.value:.2f}" for m, number in found)
