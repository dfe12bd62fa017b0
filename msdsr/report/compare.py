"""A page that sets the reports of two cohorts side by side."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from msdsr.errors import UserError
from msdsr.manifest import write_text_atomically
from msdsr.report.comparability import Judgement, facts, judge
from msdsr.report.differences import (
    DISTANCES,
    SCORES,
    Compared,
    Measure,
    compare_measure,
    methods_of,
    slide_values,
)
from msdsr.report.numbers import ALL, FLOORS, Number, Values, fixed, label_of, values_of
from msdsr.report.pages import render
from msdsr.report.pictures import Picture, Plate, draw_plate
from msdsr.report.sides import Side, open_side
from msdsr.volume.colour import Window

MOST_PICTURES = 3
N_TOLERANCE = 0.05
"""Numbers of images that differ by more than this share are told apart by FID's bias alone."""

VIEWS = {
    ("v2", "window"): "one fixed window of intensities",
    ("v2", "equalised"): "equalised histograms",
    ("paper", "equalised"): "the paper's protocol",
}


@dataclass(frozen=True)
class MethodRows:
    """The measures of one method, or floor, in both cohorts."""

    label: str
    floor: bool
    rows: tuple[Compared, ...]


@dataclass(frozen=True)
class Group:
    """A table: one factor, one way of measuring."""

    title: str
    factor: int
    why_not: tuple[str, ...]
    methods: tuple[MethodRows, ...]


@dataclass(frozen=True)
class Pictured:
    """The pictures of a slide, with the side it is of where the sides are apart."""

    title: str
    plate: Plate


def build_comparison(first: str, second: str, out: str | Path, results: Path) -> Path:
    """Write a page that sets two cohorts side by side.

    Parameters
    ----------
    first, second
        Folder, report folder, metrics folder or name of a cohort; they are called A and B.
    out
        The page to write: one file that needs nothing beside it, with links to both reports.
    results
        Where cohorts are looked for by name.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    UserError
        When one of them is no evaluated cohort, both are the same, or they share no factor.
    """
    out = Path(out)
    if out.is_dir() or out.suffix.lower() not in (".html", ".htm"):
        raise UserError("--out", str(out), "the name of a page (….html)")
    a, b = open_side("A", first, results), open_side("B", second, results)
    if a.metrics.resolve() == b.metrics.resolve():
        raise UserError(second, f"the same as {first}", "two cohorts")
    shared = sorted(set(a.summary["factors"]) & set(b.summary["factors"]))
    if not shared:
        raise UserError(
            f"{first}, {second}",
            f"no common factor ({_factors(a)} and {_factors(b)})",
            "one factor that both were evaluated at",
        )
    judgement = judge(a, b)
    groups = [group for factor in shared for group in _groups(a, b, factor, judgement)]
    page = render(
        "compare.html.j2",
        script="",
        a=a,
        b=b,
        links={s.letter: _link(s.report, out.parent) for s in (a, b) if s.report is not None},
        judgement=judgement,
        groups=groups,
        left_out=_left_out(a, b),
        facts=facts(a, b),
        pictures=_pictures(a, b, shared),
        png=_png,
        text=shown,
        signed=signed,
    )
    write_text_atomically(out, page)
    return out


def _factors(side: Side) -> str:
    return ", ".join(f"{factor}×" for factor in side.summary["factors"]) or "none"


def _groups(a: Side, b: Side, factor: int, judgement: Judgement) -> Iterable[Group]:
    """Return the tables of one factor: distances by protocol, paired scores, held-out planes."""
    for (protocol, rescaling), title in VIEWS.items():
        found = [
            values_of(s.tables["slicefid"], factor=factor, protocol=protocol, rescaling=rescaling)
            for s in (a, b)
        ]
        why = judgement.distances + (judgement.window if rescaling == "window" else ())
        # Only the first view has its like slide by slide.
        per_slide = "slides" if (protocol, rescaling) == ("v2", "window") else None
        yield from _group(a, b, f"Distances, {title}", factor, why, found, DISTANCES, per_slide)
    for table, title, slides in (
        ("paired", "Against the known truth", "slides"),
        ("heldout", "Against acquired planes that were held out", "heldout_slides"),
    ):
        found = [values_of(s.tables[table], factor=factor, channel=ALL) for s in (a, b)]
        yield from _group(a, b, title, factor, judgement.scores, found, SCORES, slides)


