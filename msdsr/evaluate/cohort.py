"""A cohort: the features of its slides merged, and every number in tidy tables."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from msdsr.config import EvaluateConfig
from msdsr.errors import UserError
from msdsr.evaluate.checks import checks_of_slides, checks_summary, mean_over_patients
from msdsr.evaluate.reference import Reference
from msdsr.evaluate.slices import GENERATED, PLANES
from msdsr.manifest import Manifest, Stopwatch, identity, read_manifest, write_manifest
from msdsr.metrics.features import FeatureSet
from msdsr.metrics.fid import fid, fid_notes, slice_mean
from msdsr.metrics.mmd import Kid
from msdsr.progress import progress
from msdsr.volume.store import replace_path

ALGORITHM = 2
COLUMNS = ["cohort", "factor", "method", "plane", "metric", "value", "n"]
MEAN = "mean"


def evaluate_cohort(
    slide_metrics: Sequence[str | Path],
    reference: str | Path,
    out: str | Path,
    *,
    cohort: str,
    settings: EvaluateConfig,
) -> Manifest:
    """Merge the slides of a cohort into its tables.

    Parameters
    ----------
    slide_metrics
        What `evaluate_slide` published, any factors and slides together.
    reference
        ``reference.npz`` of the cohort.
    out
        Folder to publish, with its manifest beside it: ``slicefid.csv`` (FID and KID; rows of
        plane ``mean`` are SliceFID, Eq. 10, and its like for KID), ``paired.csv`` (PSNR, SSIM,
        NRMSE: mean over slides), ``slides.csv`` (KID and paired scores of each slide), each also
        as parquet, and ``summary.json``. Columns: cohort, factor, method, plane, metric, value,
        n (images, or slices in paired.csv).
    cohort
        Its name.
    settings
        Section ``evaluate``.

    Raises
    ------
    UserError
        When there are no slides, or one was judged by another reference.
    """
    watch = Stopwatch()
    real = Reference.load(reference)
    folders = [Path(path) for path in slide_metrics]
    records = _records(folders, reference)
    real_set = FeatureSet.of(real.features)
    kid = Kid(real_set)
    rows: list[dict[str, Any]] = []
    per_slide: list[dict[str, Any]] = []
    warnings = [f"{r.counts['slide']}: {w}" for r in records for w in r.warnings]
    keys = sorted({(r.counts["factor"], m) for r in records for m in r.counts["images"]})
    with progress("evaluate: distances", len(keys), "sets") as bar:
        for factor, method in keys:
            slides = [
                (r, folder / f"features-{method}.npz")
                for r, folder in zip(records, folders, strict=True)
                if r.counts["factor"] == factor and method in r.counts["images"]
            ]
            merged, single = _merge(slides, kid)
            common = {"cohort": cohort, "factor": factor, "method": method}
            rows += [common | row for row in _distances(merged, real_set, kid)]
            per_slide += [common | row for row in single]
            bar.advance()
    paired_slides = _paired(folders, cohort)
    tables = {
        "slicefid": pd.DataFrame(rows, columns=COLUMNS),
        "paired": _mean_over_slides(paired_slides),
        "slides": pd.concat(
            [pd.DataFrame(per_slide, columns=paired_slides.columns), paired_slides]
            if len(paired_slides)
            else [pd.DataFrame(per_slide, columns=paired_slides.columns)],
            ignore_index=True,
        ),
    }
    checks = checks_of_slides(folders, cohort)
    tables |= checks | {"heldout": mean_over_patients(checks["heldout_slides"])}
    warnings += _bias_warnings(tables["slicefid"], len(real.features))
    summary = _summary(cohort, real, records, tables, settings, warnings)
    manifest = Manifest(
        stage="evaluate",
        algorithm=ALGORITHM,
        inputs={"reference": identity(reference)}
        | {
            f"{r.counts['slide']} {r.counts['factor']}x": identity(f)
            for r, f in zip(records, folders, strict=True)
        },
        settings=settings.model_dump(mode="json", exclude={"inception"}),
        counts={k: summary[k] for k in ("slides", "patients", "factors", "reference_images")},
        seconds=watch.seconds(),
        warnings=warnings,
    )
    _publish(Path(out), tables, summary)
    write_manifest(out, manifest)
    return manifest


def _records(folders: Sequence[Path], reference: str | Path) -> list[Manifest]:
    """Return each slide's manifest, once all are known to be comparable."""
    if not folders:
        raise UserError(
            "evaluate", "no slides", "at least one slide of the split `infer`", "add one"
        )
    records = [read_manifest(folder) for folder in folders]
    expected = identity(reference)
    for folder, record in zip(folders, records, strict=True):
        if record.inputs.get("reference") != expected:
            raise UserError(
                folder,
                "judged by another reference",
                f"the one at {reference}",
                "evaluate this slide again",
            )
    return records


