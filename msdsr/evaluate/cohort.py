"""A cohort: the features of its slides merged, and every number in tidy tables."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from msdsr.config import EvaluateConfig
from msdsr.errors import UserError
from msdsr.evaluate.checks import checks_of_slides, checks_summary, mean_over_patients
from msdsr.evaluate.distances import (
    KID,
    Row,
    Ruler,
    Sureness,
    distance_rows,
    resolved_rows,
    worst_plane,
)
from msdsr.evaluate.features import features_file
from msdsr.evaluate.floor import REAL, Floor, Halves, halve
from msdsr.evaluate.paired import ALL
from msdsr.evaluate.pool import SlideFeatures, pool_slides
from msdsr.evaluate.reference import Reference
from msdsr.evaluate.slide import ACQUIRED, PAIRED_COLUMNS, SPECTRA_COLUMNS, TRUTH
from msdsr.evaluate.tables import (
    DISTANCE,
    SLICEFID,
    SLIDES,
    mean_paired,
    mean_spectra,
    of_slides,
)
from msdsr.evaluate.views import View, views
from msdsr.manifest import Manifest, Stopwatch, identity, read_manifest, write_manifest
from msdsr.metrics.features import FeatureSet
from msdsr.metrics.fid import fid_notes
from msdsr.metrics.mmd import Kid, thinned
from msdsr.progress import progress
from msdsr.volume.store import replace_path

ALGORITHM = 2
REAL_OF_SINGLE = 1000
"""Most real images that a single slide's KID is taken from: a cohort has thousands of them."""

SAID = {
    "v2": "v2 (equal crops of real and restored slices, acquired planes apart)",
    "paper": "paper (restored slices without the 4 outermost voxels, equalised, as published)",
}


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
        Folder to publish, with its manifest beside it: ``slicefid`` (FID, KID and MMD; rows of
        plane ``mean`` are SliceFID, Eq. 10, and its like), ``distance`` (FID and KID by distance
        from the acquired planes), ``paired`` (scores against a truth, mean over slides),
        ``slides`` (KID and paired scores of each slide) and ``spectra``, each as CSV and as
        parquet (columns: `msdsr.evaluate.tables`), and ``summary.json``.
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
    seed = read_manifest(reference).seed or 0
    patients = sorted({r.counts["patient"] for r in records})
    sure = Sureness(len(patients), settings.bootstrap, seed)
    judged = _Judged(cohort, list(zip(records, folders, strict=True)), patients, sure)
    halves = halve(real, seed)
    for view in views(settings):
        _judge(judged, view, real, halves, keep_single=view == views(settings)[0])
    paired = of_slides(folders, "paired.csv", PAIRED_COLUMNS, cohort)
    single = pd.DataFrame(judged.single, columns=SLIDES)
    tables = {
        "slicefid": pd.DataFrame(judged.rows, columns=SLICEFID),
        "distance": pd.DataFrame(judged.distances, columns=DISTANCE),
        "paired": mean_paired(paired, patients, sure),
        "slides": pd.concat([t for t in (single, paired[SLIDES]) if len(t)] or [single]),
        "spectra": mean_spectra(of_slides(folders, "spectra.csv", SPECTRA_COLUMNS, cohort)),
    }
    checks = checks_of_slides(folders, cohort)
    tables |= checks | {
        "heldout": mean_over_patients(checks["heldout_slides"], settings.bootstrap, seed)
    }
    warnings = list(dict.fromkeys(f"{r.counts['slide']}: {w}" for r in records for w in r.warnings))
    warnings += _warnings(tables["slicefid"], real, halves, sure)
    summary = _summary(cohort, real, records, tables, settings, warnings) | {
        **checks_summary(records),
        "worst": judged.worst,
        "floor": {"by": halves.by, "splits": len(halves.splits)},
        "intervals": sure.why_not()
        or f"bootstrap over {len(patients)} patients, {settings.bootstrap} resamples",
    }
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


