import json

import numpy as np
import pandas as pd
import pytest

from msdsr.config import EvaluateConfig
from msdsr.errors import UserError
from msdsr.evaluate import build_reference, evaluate_cohort, evaluate_slide, extract
from msdsr.evaluate.reference import Reference
from msdsr.manifest import read_manifest
from msdsr.metrics.features import FeatureSet
from msdsr.metrics.fid import fid
from msdsr.metrics.mmd import Kid

PLANES = 20


@pytest.fixture
def cohort(tmp_path, publish, tissue, standin_path, evaluate_settings, patches_of):
    """Two slides with truth, a made-up restoration at 2×, and a reference."""

    class Cohort:
        folder = tmp_path
        settings = evaluate_settings
        reference = tmp_path / "reference.npz"
        stores, truths, restored = {}, {}, {}

        def evaluate(self, slide, **changes):
            arguments = {
                "acquired": self.stores[slide],
                "restored": {"msdsr": self.restored[slide]},
                "out": tmp_path / "slides" / slide / "metrics_2x",
                "work": tmp_path / ".work" / slide,
                "slide": slide,
                "patient": f"p-{slide}",
                "factor": 2,
                "truth": self.truths[slide],
                "patches": patches_of(self.stores[slide]),
                "reference": self.reference,
                "inception": standin_path,
                "settings": self.settings,
                "seed": 5,
                "device": "cpu",
            }
            arguments |= changes
            return evaluate_slide(**arguments)

        def merge(self, *folders):
            return evaluate_cohort(
                folders, self.reference, tmp_path / "metrics", cohort="demo", settings=self.settings
            )

    made = Cohort()
    real = publish("real", tissue(0, (2, 6, 48, 56)))
    build_reference(
        [real],
        [patches_of(real)],
        made.reference,
        tmp_path / ".work/reference",
        inception=standin_path,
        settings=made.settings,
        seed=5,
        device="cpu",
    )
    for i, slide in enumerate(("s1", "s2")):
        truth = tissue(10 + i)
        made.truths[slide] = publish(slide, truth, "truth.ome.zarr", z_um=0.5)
        made.stores[slide] = publish(slide, truth[:, ::2])
        noisy = truth.copy()
        noisy[:, 1::2] += 700
        rows = {"acquired_planes": list(range(0, 2 * PLANES - 1, 2))}
        made.restored[slide] = publish(slide, noisy, "msdsr_2x.ome.zarr", 0.5, rows)
    return made


def features(folder, name):
    with np.load(folder / f"features-{name}.npz") as file:
        return {key: file[key] for key in file}


def test_a_slide_has_features_of_every_method_and_scores(cohort):
    manifest = cohort.evaluate("s1")
    out = cohort.folder / "slides/s1/metrics_2x"
    assert manifest.counts["images"] == {
        "acquired": {"XY": 12},
        **{
            name: {"XY": 12, "XZ": 12, "YZ": 12, "XY generated": 12}
            for name in ("nearest", "linear", "msdsr", "truth")
        },
    }
    assert manifest.counts["generated_planes"] == PLANES - 1
    assert manifest.warnings == []
    assert read_manifest(out).inputs == manifest.inputs
    found = features(out, "msdsr")
    assert found["XY"].shape == (12, 16)
    assert found["XZ_places"].shape == (12, 6)
    z = found["XY_places"][:, 0]
    np.testing.assert_array_equal(found["XY_distance"], z % 2)
    assert set(found["XY generated_distance"]) == {1}
    shared = {tuple(place) for place in found["XY_places"][z % 2 == 1]}
    assert shared
    assert shared <= {tuple(place) for place in found["XY generated_places"]}
    assert set(features(out, "acquired")["XY_distance"]) == {0}
    paired = pd.read_csv(out / "paired.csv").set_index(["method", "plane", "metric"])["value"]
    peaks = Reference.load(cohort.reference).peaks
    expected = -10 * np.log10(np.mean([(700 / peak) ** 2 for peak in peaks]))
    assert paired["msdsr", "mean", "PSNR"] == pytest.approx(expected, abs=1e-6)
    assert paired["linear", "mean", "SSIM"] > paired["nearest", "mean", "SSIM"]


