"""Charts: SVG that follows the page's light or dark, and PNG for the workflow's own report."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from msdsr.report.pictures import Plate
from msdsr.report.tables import ACQUIRED, TRUTH, order

INK, MUTED, LINE = "#16202b", "#5d6b7a", "#d5dbe1"
DARK = {INK: "#e8edf2", MUTED: "#9dabb9", LINE: "#34414d"}
NAMES = {INK: "ink", MUTED: "muted", LINE: "line"}
SERIES = ("#0f8b8d", "#c8553d", "#7a5ea8", "#b8860b")
"""Colours of the methods, apart from the baselines; told apart in both themes."""

BASELINE_SERIES = {"nearest": "#8d99a6", "linear": "#5b7fb4"}
MARKERS = {"nearest": "s", "linear": "D"}
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "msdsr",
    "text.parse_math": False,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": INK,
    "grid.color": LINE,
}
ROWS = (
    ("mean", "SliceFID"),
    ("XY", "XY, all planes"),
    ("XY generated", "XY, generated"),
    ("XZ", "XZ"),
    ("YZ", "YZ"),
)


@dataclass(frozen=True)
class Chart:
    """A drawn figure, with the text for those who do not see it."""

    name: str
    svg: str
    png: bytes
    alt: str


def colour_of(method: str, methods: Sequence[str]) -> str:
    """Return a method's colour, the same in every chart of a page."""
    others = [m for m in methods if m not in BASELINE_SERIES]
    return BASELINE_SERIES.get(method) or SERIES[others.index(method) % len(SERIES)]


def distance_chart(numbers: pd.DataFrame) -> Chart | None:
    """Draw FID of every method by plane, one panel a factor, with the floors as lines."""
    fid = numbers[numbers["metric"] == "FID"]
    factors = sorted(int(f) for f in fid["factor"].unique())
    methods = [m for m in order(list(fid["method"])) if m not in (ACQUIRED, TRUTH)]
    if fid.empty or not methods:
        return None
    rows = [row for row in ROWS if (fid["plane"] == row[0]).any()]
    with rc_context(STYLE):
        figure = Figure(
            figsize=(4.6 * len(factors) + 1, 0.46 * len(rows) + 1.5), layout="constrained"
        )
        axes = figure.subplots(1, len(factors), sharex=True, sharey=True, squeeze=False)[0]
        for ax, factor in zip(axes, factors, strict=True):
            _distance_panel(ax, fid[fid["factor"] == factor], methods, rows, factor)
        axes[0].set_yticks(range(len(rows)), [label for _, label in rows])
        axes[0].invert_yaxis()
        axes[0].set_xlim(left=0)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=6, frameon=False)
        alt = "FID by plane; lower is better. " + " ".join(
            f"At {factor}×, SliceFID: " + ", ".join(_said(fid, factor, methods)) + "."
            for factor in factors
        )
        return _finish("slicefid", figure, alt)


def _said(fid: pd.DataFrame, factor: int, methods: Sequence[str]) -> list[str]:
    means = fid[(fid["factor"] == factor) & (fid["plane"] == "mean")].set_index("method")["value"]
    return [f"{m} {means[m]:.1f}" for m in methods if m in means]


def _distance_panel(
    ax: Axes,
    fid: pd.DataFrame,
    methods: Sequence[str],
    rows: Sequence[tuple[str, str]],
    factor: int,
) -> None:
    values = fid.set_index(["method", "plane"])["value"]
    for i, (plane, _) in enumerate(rows):
        found = [values[m, plane] for m in methods if (m, plane) in values]
        if found:
            ax.plot([min(found), max(found)], [i, i], color=LINE, linewidth=3, zorder=1)
    for method in methods:
        points = [(values[method, p], i) for i, (p, _) in enumerate(rows) if (method, p) in values]
        ax.plot(
            [x for x, _ in points],
            [y for _, y in points],
            linestyle="none",
            marker=MARKERS.get(method, "o"),
            markersize=7 if method in MARKERS else 9,
            color=colour_of(method, methods),
            label=method,
            zorder=3,
        )
    floors = ((ACQUIRED, "XY", "real planes", ":"), (TRUTH, "mean", "true volume", "--"))
    for name, plane, label, style in floors:
        if (name, plane) in values:
            ax.axvline(
                values[name, plane],
                color=MUTED,
                linestyle=style,
                linewidth=1.2,
                zorder=2,
                label=label,
            )
    ax.set_title(f"{factor}×", loc="left", fontweight="bold")
    ax.set_xlabel("FID (lower is better)")
    ax.tick_params(left=False, bottom=False)
    ax.grid(axis="x", linewidth=0.6)
    ax.set_axisbelow(True)


