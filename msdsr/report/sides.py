"""The two reports of a comparison: where they are, their tables, and what made them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from msdsr.errors import UserError
from msdsr.manifest import Manifest, manifest_path, read_manifest
from msdsr.report.numbers import read_table

TABLES = ("slicefid", "paired", "heldout", "slides", "heldout_slides")


@dataclass(frozen=True)
class Side:
    """One of two cohorts, evaluated.

    Attributes
    ----------
    letter
        ``A`` or ``B``.
    name
        The cohort's name.
    folder
        Its folder below the results; None where only the metrics were found.
    metrics
        The folder of its tables.
    summary
        ``summary.json`` of the metrics.
    tables
        The tables by name; a missing one is empty.
    evaluation
        The manifest of the metrics, where there is one.
    """

    letter: str
    name: str
    folder: Path | None
    metrics: Path
    summary: Mapping[str, Any]
    tables: Mapping[str, pd.DataFrame]
    evaluation: Manifest | None

    @property
    def report(self) -> Path | None:
        """The first page of its report, where there is one."""
        page = None if self.folder is None else self.folder / "report/index.html"
        return page if page is not None and page.is_file() else None

    def slides(self) -> dict[str, Path]:
        """Return the folders of the slides that were restored, by slide."""
        if self.folder is None:
            return {}
        found = sorted((self.folder / "slides").glob("*/denoised.ome.zarr"))
        return {path.parent.name: path.parent for path in found}

    def restored(self, slide: str) -> dict[int, dict[str, Path]]:
        """Return the restored stores of a slide by factor and method."""
        stores: dict[int, dict[str, Path]] = {}
        for path in sorted(self.slides()[slide].glob("*_*x.ome.zarr")):
            method, _, factor = path.name.removesuffix("x.ome.zarr").rpartition("_")
            if factor.isdigit() and method in self.summary["methods"]:
                stores.setdefault(int(factor), {})[method] = path
        return stores

    def records_of(self, slide: str) -> Iterator[tuple[str, Manifest]]:
        """Yield the manifests of a slide's restored stores, each with its method and factor."""
        for factor, stores in self.restored(slide).items():
            for method, path in stores.items():
                if manifest_path(path).is_file():
                    yield f"{method}, {factor}×", read_manifest(path)

    def records(self) -> Iterator[tuple[str, Manifest]]:
        """Yield those of all slides."""
        for slide in self.slides():
            yield from self.records_of(slide)


def open_side(letter: str, named: str, results: Path) -> Side:
    """Find a cohort by its folder, its report, its metrics, or its name below the results.

    Raises
    ------
    UserError
        When none of them leads to the metrics of a cohort.
    """
    for place in (Path(named), results / named):
        for metrics in (place / "metrics", place, place.parent / "metrics"):
            beside = metrics.parent == place.parent and metrics != place
            if beside and place.name != "report":
                continue
            if (metrics / "summary.json").is_file():
                return _read(letter, metrics)
    raise UserError(
        named,
        "no metrics of a cohort",
        f"results/<cohort>, its report/ folder, or its name below {results}",
        "check the path, or run `msdsr evaluate cohort`",
    )


def _read(letter: str, metrics: Path) -> Side:
    summary = _summary(metrics / "summary.json")
    tables = {name: read_table(metrics, name) for name in TABLES}
    if tables["slicefid"].empty and tables["paired"].empty:
        raise UserError(metrics, "no numbers in it", "tables of a cohort", "evaluate it again")
    folder = metrics.parent if metrics.name == "metrics" else None
    record = manifest_path(metrics)
    evaluation = read_manifest(record) if record.is_file() else None
    return Side(letter, str(summary["cohort"]), folder, metrics, summary, tables, evaluation)


def _summary(path: Path) -> dict[str, Any]:
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        missing = {"cohort", "slides", "patients", "factors", "methods"} - summary.keys()
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError):
        raise UserError(path, "damaged", "the summary of a cohort", "evaluate it again") from None
    if missing:
        raise UserError(
            path, f"without {', '.join(sorted(missing))}", "the summary of a cohort", "evaluate it"
        )
    return dict(summary)


def joined(values: Iterable[Any], most: int = 4) -> str:
    """Return different values as one text: the first of them, and how many more there are."""
    texts = list(dict.fromkeys(str(value) for value in values))
    shown = ", ".join(texts[:most])
    return f"{shown} and {len(texts) - most} more" if len(texts) > most else shown