def test_acquired_planes_look_the_same_in_every_method(cohort):
    cohort.evaluate("s1")
    out = cohort.folder / "slides/s1/metrics_2x"
    sets = [features(out, name) for name in ("nearest", "linear", "msdsr")]
    there = sets[0]["XY_distance"] == 0
    assert there.any()
    assert not there.all()
    for other in sets[1:]:
        np.testing.assert_array_equal(other["XY"][there], sets[0]["XY"][there])
        assert not np.array_equal(other["XY"][~there], sets[0]["XY"][~there])


def test_a_killed_slide_goes_on_after_its_last_method(cohort, monkeypatch):
    cohort.evaluate("s1", out=cohort.folder / "whole")
    original = extract.Extractor.__call__
    calls = []

    def dies(self, source, plane, regions):
        calls.append(plane)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return original(self, source, plane, regions)

    monkeypatch.setattr(extract.Extractor, "__call__", dies)
    with pytest.raises(KeyboardInterrupt):
        cohort.evaluate("s1", out=cohort.folder / "killed")
    assert not (cohort.folder / "killed").exists()
    cohort.evaluate("s1", out=cohort.folder / "killed")
    # Acquired (1 plane) and nearest (4) were done; linear, msdsr and truth were still to do.
    assert len(calls) == 7 + 12
    for name in ("acquired", "nearest", "linear", "msdsr", "truth"):
        a, b = (features(cohort.folder / folder, name) for folder in ("whole", "killed"))
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])
    texts = [(cohort.folder / f / "paired.csv").read_text() for f in ("whole", "killed")]
    assert texts[0] == texts[1]


def test_a_cohort_is_the_merge_of_its_slides(cohort):
    folders = [cohort.folder / f"slides/{slide}/metrics_2x" for slide in ("s1", "s2")]
    for slide in ("s1", "s2"):
        cohort.evaluate(slide)
    manifest = cohort.merge(*folders)
    out = cohort.folder / "metrics"
    table = pd.read_csv(out / "slicefid.csv")
    assert list(table.columns) == ["cohort", "factor", "method", "plane", "metric", "value", "n"]
    pd.testing.assert_frame_equal(table, pd.read_parquet(out / "slicefid.parquet"))
    values = table.set_index(["method", "plane", "metric"])["value"]
    real = FeatureSet.of(Reference.load(cohort.reference).features)
    both = FeatureSet.of(np.concatenate([features(f, "msdsr")["XZ"] for f in folders]))
    assert values["msdsr", "XZ", "FID"] == pytest.approx(fid(real, both))
    assert values["msdsr", "XZ", "KID"] == pytest.approx(Kid(real)(both))
    mean = np.mean([values["linear", plane, "FID"] for plane in ("XY", "XZ", "YZ")])
    assert values["linear", "mean", "FID"] == pytest.approx(mean)
    assert set(table["method"]) == {"acquired", "nearest", "linear", "msdsr", "truth"}
    counts = table.set_index(["method", "plane", "metric"])["n"]
    assert counts["msdsr", "XY", "FID"] == counts["msdsr", "mean", "FID"] == 24
    assert counts["msdsr", "XY generated", "FID"] == 24
    assert ("acquired", "XY generated", "FID") not in counts
    paired = pd.read_csv(out / "paired.csv").set_index(["method", "plane", "metric"])["value"]
    each = [pd.read_csv(f / "paired.csv") for f in folders]
    each = [
        t.set_index(["method", "plane", "metric"])["value"]["nearest", "XZ", "SSIM"] for t in each
    ]
    assert paired["nearest", "XZ", "SSIM"] == pytest.approx(np.mean(each))
    slides = pd.read_csv(out / "slides.csv")
    assert set(slides["slide"]) == {"s1", "s2"}
    assert set(slides["metric"]) == {"KID", "PSNR", "SSIM", "NRMSE"}
    summary = json.loads((out / "summary.json").read_text())
    assert summary["slides"] == ["s1", "s2"]
    assert summary["patients"] == ["p-s1", "p-s2"]
    assert summary["crop"] == 16
    assert any("biased upward" in warning for warning in manifest.warnings)
    assert read_manifest(out).counts["reference_images"] == 40