def read_curve(path: Path) -> pd.DataFrame:
    """Return the records of a training's ``metrics.jsonl`` that hold a loss, oldest first."""
    records: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            # A killed training may have left its last line unfinished.
            break
        if isinstance(record, dict) and {"kind", "images", "loss"} <= record.keys():
            records.append({key: record[key] for key in ("kind", "images", "loss")})
    return pd.DataFrame(records, columns=["kind", "images", "loss"])


def training_chart(name: str, path: Path) -> Chart | None:
    """Draw the loss of one training over the images seen."""
    curve = read_curve(path)
    if curve.empty:
        return None
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.0), layout="constrained")
        ax = figure.subplots()
        train, valid = (curve[curve["kind"] == kind] for kind in ("train", "validation"))
        ax.plot(
            train["images"],
            train["loss"],
            color=BASELINE_SERIES["nearest"],
            linewidth=1,
            label="training",
        )
        if len(valid):
            ax.plot(
                valid["images"],
                valid["loss"],
                color=SERIES[0],
                linewidth=1.8,
                marker="o",
                markersize=4,
                label="validation",
            )
        if curve["loss"].min() > 0 and curve["loss"].max() > 5 * curve["loss"].min():
            ax.set_yscale("log")
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            ax.yaxis.set_minor_formatter(NullFormatter())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        ax.set_xlabel("training images seen")
        ax.set_ylabel("L1 loss")
        ax.grid(axis="y", linewidth=0.6)
        ax.tick_params(left=False, which="both", bottom=False)
        ax.legend(frameon=False)
        last = valid if len(valid) else train
        alt = (
            f"Loss of model {name} over {int(curve['images'].max()):,} training images; "
            f"last {'validation' if len(valid) else 'training'} loss {last['loss'].iloc[-1]:.4f}."
        )
        return _finish(f"training_{safe_name(name)}", figure, alt)


def plate_png(plate: Plate, title: str) -> bytes:
    """Return a slide's pictures as one PNG, with scale bars."""
    columns = len(plate.columns)
    heights = [1 / view.aspect for view in plate.views]
    with rc_context(STYLE):
        figure = Figure(figsize=(2.3 * columns, 2.3 * sum(heights) + 1.2), layout="constrained")
        axes = figure.subplots(
            len(plate.views), columns, squeeze=False, gridspec_kw={"height_ratios": heights}
        )
        for line, view in zip(axes, plate.views, strict=True):
            for ax, picture in zip(line, view.pictures, strict=True):
                rows, pixels = picture.rgb.shape[:2]
                ax.imshow(picture.rgb, interpolation="nearest", aspect=pixels / rows / view.aspect)
                ax.set(xticks=[], yticks=[])
                start = 0.04 * pixels
                ax.plot(
                    [start, start + view.bar_part * pixels],
                    [rows * 0.92] * 2,
                    color="white",
                    linewidth=2.5,
                )
            line[0].set_ylabel(view.plane)
            line[0].annotate(
                f"{view.bar_um} µm",
                (0.04, 0.12),
                xycoords="axes fraction",
                color="white",
                fontsize=8,
            )
        for ax, label in zip(axes[0], plate.columns, strict=True):
            ax.set_title(label, fontsize=9)
        figure.suptitle(title, fontsize=10)
        return _png(figure)


def safe_name(name: str) -> str:
    """Return a name that is safe as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)


def _finish(name: str, figure: Figure, alt: str) -> Chart:
    with io.StringIO() as text:
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
        svg = _themed(text.getvalue())
    return Chart(name, svg, _png(figure), alt)


def _png(figure: Figure) -> bytes:
    with io.BytesIO() as buffer:
        figure.savefig(
            buffer, format="png", dpi=150, facecolor="white", metadata={"Software": None}
        )
        return buffer.getvalue()


def _themed(svg: str) -> str:
    """Turn the three neutral colours into variables that follow the reader's light or dark."""
    for colour, name in NAMES.items():
        svg = svg.replace(colour, f"var(--{name})")
    svg = re.sub(r"font: ([^;\"]*?)px [^;\"]*", r"font: \1px system-ui, sans-serif", svg)
    light = _variables({name: colour for colour, name in NAMES.items()})
    dark = _variables({NAMES[colour]: other for colour, other in DARK.items()})
    style = f"<style>:root{{{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}</style>"
    return re.sub(r"(<svg\b[^>]*>)", lambda m: m.group(1) + style, svg, count=1)


def _variables(colours: Mapping[str, str]) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in colours.items())
