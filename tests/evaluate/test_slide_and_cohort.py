import json
import shutil

import numpy as np
import pandas as pd
import pytest

from msdsr.config import EvaluateConfig
from msdsr.errors import UserError
from msdsr.evaluate import build_reference, evaluate_cohort, evaluate_slide, extract
from msdsr.evaluate import slide as slide_module
from msdsr.evaluate.features import Features, features_file
from msdsr.evaluate.reference import Reference
from msdsr.evaluate.tables import DISTANCE, SLICEFID, SLIDES, SPECTRA
from msdsr.evaluate.views import View
from msdsr.manifest import read_manifest
from msdsr.metrics.features import FeatureSet
from msdsr.metrics.fid import fid
from msdsr.metrics.mmd import Kid, Mmd
from msdsr.volume import open_volume

PLANES = 20
V2, EQUALISED, PAPER = View("v2", "window"), View("v2", "equalised"), View("paper", "equalised")


@pytest.fixture
def cohort(tmp_path, publish, tissue, standin_path, evaluate_settings, patches_of):
    """Two slides with truth, a made-up restoration at 2×, and a reference."""

    class Cohort:
        folder = tmp_path
        settings = evaluate_settings
        reference = tmp_path / "reference.npz"
        stores, truths, restored = {}, {}, {}

        def evaluate(self, slide, /, **changes):
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
        patients=["p-real"],
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


def features(folder, name, view=V2):
    return Features.load(folder / features_file(name, view))


def test_a_slide_has_features_of_every_method_and_scores(cohort):
    manifest = cohort.evaluate("s1")
    out = cohort.folder / "slides/s1/metrics_2x"
    each = {"XY": 12, "XZ": 12, "YZ": 12, "XY generated": 12}
    assert manifest.counts["images"] == {
        "acquired": {"v2/window": {"XY": 12}, "v2/equalised": {"XY": 12}},
        **{
            name: {"v2/window": each, "v2/equalised": each}
            for name in ("nearest", "linear", "msdsr", "truth")
        },
    }
    assert manifest.counts["generated_planes"] == PLANES - 1
    assert manifest.warnings == []
    assert read_manifest(out).inputs == manifest.inputs
    found = features(out, "msdsr")
    assert found.rows("XY").shape == (12, 16)
    assert found.pictures.shape[0] < 4 * 12
    assert found.places["XZ"].shape == (12, 6)
    z = found.places["XY"][:, 0]
    np.testing.assert_array_equal(found.distance["XY"], z % 2)
    assert set(found.distance["XY generated"]) == {1}
    shared = {tuple(place) for place in found.places["XY"][z % 2 == 1]}
    assert shared
    assert shared <= {tuple(place) for place in found.places["XY generated"]}
    by_distance = found.at_distances()
    assert set(by_distance) == {0, 1}
    assert len(by_distance[0]) == (z % 2 == 0).sum()
    assert len(by_distance[1]) == len({tuple(p) for p in found.places["XY generated"]} | shared)
    assert set(features(out, "acquired").distance["XY"]) == {0}
    paired = scores(out / "paired.csv")
    peaks = Reference.load(cohort.reference).peaks
    expected = -10 * np.log10(np.mean([(700 / peak) ** 2 for peak in peaks]))
    assert paired["msdsr", "mean", "PSNR"] == pytest.approx(expected, abs=1e-6)
    assert paired["linear", "mean", "SSIM"] > paired["nearest", "mean", "SSIM"]


def scores(path, channel="all"):
    table = pd.read_csv(path, dtype={"channel": str})
    table = table[table["channel"] == channel]
    return table.set_index(["method", "plane", "metric"])["value"]


def test_acquired_planes_look_the_same_in_every_method(cohort):
    cohort.evaluate("s1")
    out = cohort.folder / "slides/s1/metrics_2x"
    sets = [features(out, name) for name in ("nearest", "linear", "msdsr")]
    there = sets[0].distance["XY"] == 0
    assert there.any()
    assert not there.all()
    for other in sets[1:]:
        np.testing.assert_array_equal(other.rows("XY")[there], sets[0].rows("XY")[there])
        assert not np.array_equal(other.rows("XY")[~there], sets[0].rows("XY")[~there])


