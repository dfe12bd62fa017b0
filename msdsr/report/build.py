"""Build a cohort's page: numbers, pictures, training and provenance in one file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msdsr.config import ReportConfig
from msdsr.errors import UserError
from msdsr.failures import Failure
from msdsr.manifest import (
    Manifest,
    Stopwatch,
    identity,
    manifest_path,
    read_manifest,
    sha256_file,
    write_manifest,
)
from msdsr.progress import progress
from msdsr.report.charts import (
    Chart,
    distance_chart,
    plate_png,
    safe_name,
    training_chart,
)
from msdsr.report.pages import page_names, render, script
from msdsr.report.pictures import FIELD, Plate, choose, draw_plate
from msdsr.report.provenance import duration, stages, versions
from msdsr.report.tables import factor_tables, read_tables, slide_rows
from msdsr.report.viewer import Neighbours, Volumes, slide_page
from msdsr.volume.colour import Window
from msdsr.volume.store import replace_path

ALGORITHM = 2
CSV = ("slicefid", "paired", "slides")


@dataclass(frozen=True)
class ReportSlide:
    """A superresolved slide.

    Parameters
    ----------
    slide, patient
        Who this is.
    acquired
        The volume that was restored (denoised.ome.zarr).
    restored
        From a factor to the store of each method at it.
    truth
        Store of the isotropic truth, if there is one.
    notes
        What the sample sheet says of it.
    spread
        From a factor to the store of each method's standard deviation, where there is one.
    """

    slide: str
    patient: str
    acquired: Path
    restored: Mapping[int, Mapping[str, Path]] = field(default_factory=dict)
    truth: Path | None = None
    notes: str = ""
    spread: Mapping[int, Mapping[str, Path]] = field(default_factory=dict)


@dataclass(frozen=True)
class Illustrated:
    """A slide with its pictures."""

    slide: ReportSlide
    plates: tuple[Plate, ...]


def build_report(
    *,
    cohort: str,
    metrics_dir: str | Path,
    slides: Sequence[ReportSlide],
    curves: Mapping[str, str | Path],
    manifests: Sequence[str | Path],
    out_dir: str | Path,
    settings: ReportConfig,
    attribution: str,
    notes: Sequence[str] = (),
    failed: Sequence[Failure] = (),
) -> Manifest:
    """Build the report of a cohort.

    Parameters
    ----------
    cohort
        Its name.
    metrics_dir
        What `msdsr.evaluate.evaluate_cohort` published.
    slides
        The superresolved slides.
    curves
        From a model's name to the ``metrics.jsonl`` of its training; a file that is not there (a
        released model without its diary) is left out.
    manifests
        Products, or their manifests, that the numbers come from.
    out_dir
        Folder to publish by one rename: ``index.html`` and a page of each slide in ``slides/``,
        each of which needs nothing beside it, and ``figures/*.png``. Its manifest
        ``<out_dir>.json`` stands beside it.
    settings
        Section ``report`` of the configuration.
    attribution
        Source and licence of the data.
    notes
        Sentences for the reader, shown on top.
    failed
        Slides that are in none of the above because they failed.

    Raises
    ------
    UserError
        When the metrics or a volume are missing.
    """
    watch = Stopwatch()
    metrics, out = Path(metrics_dir), Path(out_dir)
    summary = _read_summary(metrics)
    records = [(_record_path(Path(p)), read_manifest(p)) for p in manifests]
    numbers = read_tables(metrics)
    window = _window(summary)
    shown = _illustrate(slides, window, settings)
    viewed = [slides[i] for i in choose([s.slide for s in slides], settings.viewer_slides)]
    viewed = [s for s in viewed if s.restored]
    names = page_names([s.slide for s in viewed])
    charts = [c for c in (distance_chart(numbers), *_training(curves)) if c is not None]
    headings, per_slide = slide_rows(metrics)
    title = settings.title or cohort
    page = render(
        "index.html.j2",
        script=script("index.js"),
        field=FIELD,
        title=title,
        cohort=cohort,
        summary=summary,
        tables=factor_tables(numbers, len(summary["slides"])),
        charts={chart.name: chart for chart in charts},
        training=[chart for chart in charts if chart.name.startswith("training_")],
        headings=headings,
        per_slide=per_slide,
        shown=shown,
        left_out=len(slides) - len(shown),
        viewed=[(s, names[s.slide]) for s in viewed],
        pages={slide: f"slides/{name}" for slide, name in names.items()},
        without_page=len(slides) - len(viewed),
        notes_of={s.slide: s.notes for s in slides},
        notes=[*notes, *_left_out(failed)],
        failed=failed,
        attribution=attribution,
        stages=stages(records),
        versions=versions(m for _, m in records),
        total=duration(sum(m.seconds for _, m in records)),
        warnings=list(dict.fromkeys([*summary["warnings"], *_run_warnings(records)])),
        downloads={name: (metrics / f"{name}.csv").read_bytes() for name in CSV},
    )
    unfinished = out.with_name(f".{out.name}.unfinished")
    _write_index(unfinished, page, charts, shown)
    largest = _write_slides(
        unfinished / "slides", viewed, names, window, settings, cohort=cohort, title=title
    )
    replace_path(unfinished, out)
    manifest = Manifest(
        stage="report",
        algorithm=ALGORITHM,
        inputs={"metrics": identity(metrics)}
        | {f"manifest {path}": sha256_file(path) for path, _ in records},
        settings=settings.model_dump(mode="json"),
        counts={
            "slides": len(slides),
            "slides_with_pictures": len(shown),
            "slides_with_viewer": len(viewed),
            **({"slides_failed": len(failed)} if failed else {}),
            "figures": len(charts) + sum(len(each.plates) for each in shown),
        },
        measured={"page_bytes": len(page.encode()), "largest_slide_page_bytes": largest},
        seconds=watch.seconds(),
    )
    write_manifest(out, manifest)
    return manifest


def _record_path(path: Path) -> Path:
    return path if path.suffix == ".json" else manifest_path(path)


def _read_summary(metrics: Path) -> dict[str, Any]:
    try:
        summary = json.loads((metrics / "summary.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        raise UserError(
            metrics, "no metrics of a cohort", "what `msdsr evaluate cohort` publishes", "run it"
        ) from None
    if not isinstance(summary, dict):
        raise UserError(metrics, "summary.json is damaged", "an object", "evaluate again")
    return summary


def _run_warnings(records: Sequence[tuple[Path, Manifest]]) -> list[str]:
    """Return what stages warned of, but for evaluation, whose warnings the summary holds."""
    return [
        f"{m.stage} {m.counts.get('slide', path.parent.name)}: {w}"
        for path, m in records
        if m.stage != "evaluate"
        for w in m.warnings
    ]


def _left_out(failed: Sequence[Failure]) -> list[str]:
    """Say on top that slides are missing."""
    if not failed:
        return []
    slides = "1 slide is" if len(failed) == 1 else f"{len(failed)} slides are"
    return [f"{slides} missing here because processing failed: see Failed slides below."]


def _window(summary: Mapping[str, Any]) -> Window:
    low, high = (tuple(float(v) for v in summary["window"][key]) for key in ("low", "high"))
    return Window((low[0], low[1], low[2]), (high[0], high[1], high[2]))


def _illustrate(
    slides: Sequence[ReportSlide], window: Window, settings: ReportConfig
) -> list[Illustrated]:
    """Cut the pictures of as many slides as the settings allow."""
    chosen = choose([s.slide for s in slides], settings.slides_with_pictures)
    shown = []
    with progress("report: pictures", len(chosen), "slides") as bar:
        for i in chosen:
            one = slides[i]
            plates = tuple(
                draw_plate(one.acquired, restored, one.truth, factor, window, one.slide)
                for factor, restored in sorted(one.restored.items())
            )
            shown.append(Illustrated(one, plates))
            bar.advance()
    return shown


def _training(curves: Mapping[str, str | Path]) -> list[Chart]:
    found = [training_chart(name, Path(p)) for name, p in curves.items() if Path(p).exists()]
    return [chart for chart in found if chart is not None]


def _write_index(
    folder: Path, page: str, charts: Sequence[Chart], shown: Sequence[Illustrated]
) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    figures = folder / "figures"
    figures.mkdir(parents=True)
    (folder / "index.html").write_text(page, encoding="utf-8")
    for chart in charts:
        (figures / f"{chart.name}.png").write_bytes(chart.png)
    for each in shown:
        for plate in each.plates:
            name = f"slide_{safe_name(each.slide.slide)}_{plate.factor}x.png"
            title = f"{each.slide.slide}, {plate.factor}×"
            (figures / name).write_bytes(plate_png(plate, title))


def _write_slides(
    folder: Path,
    viewed: Sequence[ReportSlide],
    names: Mapping[str, str],
    window: Window,
    settings: ReportConfig,
    *,
    cohort: str,
    title: str,
) -> int:
    """Write a page of each slide, one after another; return the bytes of the largest."""
    folder.mkdir(parents=True)
    largest = 0
    neighbours = [None, *((s.slide, names[s.slide]) for s in viewed), None]
    with progress("report: slides", len(viewed), "slides") as bar:
        for i, one in enumerate(viewed):
            page = slide_page(
                Volumes(one.acquired, one.restored, one.spread, one.truth),
                window,
                settings.viewer_side,
                cohort=cohort,
                title=title,
                slide=one.slide,
                patient=one.patient,
                notes=one.notes,
                neighbours=Neighbours(neighbours[i], neighbours[i + 2]),
            ).encode()
            (folder / names[one.slide]).write_bytes(page)
            largest = max(largest, len(page))
            bar.advance()
    return largest
