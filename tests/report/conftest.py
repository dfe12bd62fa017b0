import hashlib
import json

import numpy as np
import pandas as pd
import pytest

from msdsr.config import ReportConfig
from msdsr.manifest import Manifest, write_manifest
from msdsr.report import ReportSlide, build_report
from msdsr.report.numbers import read_numbers
from msdsr.volume import VoxelSize, write_volume

CHANNELS = ("CH2", "CH3")
FID = {
    "acquired": {"XY": 40.0},
    "nearest": {"XY": 41.0, "XY generated": 50.0, "XZ": 200.0, "YZ": 180.0},
    "linear": {"XY": 60.0, "XY generated": 75.0, "XZ": 90.0, "YZ": 96.0},
    "msdsr": {"XY": 45.0, "XY generated": 55.0, "XZ": 60.0, "YZ": 66.0},
    "truth": {"XY": 41.0, "XY generated": 42.0, "XZ": 44.0, "YZ": 45.0},
}
PAIRED = {
    "nearest": {"PSNR": 20.1, "SSIM": 0.61},
    "linear": {"PSNR": 24.2, "SSIM": 0.72},
    "msdsr": {"PSNR": 23.7, "SSIM": 0.74},
}
SUMMARY = {
    "cohort": "demo",
    "protocol": "v2",
    "slides": ["s1", "s2"],
    "patients": ["p1", "p2"],
    "factors": [2],
    "methods": list(FID),
    "paired_slides": 2,
    "reference_images": 150,
    "reference_slides": ["v1"],
    "crop": 32,
    "max_images": 20,
    "window": {"low": [0, 1000, 1000], "high": [9000, 30000, 30000]},
    "data_range": [21000.0, 22000.0],
    "channels": list(CHANNELS),
    "pixel_um": [0.5, 0.5],
    "inception_sha256": "7ff4a85c3a63780011223344",
    "warnings": ["FID on 40 images (fewer than 2048) is biased upward"],
}


def long_table(cohort="demo", factors=(2,), kid_scale=0.001):
    rows = []
    for factor in factors:
        for method, by_plane in FID.items():
            values = dict(by_plane)
            if len(values) > 1:
                values["mean"] = np.mean([by_plane[p] for p in ("XY", "XZ", "YZ")])
            for metric, scale in (("FID", 1.0), ("KID", kid_scale)):
                rows += [
                    (cohort, factor, method, p, metric, v * scale, 40) for p, v in values.items()
                ]
    columns = ["cohort", "factor", "method", "plane", "metric", "value", "n"]
    return pd.DataFrame(rows, columns=columns)


def paired_table(cohort="demo", factors=(2,)):
    rows = [
        (cohort, factor, method, "mean", metric, value, 80)
        for factor in factors
        for method, scores in PAIRED.items()
        for metric, value in scores.items()
    ]
    columns = ["cohort", "factor", "method", "plane", "metric", "value", "n"]
    return pd.DataFrame(rows, columns=columns)


@pytest.fixture
def numbers(tmp_path):
    """Return the numbers of a cohort, of some tables by name."""

    def make(**tables):
        folder = tmp_path / "numbers"
        folder.mkdir(exist_ok=True)
        for name, table in ({"slicefid": long_table(), "paired": paired_table()} | tables).items():
            table.to_parquet(folder / f"{name}.parquet", index=False)
        return read_numbers(folder)

    return make


@pytest.fixture
def published(tmp_path, publish):
    """Publish every table that evaluation can make."""

    def make(slides=(("s1", "p1"), ("s2", "p2")), **changes):
        return publish(tmp_path / "metrics", list(slides), **{"factors": (2,)} | changes)

    return make


@pytest.fixture
def metrics_of(tmp_path):
    """Publish the metrics of a cohort as an evaluation did that knew three tables only."""

    def make(slides=("s1", "s2"), paired=True, factors=(2,), **summary):
        folder = tmp_path / "metrics"
        folder.mkdir(exist_ok=True)
        per_slide = [
            {"cohort": "demo", "factor": f, "method": m, "slide": s, "patient": f"p-{s}"}
            | {"plane": plane, "metric": "KID", "value": 0.02, "n": 20}
            for f in factors
            for s in slides
            for m in ("nearest", "msdsr")
            for plane in ("XY", "XZ", "YZ")
        ]
        scores = paired_table(factors=factors)
        tables = {
            "slicefid": long_table(factors=factors),
            "paired": scores if paired else scores.iloc[:0],
            "slides": pd.DataFrame(per_slide),
        }
        for name, table in tables.items():
            table.to_csv(folder / f"{name}.csv", index=False)
            table.to_parquet(folder / f"{name}.parquet", index=False)
        summary = SUMMARY | {"slides": list(slides), "factors": list(factors)} | summary
        (folder / "summary.json").write_text(json.dumps(summary))
        write_manifest(folder, Manifest(stage="evaluate", algorithm=1))
        return folder

    return make


@pytest.fixture
def slide_of(tmp_path, textured):
    """Write the volumes of a superresolved slide."""

    def make(slide="s1", patient="p1", truth=True, notes="", factor=2, std=False):
        folder = tmp_path / "slides" / hashlib.sha256(slide.encode()).hexdigest()[:8]
        whole = textured((2, 19, 64, 80))
        fine, coarse = VoxelSize(0.5, 0.5, 0.5), VoxelSize(1.0, 0.5, 0.5)
        write_volume(folder / "truth.ome.zarr", whole, fine, CHANNELS)
        write_volume(folder / "denoised.ome.zarr", whole[:, ::2], coarse, CHANNELS)
        keep = factor // 2
        planes = ((whole[:, :: 2 * keep]).shape[1] - 1) * factor + 1
        restored = folder / f"msdsr_{factor}x.ome.zarr"
        write_volume(restored, whole[:, :planes] // 2, fine, CHANNELS)
        spread = folder / f"msdsr_{factor}x_std.ome.zarr" if std else None
        if spread:
            write_volume(spread, (whole[:, :planes] // 50).astype(np.float32), fine, CHANNELS)
        return ReportSlide(
            slide,
            patient,
            folder / "denoised.ome.zarr",
            {factor: {"msdsr": restored}},
            folder / "truth.ome.zarr" if truth else None,
            notes,
            {factor: {"msdsr": spread}} if spread else {},
        )

    return make


@pytest.fixture
def build(tmp_path, metrics_of):
    def make(slides, metrics=None, **changes):
        arguments = {
            "cohort": "demo",
            "metrics_dir": metrics or metrics_of(),
            "slides": slides,
            "curves": {},
            "manifests": [],
            "out_dir": tmp_path / "report",
            "settings": ReportConfig(),
            "attribution": "Synthetic tissue; CC0.",
            "notes": (),
        } | changes
        manifest = build_report(**arguments)
        files = (tmp_path / "report").glob("*.html")
        return manifest, {p.stem: p.read_text(encoding="utf-8") for p in files}

    return make