def test_a_killed_slide_goes_on_after_its_last_method(cohort, monkeypatch):
    whole = cohort.evaluate("s1", out=cohort.folder / "whole", work=cohort.folder / "w/a")
    original = extract.Extractor.__call__
    calls = []

    def dies(self, source, places, show):
        calls.append(show.rescaling)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, source, places, show)

    monkeypatch.setattr(extract.Extractor, "__call__", dies)
    killed = {"out": cohort.folder / "killed", "work": cohort.folder / "w/b"}
    with pytest.raises(KeyboardInterrupt):
        cohort.evaluate("s1", **killed)
    assert not (cohort.folder / "killed").exists()
    again = cohort.evaluate("s1", **killed)
    # Acquired and nearest were done; the other 3 of the window and 5 equalised were still to do.
    assert len(calls) == 3 + 3 + 5
    assert again.measured["pictures_shown"] < whole.measured["pictures_shown"]
    for name in ("acquired", "nearest", "linear", "msdsr", "truth"):
        for view in (V2, EQUALISED):
            a, b = (features(cohort.folder / f, name, view) for f in ("whole", "killed"))
            np.testing.assert_array_equal(a.pictures, b.pictures)
            for plane in a.index:
                np.testing.assert_array_equal(a.index[plane], b.index[plane])
                np.testing.assert_array_equal(a.places[plane], b.places[plane])
    for name in ("paired.csv", "spectra.csv"):
        texts = [(cohort.folder / f / name).read_text() for f in ("whole", "killed")]
        assert texts[0] == texts[1]


def test_a_new_method_is_all_that_is_computed(cohort, publish, tissue, monkeypatch):
    scored = []
    monkeypatch.setattr(
        slide_module, "_scores", lambda *a, f=slide_module._scores: scored.append(a[1]) or f(*a)
    )
    out = cohort.folder / "slides/s1/metrics_2x"
    rows = {"acquired_planes": list(range(0, 2 * PLANES - 1, 2))}
    sharp = tissue(10)
    sharp[:, 1::2] -= 900
    other = publish("s1", sharp, "other_2x.ome.zarr", 0.5, rows)
    first = cohort.evaluate("s1")
    assert len(scored) == 3
    before = features(out, "linear").pictures
    shutil.rmtree(out)  # as Snakemake does before it starts a job again
    both = {"msdsr": cohort.restored["s1"], "other": other}
    second = cohort.evaluate("s1", restored=both)
    assert len(scored) == 4
    assert set(second.counts["images"]) == set(first.counts["images"]) | {"other"}
    # XZ and YZ are new; of XY those that were not acquired.
    added = (
        len(features(out, "other").pictures) - (features(out, "other").distance["XY"] == 0).sum()
    )
    assert 0 < second.measured["pictures_shown"] <= 2 * added
    np.testing.assert_array_equal(features(out, "linear").pictures, before)
    assert cohort.evaluate("s1", restored=both).measured["pictures_shown"] == 0
    # A volume that has changed is looked at again, and the old one forgotten.
    kept = cohort.folder / ".work/s1.cache"
    files = len(list(kept.glob("*")))
    changed = publish("s1", sharp + np.uint16(50), "other_2x.ome.zarr", 0.5, rows)
    third = cohort.evaluate("s1", restored=both | {"other": changed})
    assert 0 < third.measured["pictures_shown"] <= 2 * added
    assert len(list(kept.glob("*"))) == files


def test_kept_features_take_no_space_of_their_own(cohort):
    cohort.evaluate("s1")
    kept = [p for p in (cohort.folder / ".work/s1.cache").iterdir() if p.suffix == ".npz"]
    assert len(kept) == 2 * 5
    assert all(path.stat().st_nlink == 2 for path in kept)
    assert not (cohort.folder / ".work/s1").exists()


