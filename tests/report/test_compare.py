import json

import numpy as np
import pandas as pd
import pytest

from msdsr.cli import app, run_guarded
from msdsr.errors import UserError
from msdsr.manifest import Manifest, write_manifest
from msdsr.report.comparability import judge
from msdsr.report.compare import build_comparison
from msdsr.report.differences import (
    SCORES,
    compare_measure,
    difference_of,
)
from msdsr.report.numbers import Number
from msdsr.report.sides import open_side
from msdsr.volume import VoxelSize, write_volume

PSNR = SCORES[0]
NAN = float("nan")
SUMMARY = {
    "slides": [], "patients": [], "factors": [2], "methods": ["linear", "msdsr", "acquired"],
    "channels": ["CH2", "CH3"], "pixel_um": [0.5, 0.5], "crop": 32, "max_images": 20,
    "reference_images": 150, "reference_slides": ["v1"], "inception_sha256": "7ff4" * 16,
    "window": {"low": [0, 0, 0], "high": [9, 9, 9]}, "data_range": [21.0, 22.0],
    "protocols": ["v2"],
}  # fmt: skip


@pytest.fixture
def cohort(tmp_path):
    """Publish a cohort of six patients, with a score for each of their slides."""

    def make(name, shift=0.0, slides=6, seed=1, intervals=True, **summary):
        folder = tmp_path / "results" / name
        metrics = folder / "metrics"
        metrics.mkdir(parents=True)
        rng = np.random.default_rng(7)  # the same tissue in every cohort
        tissue = rng.normal(25, 3, slides)
        noise = np.random.default_rng(seed).normal(0, 0.05, slides)
        names = [f"s{i}" for i in range(slides)]
        common = {"cohort": name, "factor": 2, "channel": "all"}
        per_slide = [
            common | {"method": m, "slide": s, "patient": f"p-{s}", "plane": "mean",
                      "metric": "PSNR", "value": t + e + gain, "n": 10}
            for m, gain in (("linear", 0.0), ("msdsr", 1 + shift))
            for s, t, e in zip(names, tissue, noise, strict=True)
        ]  # fmt: skip
        slide_table = pd.DataFrame(per_slide)
        keys = ["cohort", "factor", "channel", "method", "plane", "metric"]
        groups = slide_table.groupby(keys, as_index=False)
        paired = groups.agg(value=("value", "mean"), n=("n", "sum"))
        fid = pd.DataFrame(
            [
                {"cohort": name, "factor": 2, "method": m, "protocol": "v2", "rescaling": "window",
                 "plane": p, "metric": "FID", "value": v, "n": 40}
                | ({"low": v - 5, "high": v + 5, "se": NAN} if intervals else {})
                for m, v in (("linear", 90.0), ("msdsr", 60.0 + 20 * shift), ("acquired", 40.0))
                for p in ("mean", "XY", "XZ", "YZ")
            ]
        )  # fmt: skip
        for table, rows in (("slides", slide_table), ("paired", paired), ("slicefid", fid)):
            rows.to_parquet(metrics / f"{table}.parquet", index=False)
        whole = SUMMARY | {"cohort": name, "slides": names, "patients": [f"p-{s}" for s in names]}
        (metrics / "summary.json").write_text(json.dumps(whole | summary))
        write_manifest(metrics, Manifest(stage="evaluate", algorithm=3))
        (folder / "report").mkdir()
        (folder / "report/index.html").write_text("the report")
        return folder

    return make