class _Judged:
    """What has been found of a cohort so far."""

    def __init__(
        self,
        cohort: str,
        slides: list[tuple[Manifest, Path]],
        patients: list[str],
        sure: Sureness,
    ) -> None:
        self.cohort, self.slides, self.patients, self.sure = cohort, slides, patients, sure
        self.rows: list[Row] = []
        self.distances: list[Row] = []
        self.single: list[Row] = []
        self.worst: dict[str, dict[str, dict[str, str]]] = {}

    def of(self, factor: int, method: str, view: View) -> list[SlideFeatures]:
        """Return where the features of one method at one factor are."""
        return [
            SlideFeatures(
                r.counts["slide"], r.counts["patient"], folder / features_file(method, view)
            )
            for r, folder in self.slides
            if r.counts["factor"] == factor and method in r.counts["images"]
        ]


def _judge(judged: _Judged, view: View, real: Reference, halves: Halves, keep_single: bool) -> None:
    """Compare every method at every factor, seen one way, with the real images."""
    features = real.features[view.rescaling]
    ruler, floor = Ruler(features), Floor(features, halves)
    single = Kid(FeatureSet.of(thinned(features, REAL_OF_SINGLE)))
    keys = sorted({(r.counts["factor"], m) for r, _ in judged.slides for m in r.counts["images"]})
    most: dict[int, int] = {}
    with progress(f"evaluate {view.name}: distances", len(keys), "sets") as bar:
        for factor, method in keys:
            common = {
                "cohort": judged.cohort,
                "factor": factor,
                "method": method,
                "protocol": view.protocol,
                "rescaling": view.rescaling,
            }

            def one(who: SlideFeatures, plane: str, rows: NDArray[np.float32]) -> None:
                if keep_single and len(rows) >= 2:
                    value = single(FeatureSet.of(rows))
                    score = {"plane": plane, "channel": ALL, "metric": KID, "value": value}
                    whose = {"slide": who.slide, "patient": who.patient, "n": len(rows)}
                    judged.single.append(common | whose | score)  # noqa: B023

            planes = ("XY",) if method == ACQUIRED else view.planes
            pooled = pool_slides(judged.of(factor, method, view), planes, judged.patients, one)
            rows = list(distance_rows(pooled, ruler, judged.sure))
            judged.rows += [common | row for row in rows]
            judged.distances += [common | row for row in resolved_rows(pooled, ruler)]
            worst = worst_plane(rows)
            if worst is not None and method not in (ACQUIRED, TRUTH):
                of_method = judged.worst.setdefault(str(factor), {}).setdefault(method, {})
                of_method[view.name] = worst
            if method != ACQUIRED:
                most[factor] = max(most.get(factor, 0), pooled.planes["XY"].n)
            bar.advance()
    for factor, images in most.items():
        common = {"cohort": judged.cohort, "factor": factor, "method": REAL}
        seen = {"protocol": view.protocol, "rescaling": view.rescaling}
        judged.rows += [common | seen | row for row in floor.rows(images)]


def _warnings(table: pd.DataFrame, real: Reference, halves: Halves, sure: Sureness) -> list[str]:
    """Say what limits the figures."""
    counts = table.loc[(table["metric"] == "FID") & (table["method"] != REAL), "n"]
    warnings = fid_notes(int(min(counts.min(), real.images))) if len(counts) else []
    if halves.by != "patient":
        whole = "slides" if halves.by == "slide" else "images"
        warnings.append(
            f"the floor `real` sets {whole} of one patient against each other: it lies too low; "
            "give a second patient the split `val`"
        )
    if not sure.possible:
        warnings.append(f"no intervals ({sure.why_not()}): differences may be chance")
    return warnings


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
        "protocol": "; ".join(SAID[protocol] for protocol in dict.fromkeys(settings.protocols)),
        "protocols": list(dict.fromkeys(settings.protocols)),
        "rescalings": list(dict.fromkeys(view.rescaling for view in views(settings))),
        "slides": sorted({r.counts["slide"] for r in records}),
        "patients": sorted({r.counts["patient"] for r in records}),
        "factors": sorted({r.counts["factor"] for r in records}),
        "methods": list(dict.fromkeys(tables["slicefid"]["method"])),
        "paired_slides": len({r.counts["slide"] for r in records if r.counts["paired"]}),
        "reference_images": real.images,
        "reference_slides": list(real.slides),
        "reference_patients": sorted(set(real.patients)),
        "crop": real.crop,
        "max_images": settings.max_images,
        "window": {"low": list(real.window.low), "high": list(real.window.high)},
        "data_range": list(real.peaks),
        "channels": list(real.channels),
        "pixel_um": list(real.pixel_um),
        "inception_sha256": records[0].inputs["inception"],
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
