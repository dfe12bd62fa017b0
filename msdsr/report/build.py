"""Build a cohort's page: numbers, pictures, training and provenance in one file."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from msdsr import __version__
from msdsr.config import ReportConfig
from msdsr.errors import UserError
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
from msdsr.report.pictures import FIELD, Plate, choose, draw_plate
from msdsr.report.provenance import duration, stages, versions
from msdsr.report.tables import factor_tables, read_tables, slide_rows
from msdsr.volume.colour import Window
from msdsr.volume.store import replace_path

ALGORITHM = 1
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
    """

    slide: str
    patient: str
    acquired: Path
    restored: Mapping[int, Mapping[str, Path]] = field(default_factory=dict)
    truth: Path | None = None
    notes: str = ""


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
        Folder to publish by one rename: ``index.html``, which needs nothing beside it, and
        ``figures/*.png``. Its manifest ``<out_dir>.json`` stands beside it.
    settings
        Section ``report`` of the configuration.
    attribution
        Source and licence of the data.
    notes
        Sentences for the reader, shown on top.

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
    shown = _illustrate(slides, summary, settings)
    charts = [c for c in (distance_chart(numbers), *_training(curves)) if c is not None]
    headings, per_slide = slide_rows(metrics)
    page = _render(
        title=settings.title or cohort,
        cohort=cohort,
        summary=summary,
        tables=factor_tables(numbers, len(summary["slides"])),
        charts={chart.name: chart for chart in charts},
        training=[chart for chart in charts if chart.name.startswith("training_")],
        headings=headings,
        per_slide=per_slide,
        shown=shown,
        left_out=len(slides) - len(shown),
        notes_of={s.slide: s.notes for s in slides},
        notes=list(notes),
        attribution=attribution,
        stages=stages(records),
        versions=versions(m for _, m in records),
        total=duration(sum(m.seconds for _, m in records)),
        warnings=list(dict.fromkeys([*summary["warnings"], *_run_warnings(records)])),
        downloads={name: (metrics / f"{name}.csv").read_bytes() for name in CSV},
    )
    _publish(out, page, charts, shown)
    manifest = Manifest(
        stage="report",
        algorithm=ALGORITHM,
        inputs={"metrics": identity(metrics)}
        | {f"manifest {path}": sha256_file(path) for path, _ in records},
        settings=settings.model_dump(mode="json"),
        counts={
            "slides": len(slides),
            "slides_with_pictures": len(shown),
            "figures": len(charts) + sum(len(each.plates) for each in shown),
        },
        measured={"page_bytes": len(page.encode())},
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


def _illustrate(
    slides: Sequence[ReportSlide], summary: Mapping[str, Any], settings: ReportConfig
) -> list[Illustrated]:
    """Cut the pictures of as many slides as the settings allow."""
    low, high = (tuple(float(v) for v in summary["window"][key]) for key in ("low", "high"))
    window = Window((low[0], low[1], low[2]), (high[0], high[1], high[2]))
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


def data_uri(kind: str, content: bytes | str) -> str:
    """Return content as a ``data:`` address, so that the page needs no other file."""
    raw = content.encode() if isinstance(content, str) else content
    return f"data:{kind};base64,{base64.b64encode(raw).decode('ascii')}"


def _render(**values: Any) -> str:
    environment = Environment(
        loader=PackageLoader("msdsr.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = lambda content, kind: data_uri(kind, content)
    loader = environment.loader
    assert loader is not None
    css, _, _ = loader.get_source(environment, "style.css")
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    template = environment.get_template("index.html.j2")
    return template.render(
        css=Markup(css),  # noqa: S704 - our own file, and no value enters it
        version=__version__,
        now=now,
        field=FIELD,
        **values,
    )


def _publish(out: Path, page: str, charts: Sequence[Chart], shown: Sequence[Illustrated]) -> None:
    """Write the folder beside its place, and move it there by one rename."""
    unfinished = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    figures = unfinished / "figures"
    figures.mkdir(parents=True)
    (unfinished / "index.html").write_text(page, encoding="utf-8")
    for chart in charts:
        (figures / f"{chart.name}.png").write_bytes(chart.png)
    for each in shown:
        for plate in each.plates:
            name = f"slide_{safe_name(each.slide.slide)}_{plate.factor}x.png"
            title = f"{each.slide.slide}, {plate.factor}×"
            (figures / name).write_bytes(plate_png(plate, title))
    replace_path(unfinished, out)
