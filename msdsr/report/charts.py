"""What charts share: SVG that follows the page's light or dark, and PNG for Snakemake's report."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from msdsr.report.pictures import Plate

INK, MUTED, LINE = "#16202b", "#5d6b7a", "#d5dbe1"
DARK = {INK: "#e8edf2", MUTED: "#9dabb9", LINE: "#34414d"}
NAMES = {INK: "ink", MUTED: "muted", LINE: "line"}
SERIES = ("#0f8b8d", "#c8553d", "#7a5ea8", "#b8860b")
"""Colours of the methods, apart from the baselines; told apart in both themes."""

BASELINE_SERIES = {"nearest": "#8d99a6", "linear": "#5b7fb4", "cubic": "#94713a"}
MARKERS = {"nearest": "s", "linear": "D", "cubic": "^"}
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


@dataclass(frozen=True)
class Chart:
    """A drawn figure, with the text for those who do not see it.

    Parameters
    ----------
    name
        Of its files; see `file_names`.
    svg, png
        The drawing.
    alt
        What it shows, in words.
    section, caption
        Under which heading it stands, and what stands below it.
    width
        How wide it is drawn (inches).
    """

    name: str
    svg: str
    png: bytes
    alt: str
    section: str = ""
    caption: str = ""
    width: float = 7.0


def colour_of(method: str, methods: Sequence[str]) -> str:
    """Return a method's colour, the same in every chart of a page."""
    others = [m for m in methods if m not in BASELINE_SERIES]
    return BASELINE_SERIES.get(method) or SERIES[others.index(method) % len(SERIES)]


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


def file_names(names: Sequence[str]) -> dict[str, str]:
    """Return a file's name for each name: safe on every file system, and no two the same."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        safe = safe_name(name)[:80]
        if safe != name or safe.lower() in taken:
            safe += "-" + hashlib.sha256(name.encode()).hexdigest()[:8]
        taken.add(safe.lower())
        found[name] = safe
    return found


def finish(name: str, figure: Figure, alt: str, section: str = "", caption: str = "") -> Chart:
    """Return a figure as SVG and PNG, the same bytes every time."""
    with io.StringIO() as text:
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
        svg = _themed(text.getvalue())
    return Chart(name, svg, _png(figure), alt, section, caption, float(figure.get_figwidth()))


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