def test_without_truth_there_is_no_paired_score(cohort):
    manifest = cohort.evaluate("s1", truth=None)
    assert "truth" not in manifest.counts["images"]
    cohort.merge(cohort.folder / "slides/s1/metrics_2x")
    assert pd.read_csv(cohort.folder / "metrics/paired.csv").empty
    assert set(pd.read_csv(cohort.folder / "metrics/slides.csv")["metric"]) == {"KID"}


def test_at_4x_every_second_plane_is_the_input(cohort, publish, tissue):
    restored = publish("s1", tissue(10)[:, :37], "msdsr_4x.ome.zarr", 0.5)
    out = cohort.folder / "slides/s1/metrics_4x"
    manifest = cohort.evaluate("s1", restored={"msdsr": restored}, factor=4, out=out)
    assert manifest.counts["kept_every"] == 2
    assert manifest.counts["planes"] == 37
    assert manifest.counts["generated_planes"] == 37 - 10
    assert features(out, "msdsr")["XY_distance"].max() == 2


def test_slides_that_do_not_fit_are_refused(cohort, publish, tissue):
    with pytest.raises(UserError, match="superresolve the slide again"):
        cohort.evaluate("s1", factor=4)
    wrong = {"acquired_planes": [0, 4, 8]}
    store = publish("s1", tissue(3), "wrong.ome.zarr", 0.5, wrong)
    with pytest.raises(UserError, match="check the factor"):
        cohort.evaluate("s1", restored={"msdsr": store})
    with pytest.raises(UserError, match="truth"):
        cohort.evaluate("s1", truth=publish("s1", tissue(3, (2, 9, 48, 56)), "t.ome.zarr", 0.5))
    with pytest.raises(UserError, match="make the reference again"):
        cohort.evaluate("s1", settings=EvaluateConfig(crop=20))
    with pytest.raises(UserError, match="no slides"):
        cohort.merge()


def test_a_slide_judged_by_another_reference_is_refused(cohort):
    cohort.evaluate("s1")
    manifest = read_manifest(cohort.reference)
    path = cohort.folder / "reference.json"
    path.write_text(manifest.model_copy(update={"seed": 99}).model_dump_json())
    with pytest.raises(UserError, match="another reference"):
        cohort.merge(cohort.folder / "slides/s1/metrics_2x")


def test_a_slide_without_tissue_says_so(cohort, publish, tissue):
    store = publish("bare", tissue(4)[:, ::2], empty=True)
    manifest = cohort.evaluate(
        "s1", acquired=store, restored={}, truth=None, patches=store.parent / "patches.parquet"
    )
    assert manifest.counts["images"]["nearest"] == {"XY": 0, "XZ": 0, "YZ": 0, "XY generated": 0}
    assert manifest.warnings == ["no crop of tissue fits into this slide"]
    cohort.evaluate("s2")
    folders = [cohort.folder / f"slides/{slide}/metrics_2x" for slide in ("s1", "s2")]
    cohort.merge(*folders)
    table = pd.read_csv(cohort.folder / "metrics/slicefid.csv")
    assert table.loc[table["plane"] == "XZ", "n"].max() == 12


def test_thin_stacks_are_judged_on_xy_alone(cohort, publish, tissue):
    store = publish("thin", tissue(4, (2, 5, 48, 56)))
    manifest = cohort.evaluate(
        "s1", acquired=store, restored={}, truth=None, patches=None, factor=2
    )
    assert manifest.counts["images"]["linear"] == {"XY": 12, "XZ": 0, "YZ": 0, "XY generated": 12}
    assert any("fewer than evaluate.crop" in warning for warning in manifest.warnings)


def test_anisotropic_results_are_flagged(cohort, publish, tissue):
    restored = publish("s1", tissue(10, (2, 58, 48, 56)), "msdsr_3x.ome.zarr", 1 / 3)
    manifest = cohort.evaluate("s1", restored={"msdsr": restored}, factor=3, truth=None)
    assert any("as if they were equal" in warning for warning in manifest.warnings)
