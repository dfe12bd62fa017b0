"""Build a cohort's report: its pages, and the numbers and figures behind them as files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
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
from msdsr.report.archive import pack
from msdsr.report.charts import Chart, file_names, plate_png
from msdsr.report.contents import (
    Illustrated,
    Material,
    doubts_page,
    figures_page,
    method_page,
    overview_page,
    pictures_page,
    slides_page,
    tables_page,
)
from msdsr.report.figures import figures
from msdsr.report.numbers import Numbers, read_numbers
from msdsr.report.pages import page_names, render
from msdsr.report.pictures import choose, draw_plate
from msdsr.report.slidepages import Pages, ReportSlide
from msdsr.report.training import training_charts
from msdsr.volume.colour import Window
from msdsr.volume.store import replace_path

ALGORITHM = 3


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
        What `msdsr.evaluate.evaluate_cohort` published. A table that is missing there leaves its
        part of the report out, but for ``slicefid``.
    slides
        The superresolved slides.
    curves
        From a model's name to the ``metrics.jsonl`` of its training; a file that is not there (a
        released model without its diary) is left out.
    manifests
        Products, or their manifests, that the numbers come from.
    out_dir
        Folder to publish by one rename: ``index.html`` and the pages beside it, a page of each
        slide in ``slides/``, ``figures/*.png`` and ``*.svg``, ``tables/`` and ``report.zip``. Each
        page needs nothing beside it. Its manifest ``<out_dir>.json`` stands beside it.
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
    summary, broken = _read_summary(metrics), {each.slide for each in failed}
    material = Material(
        cohort=cohort,
        title=settings.title or cohort,
        summary=summary,
        numbers=read_numbers(metrics),
        window=_window(summary),
        slides=[s for s in slides if s.slide not in broken],
        failed=failed,
        records=[(_record_path(Path(p)), read_manifest(p)) for p in manifests],
        settings=settings,
        notes=notes,
        attribution=attribution,
    )
    unfinished = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    counts, measured = _write(material, curves, unfinished, out.name)
    replace_path(unfinished, out)
    manifest = Manifest(
        stage="report",
        algorithm=ALGORITHM,
        inputs={"metrics": identity(metrics)}
        | {f"manifest {path}": sha256_file(path) for path, _ in material.records},
        settings=settings.model_dump(mode="json"),
        counts=counts,
        measured=measured,
        seconds=watch.seconds(),
    )
    write_manifest(out, manifest)
    return manifest


def _write(
    material: Material, curves: Mapping[str, str | Path], folder: Path, name: str
) -> tuple[dict[str, int], dict[str, int]]:
    """Write all files of a report; return what was counted and measured."""
    settings = material.settings
    charts = [*figures(material.numbers), *training_charts(curves)]
    shown = _illustrate(material)
    chosen = choose([s.slide for s in material.slides], settings.viewer_slides)
    viewed = [s for s in (material.slides[i] for i in chosen) if s.restored]
    names = page_names([s.slide for s in material.slides])
    around = {"cohort": material.cohort, "title": material.title}
    pages = Pages(folder, material.window, names, around)
    pages.write_slides(viewed, settings.viewer_side)
    _write_tables(material.numbers, folder / "tables")
    _write_figures(charts, shown, folder / "figures")
    common = around | {"summary": material.summary, "intervals": material.intervals, "root": ""}
    links = {s.slide: names[s.slide] for s in viewed}
    for file, values in (
        ("index", overview_page(material, charts, shown, viewed, names)),
        ("tables", tables_page(material)),
        ("figures", figures_page(charts)),
        ("slides", slides_page(material, viewed, links)),
        ("pictures", pictures_page(material, shown, links)),
        ("uncertainty", doubts_page(material, charts, pages)),
        ("method", method_page(material)),
    ):
        page = f"{file}.html"
        html = render(f"{page}.j2", page=page, **{"script": "", **common, **values})
        (folder / page).write_text(html, encoding="utf-8")
    first = sum(path.stat().st_size for path in folder.glob("*.html"))
    archive = pack(folder, name)
    counts = {
        "slides": len(material.slides),
        "slides_with_pictures": len(shown),
        "slides_with_viewer": len(viewed),
        "slides_failed": len(material.failed),
        "figures": len(charts) + sum(len(each.plates) for each in shown),
    }
    measured = {
        "page_bytes": (folder / "index.html").stat().st_size,
        "first_pages_bytes": first,
        "largest_slide_page_bytes": pages.largest,
        "archive_bytes": archive.stat().st_size,
    }
    return counts, measured


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


def _window(summary: Mapping[str, Any]) -> Window:
    low, high = (tuple(float(v) for v in summary["window"][key]) for key in ("low", "high"))
    return Window((low[0], low[1], low[2]), (high[0], high[1], high[2]))


def _illustrate(material: Material) -> list[Illustrated]:
    """Cut the pictures of as many slides as the settings allow."""
    most = material.settings.slides_with_pictures
    chosen = choose([s.slide for s in material.slides], most)
    shown = []
    with progress("report: pictures", len(chosen), "slides") as bar:
        for i in chosen:
            one = material.slides[i]
            plates = tuple(
                draw_plate(one.acquired, restored, one.truth, factor, material.window, one.slide)
                for factor, restored in sorted(one.restored.items())
            )
            shown.append(Illustrated(one, plates))
            bar.advance()
    return shown


def _write_tables(numbers: Numbers, folder: Path) -> None:
    folder.mkdir()
    for path in numbers.files():
        shutil.copyfile(path, folder / path.name)


def _write_figures(charts: Sequence[Chart], shown: Sequence[Illustrated], folder: Path) -> None:
    folder.mkdir()
    for chart in charts:
        (folder / f"{chart.name}.png").write_bytes(chart.png)
        (folder / f"{chart.name}.svg").write_text(chart.svg, encoding="utf-8")
    files = file_names([each.slide.slide for each in shown])
    for each in shown:
        for plate in each.plates:
            name = f"slide_{files[each.slide.slide]}_{plate.factor}x.png"
            title = f"{each.slide.slide}, {plate.factor}×"
            (folder / name).write_bytes(plate_png(plate, title))
