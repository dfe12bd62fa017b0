"""What each page of a report shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msdsr.config import ReportConfig
from msdsr.failures import Failure
from msdsr.manifest import Manifest
from msdsr.progress import progress
from msdsr.report import provenance
from msdsr.report.charts import Chart
from msdsr.report.doubts import MOST_SPOTS, SpotStores, coverage_lines, pictured, worst_spots
from msdsr.report.numbers import Numbers
from msdsr.report.pages import script
from msdsr.report.pictures import FIELD, Plate
from msdsr.report.rows import (
    KINDS,
    MOST_THUMBNAIL_BYTES,
    flags_of,
    make_rows,
    slide_numbers,
    thumbnail,
)
from msdsr.report.slidepages import Pages, ReportSlide
from msdsr.report.tables import groups
from msdsr.report.verdict import verdicts
from msdsr.volume.colour import Window

EMBEDDED_BYTES = 300_000
"""A table larger than this is linked, not put into a page."""


@dataclass(frozen=True)
class Illustrated:
    """A slide with its pictures."""

    slide: ReportSlide
    plates: tuple[Plate, ...]


@dataclass(frozen=True)
class Material:
    """All that the pages are made of."""

    cohort: str
    title: str
    summary: Mapping[str, Any]
    numbers: Numbers
    window: Window
    slides: Sequence[ReportSlide]
    failed: Sequence[Failure]
    records: Sequence[tuple[Path, Manifest]]
    settings: ReportConfig
    notes: Sequence[str]
    attribution: str

    @property
    def intervals(self) -> str:
        """How the intervals were made, or why there are none."""
        return str(self.summary.get("intervals", ""))

    @property
    def stores(self) -> dict[str, SpotStores]:
        """Where the restored volumes of each slide stand."""
        return {s.slide: SpotStores(s.restored, s.spread) for s in self.slides}


def overview_page(
    material: Material,
    charts: Sequence[Chart],
    shown: Sequence[Illustrated],
    viewed: Sequence[ReportSlide],
    names: Mapping[str, str],
) -> dict[str, Any]:
    """Return what the first page shows."""
    summary, manifests = material.summary, [m for _, m in material.records]
    warnings = dict.fromkeys([*summary.get("warnings", ()), *_run_warnings(material.records)])
    flags = flags_of([s.slide for s in material.slides], material.records, ())
    hero = next(((each.slide, each.plates[-1]) for each in shown if each.plates), None)
    return {
        "script": script("index.js"),
        "heading": "Overview",
        "notes": list(material.notes),
        "models": provenance.models(manifests),
        "total": provenance.duration(sum(m.seconds for m in manifests)) if manifests else "",
        "verdicts": verdicts(material.numbers, summary),
        "drawing": next((c for c in charts if c.name == "slicefid"), None),
        "failed": material.failed,
        "warnings": list(warnings),
        "flagged": sum(bool(found) for found in flags.values()),
        "hero": hero,
        "viewed": [(s, names[s.slide]) for s in viewed],
        "attribution": material.attribution,
    }


def tables_page(material: Material) -> dict[str, Any]:
    """Return what the page of tables shows."""
    downloads = []
    for path in material.numbers.files():
        if path.suffix == ".csv":
            size = path.stat().st_size
            content = path.read_bytes() if size <= EMBEDDED_BYTES else None
            downloads.append((path.stem, content, _size(size)))
    return {
        "script": script("tables.js"),
        "heading": "Tables",
        "groups": groups(material.numbers, material.summary),
        "downloads": downloads,
    }


def figures_page(charts: Sequence[Chart]) -> dict[str, Any]:
    """Return what the page of figures shows."""
    sections: dict[str, list[Chart]] = {}
    for chart in charts:
        sections.setdefault(chart.section, []).append(chart)
    wanted = ("Spectra", "Correlation with the truth by frequency", "Seams", "Calibration")
    absent = [f"{section}: not measured." for section in wanted if section not in sections]
    return {"heading": "Figures", "sections": list(sections.items()), "absent": absent}


def slides_page(
    material: Material, viewed: Sequence[ReportSlide], links: Mapping[str, str]
) -> dict[str, Any]:
    """Return what the list of slides shows."""
    headings, numbers = slide_numbers(material.numbers)
    who = [(s.slide, s.patient, s.notes) for s in material.slides]
    who += [(f.slide, f.patient, "") for f in material.failed]
    flags = flags_of([slide for slide, _, _ in who], material.records, material.failed)
    rows = make_rows(who, flags, headings, numbers)
    thumbnails = _thumbnails(material)
    present = {flag.kind for row in rows for flag in row.flags}
    return {
        "script": script("tables.js", "slides.js"),
        "heading": "Slides",
        "viewed": viewed,
        "without_page": len(material.slides) - len(viewed),
        "headings": headings,
        "factors": sorted({h.factor for h in headings}),
        "rows": rows,
        "kinds": [kind for kind in KINDS if kind in present],
        "names": links,
        "thumbnails": thumbnails,
        "without_thumbnail": len(material.slides) - len(thumbnails),
    }


def _thumbnails(material: Material) -> dict[str, bytes]:
    """Return a small picture of each slide, until there are too many bytes of them."""
    found, left = {}, MOST_THUMBNAIL_BYTES
    with progress("report: thumbnails", len(material.slides), "slides") as bar:
        for one in material.slides:
            picture = thumbnail(one.acquired, material.window)
            left -= len(picture)
            if left < 0:
                break
            found[one.slide] = picture
            bar.advance()
    return found


def pictures_page(
    material: Material, shown: Sequence[Illustrated], links: Mapping[str, str]
) -> dict[str, Any]:
    """Return what the page of pictures shows."""
    return {
        "heading": "Pictures",
        "field": FIELD,
        "shown": shown,
        "left_out": len(material.slides) - len(shown),
        "names": links,
    }


def doubts_page(material: Material, charts: Sequence[Chart], pages: Pages) -> dict[str, Any]:
    """Return what the page of doubts shows; pages of places are written on the way."""
    table, settings = material.numbers["hotspots"], material.settings
    spots = pictured(worst_spots(table), material.stores, material.window)
    slides = {s.slide: s for s in material.slides}
    spots = pages.write_spots(spots, slides, settings.viewer_spots, settings.viewer_side)
    return {
        "script": script("tables.js"),
        "heading": "Where to doubt",
        "drawing": next((c for c in charts if c.name == "calibration"), None),
        "lines": coverage_lines(material.numbers["uncertainty"]),
        "spots": spots,
        "spot_notes": material.summary.get("hotspots", {}),
        "spots_in_all": len(table),
        "most": MOST_SPOTS,
    }


def method_page(material: Material) -> dict[str, Any]:
    """Return what the page of method and provenance shows."""
    manifests = [m for _, m in material.records]
    return {
        "heading": "Method & provenance",
        "stages": provenance.stages(material.records),
        "versions": provenance.versions(manifests),
        "total": provenance.duration(sum(m.seconds for m in manifests)),
        "gpu_hours": provenance.gpu_hours(manifests),
        "energy": provenance.energy(manifests),
        "attribution": material.attribution,
    }


def _run_warnings(records: Sequence[tuple[Path, Manifest]]) -> list[str]:
    """Return what stages warned of, but for evaluation, whose warnings the summary holds."""
    return [
        f"{m.stage} {m.counts.get('slide', path.parent.name)}: {w}"
        for path, m in records
        if m.stage != "evaluate"
        for w in m.warnings
    ]


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{max(1, round(count / 1000))} kB"