def test_pairs_of_slides_find_a_difference_that_tissue_would_hide():
    rng = np.random.default_rng(0)
    tissue = rng.normal(25, 3, 8)
    a = pd.DataFrame({"slide": list("abcdefgh"), "patient": list("12345678"), "value": tissue})
    b = a.assign(value=tissue + 0.5 + rng.normal(0, 0.05, 8))
    paired = difference_of(a, b)
    assert paired.how == "paired, 8 patients"
    assert 0.4 < paired.low < paired.value < paired.high < 0.6
    apart = difference_of(a, b.assign(slide=list("stuvwxyz")))
    assert apart.how == "8 and 8 patients"
    assert apart.low < 0 < apart.high
    assert apart.value == pytest.approx(paired.value)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(100):
        # Twelve patients of three slides each: a patient's slides are alike.
        patient = np.repeat(np.arange(12), 3)
        make = lambda mean: mean + rng.normal(0, 1, 12)[patient] + rng.normal(0, 0.3, 36)  # noqa: B023, E731
        frame = {"slide": [str(i) for i in range(36)], "patient": patient}
        a = pd.DataFrame(frame | {"value": make(0.0)})
        b = pd.DataFrame(frame | {"value": make(0.7), "slide": [f"b{i}" for i in range(36)]})
        found = difference_of(a, b)
        hits += found.low < 0.7 < found.high
    assert 86 <= hits <= 99


def test_few_patients_give_no_interval():
    a = pd.DataFrame({"slide": ["a", "b"], "patient": ["1", "2"], "value": [1.0, 2.0]})
    found = difference_of(a, a.assign(value=[2.0, 4.0]))
    assert (found.value, found.how) == (1.5, "")


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        ((20, 19, 21), (22, 21.5, 23), "B is better: the intervals do not overlap"),
        ((20, 19, 21), (20.5, 19, 22), "the intervals overlap"),
        ((20, NAN, NAN), (22, NAN, NAN), "no interval: may be chance"),
    ],
)
def test_without_slides_only_the_intervals_speak(a, b, said):
    empty = pd.DataFrame(columns=["slide", "patient", "value"])
    a, b = Number(*a, n=9), Number(*b, n=9)
    found = compare_measure(PSNR, a, b, (empty, empty), comparable=True)
    assert found.verdict == said
    refused = compare_measure(PSNR, a, b, (empty, empty), comparable=False)
    assert refused.verdict == "not comparable"


def test_the_page_says_which_is_better_and_links_to_both(cohort, tmp_path):
    cohort("old"), cohort("new", shift=0.5, seed=2)
    out = tmp_path / "pages/compare.html"
    build_comparison("old", str(tmp_path / "results/new/report"), out, tmp_path / "results")
    page = out.read_text()
    assert 'href="../results/old/report/index.html"' in page
    assert 'href="../results/new/report/index.html"' in page
    assert "B is better<span" in page
    assert "paired, 6 patients" in page
    assert "no difference shown" in page  # linear, which is the same in both
    assert "the intervals overlap" in page  # SliceFID, 60 and 70 ± 5
    assert "real planes" in page
    assert "cannot be compared" not in page


@pytest.mark.parametrize(
    ("change", "told", "spared"),
    [
        ({"crop": 64}, "crops of another size: 32 and 64", "PSNR, SSIM and NRMSE"),
        ({"inception_sha256": "0" * 64}, "another Inception network", "PSNR, SSIM and NRMSE"),
        ({"reference_slides": ["v2"]}, "another reference of real images", "PSNR, SSIM"),
        (
            {"window": {"low": [1, 1, 1], "high": [9, 9, 9]}},
            "another window of intensities",
            "PSNR, SSIM",
        ),
        ({"data_range": [1.0, 2.0]}, "another data range", "FID, KID and MMD"),
    ],
)
def test_numbers_that_were_measured_otherwise_are_not_compared(
    cohort, tmp_path, change, told, spared
):
    cohort("a"), cohort("b", shift=5.0, **change)
    page = build_comparison("a", "b", tmp_path / "c.html", tmp_path / "results").read_text()
    assert told in page
    assert "cannot be compared" in page
    assert ">not comparable<" in page
    assert f"<h3>{spared}" not in page


def test_fid_of_other_numbers_of_images_is_not_compared(cohort, tmp_path):
    cohort("a")
    table = cohort("b", shift=1.0) / "metrics/slicefid.parquet"
    rows = pd.read_parquet(table)
    rows.assign(n=80).to_parquet(table, index=False)
    page = build_comparison("a", "b", tmp_path / "c.html", tmp_path / "results").read_text()
    assert "40 and 80 images" in page