def _merge(
    slides: Iterable[tuple[Manifest, Path]], kid: Kid
) -> tuple[dict[str, FeatureSet], list[dict[str, Any]]]:
    """Merge one method's features over slides, and score each slide by itself on the way."""
    merged = {plane: FeatureSet() for plane in (*PLANES, GENERATED)}
    single: list[dict[str, Any]] = []
    for record, path in slides:
        who = {"slide": record.counts["slide"], "patient": record.counts["patient"]}
        with np.load(path) as file:
            rows = {plane: file[plane] for plane in merged if plane in file}
        for plane, features in rows.items():
            merged[plane].add(features)
            if len(features) >= 2:
                value = kid(FeatureSet.of(features))
                single.append(
                    who | {"plane": plane, "metric": "KID", "value": value, "n": len(features)}
                )
    return merged, single


def _distances(merged: dict[str, FeatureSet], real: FeatureSet, kid: Kid) -> list[dict[str, Any]]:
    """Return FID and KID of each plane, and their mean where all three planes have images."""
    rows = []
    distances: dict[str, Callable[[FeatureSet], float]] = {"FID": partial(fid, real), "KID": kid}
    for metric, distance in distances.items():
        values = {p: distance(features) for p, features in merged.items() if features.n >= 2}
        rows += [
            {"plane": p, "metric": metric, "value": v, "n": merged[p].n} for p, v in values.items()
        ]
        if all(plane in values for plane in PLANES):
            n = min(merged[plane].n for plane in PLANES)
            rows.append({"plane": MEAN, "metric": metric, "value": slice_mean(values), "n": n})
    return rows


def _paired(folders: Sequence[Path], cohort: str) -> pd.DataFrame:
    columns = ["cohort", "factor", "method", "slide", "patient", "plane", "metric", "value", "n"]
    tables = [
        pd.read_csv(folder / "paired.csv", dtype={"slide": str, "patient": str})
        for folder in folders
    ]
    found = [table for table in tables if len(table)]
    if not found:
        return pd.DataFrame(columns=columns)
    return pd.concat(found, ignore_index=True).assign(cohort=cohort)[columns]


def _mean_over_slides(slides: pd.DataFrame) -> pd.DataFrame:
    """Return the mean of each score over slides, each slide counting once."""
    if slides.empty:
        return pd.DataFrame(columns=COLUMNS)
    keys = ["cohort", "factor", "method", "plane", "metric"]
    groups = slides.groupby(keys, sort=False, as_index=False)
    return groups.agg(value=("value", "mean"), n=("n", "sum"))[COLUMNS]


def _bias_warnings(table: pd.DataFrame, reference_images: int) -> list[str]:
    counts = table.loc[table["metric"] == "FID", "n"]
    fewest = int(min(counts.min(), reference_images)) if len(counts) else 0
    return fid_notes(fewest)


def _summary(
    cohort: str,
    real: Reference,
    records: Sequence[Manifest],
    tables: dict[str, pd.DataFrame],
    settings: EvaluateConfig,
    warnings: Sequence[str],
) -> dict[str, Any]:
    """Return what a reader needs beside the tables."""
    return {
        "cohort": cohort,
        "protocol": "v2 (one fixed window, equal crops, acquired planes apart)",
        "slides": sorted({r.counts["slide"] for r in records}),
        "patients": sorted({r.counts["patient"] for r in records}),
        "factors": sorted({r.counts["factor"] for r in records}),
        "methods": list(dict.fromkeys(tables["slicefid"]["method"])),
        "paired_slides": len({r.counts["slide"] for r in records if r.counts["paired"]}),
        "reference_images": len(real.features),
        "reference_slides": list(real.slides),
        "crop": real.crop,
        "max_images": settings.max_images,
        "window": {"low": list(real.window.low), "high": list(real.window.high)},
        "data_range": list(real.peaks),
        "channels": list(real.channels),
        "pixel_um": list(real.pixel_um),
        "inception_sha256": records[0].inputs["inception"],
        **checks_summary(records),
        "warnings": list(warnings),
    }


def _publish(out: Path, tables: dict[str, pd.DataFrame], summary: dict[str, Any]) -> None:
    """Write the folder beside its place, and move it there by one rename."""
    unfinished = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for name, table in tables.items():
        table.to_csv(unfinished / f"{name}.csv", index=False)
        table.to_parquet(unfinished / f"{name}.parquet", index=False)
    (unfinished / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    replace_path(unfinished, out)