def test_the_paper_crops_4_voxels_and_equalises(cohort):
    both = cohort.settings.model_copy(update={"protocols": ["v2", "paper"]})
    cohort.evaluate("s1")
    manifest = cohort.evaluate("s1", settings=both)
    assert manifest.counts["images"]["msdsr"]["paper/equalised"] == {"XY": 12, "XZ": 12, "YZ": 12}
    found = features(cohort.folder / "slides/s1/metrics_2x", "msdsr", PAPER)
    for plane, (thin, shape) in {"XY": (0, (39, 48, 56)), "XZ": (1, 0), "YZ": (2, 0)}.items():
        shape = (39, 48, 56)
        low, high = found.places[plane][:, ::2], found.places[plane][:, 1::2]
        size = [1 if axis == thin else 16 - 8 for axis in range(3)]
        assert ((high - low) == size).all()
        assert low.min() >= 4
        assert (high <= np.array(shape) - 4).all()
    assert manifest.measured["pictures_shown"] < 2 * 4 * 36
    cohort.settings = both
    cohort.merge(cohort.folder / "slides/s1/metrics_2x")
    table = pd.read_csv(cohort.folder / "metrics/slicefid.csv")
    paper = table[table["protocol"] == "paper"]
    assert set(paper["rescaling"]) == {"equalised"}
    assert set(paper.loc[paper["method"] == "msdsr", "plane"]) == {"XY", "XZ", "YZ", "mean"}
    assert json.loads((cohort.folder / "metrics/summary.json").read_text())["protocols"] == [
        "v2",
        "paper",
    ]


def test_equalising_is_blind_to_brightness_and_the_window_is_not(cohort, publish):
    truth = open_volume(cohort.truths["s1"]).data.compute()
    rows = {"acquired_planes": list(range(0, 2 * PLANES - 1, 2))}
    bright = truth + np.uint16(4000)
    bright[:, ::2] = truth[:, ::2]
    store = publish("s1", bright, "bright_2x.ome.zarr", 0.5, rows)
    cohort.evaluate("s1", restored={"bright": store})
    out = cohort.folder / "slides/s1/metrics_2x"
    for view, least, most in ((V2, 0.05, 1e9), (EQUALISED, 0, 0.03)):
        mine, true = (features(out, m, view).rows("XY generated") for m in ("bright", "truth"))
        moved = np.linalg.norm(mine - true) / np.linalg.norm(true)
        assert least <= moved <= most


def test_a_cohort_is_the_merge_of_its_slides(cohort):
    folders = [cohort.folder / f"slides/{slide}/metrics_2x" for slide in ("s1", "s2")]
    for slide in ("s1", "s2"):
        cohort.evaluate(slide)
    manifest = cohort.merge(*folders)
    out = cohort.folder / "metrics"
    table = pd.read_csv(out / "slicefid.csv")
    assert list(table.columns) == SLICEFID
    pd.testing.assert_frame_equal(table, pd.read_parquet(out / "slicefid.parquet"))
    assert set(table["rescaling"]) == {"window", "equalised"}
    keys = ["method", "rescaling", "plane", "metric"]
    values = table.set_index(keys)["value"].sort_index()
    for rescaling, view in (("window", V2), ("equalised", EQUALISED)):
        real = FeatureSet.of(Reference.load(cohort.reference).features[rescaling])
        rows = np.concatenate([features(f, "msdsr", view).rows("XZ") for f in folders])
        both = FeatureSet.of(rows)
        assert values["msdsr", rescaling, "XZ", "FID"] == pytest.approx(fid(real, both))
        assert values["msdsr", rescaling, "XZ", "KID"] == pytest.approx(Kid(real)(both))
        assert values["msdsr", rescaling, "XZ", "MMD"] == pytest.approx(Mmd(real)(both))
    mean = np.mean([values["linear", "window", plane, "FID"] for plane in ("XY", "XZ", "YZ")])
    assert values["linear", "window", "mean", "FID"] == pytest.approx(mean)
    assert set(table["method"]) == {"acquired", "nearest", "linear", "msdsr", "truth", "real"}
    counts = table.set_index(keys)["n"].sort_index()
    assert counts["msdsr", "window", "XY", "FID"] == counts["msdsr", "window", "mean", "FID"] == 24
    assert counts["msdsr", "window", "XY generated", "FID"] == 24
    assert ("acquired", "window", "XY generated", "FID") not in counts
    errors = table.set_index(keys)["se"].sort_index()
    assert errors["msdsr", "window", "XZ", "KID"] > 0
    assert np.isnan(errors["msdsr", "window", "XZ", "FID"])
    distance = pd.read_csv(out / "distance.csv")
    assert list(distance.columns) == DISTANCE
    mine = distance[(distance["method"] == "linear") & (distance["rescaling"] == "window")]
    near = mine[mine["metric"] == "KID"].set_index("distance")
    assert list(near.index) == [0, 1]
    there = [features(f, "linear").at_distances()[1] for f in folders]
    real = FeatureSet.of(Reference.load(cohort.reference).features["window"])
    assert near.loc[1, "value"] == pytest.approx(Kid(real)(FeatureSet.of(np.concatenate(there))))
    assert near.loc[1, "n"] == sum(map(len, there))
    paired = scores(out / "paired.csv")
    each = [scores(f / "paired.csv")["nearest", "XZ", "SSIM"] for f in folders]
    assert paired["nearest", "XZ", "SSIM"] == pytest.approx(np.mean(each))
    assert ("msdsr", "3D", "SSIM") in paired
    assert ("msdsr", "z", "LAG1") in scores(out / "paired.csv", "CH3")
    slides = pd.read_csv(out / "slides.csv")
    assert list(slides.columns) == SLIDES
    assert set(slides["slide"]) == {"s1", "s2"}
    assert set(slides["metric"]) == {"KID", "PSNR", "SSIM", "NRMSE", "LSD", "LAG1"}
    spectra = pd.read_csv(out / "spectra.csv")
    assert list(spectra.columns) == SPECTRA
    assert set(spectra["quantity"]) == {"power_ratio", "frc", "fsc"}
    assert set(spectra["n"]) == {2}
    summary = json.loads((out / "summary.json").read_text())
    assert summary["slides"] == ["s1", "s2"]
    assert summary["patients"] == ["p-s1", "p-s2"]
    assert summary["crop"] == 16
    by_plane = {p: values["linear", "window", p, "FID"] for p in ("XY", "XZ", "YZ")}
    assert summary["worst"]["2"]["linear"]["v2/window"] == max(by_plane, key=by_plane.get)
    assert summary["intervals"] == "none: 2 patients, fewer than 3"
    assert summary["floor"] == {"by": "image", "splits": 5}
    assert table["low"].isna().all()
    for part in ("biased upward", "one patient", "no intervals"):
        assert any(part in warning for warning in manifest.warnings)
    assert read_manifest(out).counts["reference_images"] == 40