def test_another_version_of_the_evaluation_is_told(cohort, tmp_path):
    cohort("a")
    write_manifest(cohort("b") / "metrics", Manifest(stage="evaluate", algorithm=2))
    sides = [open_side(x.upper(), x, tmp_path / "results") for x in "ab"]
    assert "another version of the evaluation (3 and 2)" in judge(*sides).distances[0]


def test_tables_of_an_older_evaluation_are_read(cohort, tmp_path):
    for name in "ab":
        metrics = cohort(name, intervals=False) / "metrics"
        for table in ("slides", "paired", "slicefid"):
            rows = pd.read_parquet(metrics / f"{table}.parquet")
            older = rows.drop(columns=["protocol", "rescaling", "channel"], errors="ignore")
            older.to_parquet(metrics / f"{table}.parquet", index=False)
    page = build_comparison("a", "b", tmp_path / "c.html", tmp_path / "results").read_text()
    assert "no interval: may be chance" in page


def test_names_are_escaped(cohort, tmp_path):
    hostile = """<script>alert("1")</script>'&amp;"""
    cohort("a"), cohort("b", cohort=hostile, methods=[hostile, "msdsr"])
    page = build_comparison("a", "b", tmp_path / "c.html", tmp_path / "results").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_what_cannot_be_compared_is_told_in_one_line(cohort, tmp_path, capsys):
    cohort("a"), cohort("b", factors=[4])
    results = tmp_path / "results"

    def refuse(match, first, second, out="c.html"):
        with pytest.raises(UserError, match=match):
            build_comparison(first, second, tmp_path / out, results)

    refuse("no metrics of a cohort", "a", "none")
    refuse("the same as a", "a", str(results / "a/metrics"))
    refuse(r"no common factor \(2× and 4×\)", "a", "b")
    refuse("the name of a page", "a", "b", out="c")
    (results / "b/metrics/summary.json").write_text("{")
    refuse("damaged", "a", "b")
    (results / "b/metrics/summary.json").write_text('{"cohort": "b"}')
    refuse("without factors", "a", "b")
    assert not (tmp_path / "c.html").exists()
    command = ["compare", "a", "none", "--results", str(results)]
    assert run_guarded(lambda: app(command, standalone_mode=False)) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_slides_that_both_restored_are_shown_at_one_place(cohort, tmp_path, textured):
    whole = textured((2, 9, 64, 80))
    fine, coarse = VoxelSize(0.5, 0.5, 0.5), VoxelSize(1.0, 0.5, 0.5)
    for name, identity in (("a", "x"), ("b", "x"), ("c", "y")):
        slide = cohort(name) / "slides/s1"
        write_volume(slide / "denoised.ome.zarr", whole[:, ::2], coarse, ("CH2", "CH3"))
        write_volume(slide / "msdsr_2x.ome.zarr", whole, fine, ("CH2", "CH3"))
        record = Manifest(
            stage="superresolve", algorithm=7, seed=4,
            inputs={"volume": identity, "weights": f"{name}bcdef"},
            settings={"steps": 20 if name == "a" else 60},
        )  # fmt: skip
        write_manifest(slide / "msdsr_2x.ome.zarr", record)
    results = tmp_path / "results"
    page = build_comparison("a", "b", tmp_path / "c.html", results).read_text()
    assert "s1, 2×, both" in page
    assert page.count('<p class="method">A: msdsr') == page.count('<p class="method">B: msdsr') == 3
    different, _, same = page.partition("The same in both")
    for text in ("msdsr, 2×: steps", ">20<", ">60<", "abcdef", "bbcdef"):
        assert text in different
    assert "msdsr, 2×: algorithm" in same
    apart = build_comparison("a", "c", tmp_path / "c.html", results).read_text()
    assert "A: s1, 2×" in apart
    assert "B: s1, 2×" in apart
    assert "both</h3>" not in apart