def _group(
    a: Side,
    b: Side,
    title: str,
    factor: int,
    why_not: tuple[str, ...],
    found: Sequence[Values],
    measures: Iterable[Measure],
    per_slide: str | None,
) -> Iterable[Group]:
    mine, yours = found
    if not mine or not yours:
        return
    methods = []
    for method in methods_of(mine, yours):
        rows = []
        for measure in measures:
            key = (method, measure.plane, measure.metric)
            if key not in mine or key not in yours:
                continue
            slides = [
                slide_values(side, per_slide or "slides", factor, method, measure)
                for side in (a, b)
            ]
            if per_slide is None:
                slides = [each.iloc[:0] for each in slides]
            comparable = not why_not and not _biased(measure, mine[key], yours[key])
            rows.append(
                compare_measure(
                    measure, mine[key], yours[key], (slides[0], slides[1]), comparable=comparable
                )
            )
        if rows:
            methods.append(MethodRows(label_of(method), method in FLOORS, tuple(rows)))
    if methods:
        yield Group(title, factor, why_not, tuple(methods))


def _biased(measure: Measure, a: Number, b: Number) -> bool:
    """Return whether FID of the two is of numbers of images too different to be compared."""
    return measure.metric == "FID" and abs(a.n - b.n) > N_TOLERANCE * max(a.n, b.n)


def _left_out(a: Side, b: Side) -> list[str]:
    """Return what only one of the two has."""
    found = []
    for key, what in (("factors", "factor"), ("methods", "method")):
        for one, other in ((a, b), (b, a)):
            only = [str(v) for v in one.summary[key] if v not in other.summary[key]]
            if only:
                plural = "s" if len(only) > 1 else ""
                found.append(f"Only {one.letter} has the {what}{plural} {', '.join(only)}.")
    return found


def _link(report: Path | None, beside: Path) -> str:
    """Return the address of a report, as seen from the folder of the page."""
    assert report is not None
    return quote(Path(os.path.relpath(report.resolve(), beside.resolve())).as_posix())


def _pictures(a: Side, b: Side, factors: list[int]) -> list[Pictured]:
    """Cut the same field of both where they hold the same slide, else a field of each.

    Slides are the same where the volumes that were restored have one name and one identity.
    """
    factor = factors[0]
    windows = {side.letter: _window(side) for side in (a, b)}
    shared = [s for s in a.slides() if s in b.slides() and _same_input(a, b, s)]
    found: list[Pictured] = []
    for slide in shared[:MOST_PICTURES]:
        restored = {
            f"{side.letter}: {method}": path
            for side in (a, b)
            for method, path in side.restored(slide).get(factor, {}).items()
        }
        if restored and (window := windows["A"]) is not None:
            acquired = a.slides()[slide] / "denoised.ome.zarr"
            plate = draw_plate(acquired, restored, None, factor, window, slide)
            found.append(Pictured(f"{slide}, {factor}×, both", plate))
    if found:
        return found
    for side in (a, b):
        for slide, folder in list(side.slides().items())[:1]:
            stores = side.restored(slide).get(factor, {})
            own = windows[side.letter]
            if stores and own is not None:
                acquired = folder / "denoised.ome.zarr"
                plate = draw_plate(acquired, stores, None, factor, own, slide)
                found.append(Pictured(f"{side.letter}: {slide}, {factor}×", plate))
    return found


def _same_input(a: Side, b: Side, slide: str) -> bool:
    inputs = [
        {r.inputs.get("volume") for what, r in side.records_of(slide)} - {None} for side in (a, b)
    ]
    return bool(inputs[0]) and inputs[0] == inputs[1]


def _window(side: Side) -> Window | None:
    window = side.summary.get("window")
    if not isinstance(window, Mapping):
        return None
    low, high = (tuple(float(v) for v in window[key]) for key in ("low", "high"))
    if not len(low) == len(high) == 3:
        return None
    return Window((low[0], low[1], low[2]), (high[0], high[1], high[2]))


def _png(picture: Picture) -> bytes:
    with io.BytesIO() as buffer:
        Image.fromarray(picture.rgb).save(buffer, format="PNG", optimize=True)
        return buffer.getvalue()


def shown(measure: Measure, value: float) -> str:
    """Return a number with the digits of its measure."""
    return fixed(value, measure.digits, measure.scale)


def signed(measure: Measure, value: float) -> str:
    """Return a difference with its sign."""
    if value != value:
        return "–"
    return f"{value * measure.scale:+.{measure.digits}f}".replace("-", "−")