def test_three_patients_give_intervals(cohort):
    folders = []
    for number, slide in enumerate(("s1", "s2", "s1")):
        folders.append(cohort.folder / f"out/{number}/metrics_2x")
        cohort.evaluate(slide, out=folders[-1], patient=f"p{number}", slide=f"{slide}-{number}")
    manifest = cohort.merge(*folders)
    table = pd.read_csv(cohort.folder / "metrics/slicefid.csv")
    judged = table[table["method"] != "real"]
    assert (judged["low"] <= judged["value"] + 1e-9).all()
    assert (judged["value"] <= judged["high"] + 1e-9).all()
    assert (judged["high"] - judged["low"]).max() > 0
    assert table.loc[table["method"] == "real", "low"].isna().all()
    paired = pd.read_csv(cohort.folder / "metrics/paired.csv")
    assert (paired["low"] <= paired["high"]).all()
    assert paired["low"].notna().all()
    summary = json.loads((cohort.folder / "metrics/summary.json").read_text())
    assert summary["intervals"] == "bootstrap over 3 patients, 50 resamples"
    assert not any("no intervals" in warning for warning in manifest.warnings)
    text = (cohort.folder / "metrics/slicefid.csv").read_text()
    cohort.merge(*folders)
    assert (cohort.folder / "metrics/slicefid.csv").read_text() == text
    cohort.settings = cohort.settings.model_copy(update={"bootstrap": 0})
    cohort.merge(*folders)
    assert pd.read_csv(cohort.folder / "metrics/slicefid.csv")["low"].isna().all()


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
    assert features(out, "msdsr").distance["XY"].max() == 2


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
    none = {"XY": 0, "XZ": 0, "YZ": 0, "XY generated": 0}
    assert manifest.counts["images"]["nearest"] == {"v2/window": none, "v2/equalised": none}
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
    there = {"XY": 12, "XZ": 0, "YZ": 0, "XY generated": 12}
    assert manifest.counts["images"]["linear"]["v2/window"] == there
    assert any("fewer than evaluate.crop" in warning for warning in manifest.warnings)


def test_anisotropic_results_are_flagged(cohort, publish, tissue):
    restored = publish("s1", tissue(10, (2, 58, 48, 56)), "msdsr_3x.ome.zarr", 1 / 3)
    manifest = cohort.evaluate("s1", restored={"msdsr": restored}, factor=3, truth=None)
    assert any("as if they were equal" in warning for warning in manifest.warnings)
