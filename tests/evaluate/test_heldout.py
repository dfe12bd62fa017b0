"""Accuracy on planes that were imaged and not shown."""

import json

import numpy as np
import pandas as pd
import pytest

from msdsr.config import EvaluateConfig
from msdsr.errors import UserError
from msdsr.evaluate import build_reference, checks, evaluate_cohort, evaluate_slide
from msdsr.evaluate.heldout import ceiling_scores, held_scores, open_held
from msdsr.manifest import Manifest, read_manifest, write_manifest
from msdsr.metrics.similarity import nrmse, psnr, ssim_rows
from msdsr.volume import held_out, middle, read_spec
from msdsr.volume.interpolate import interpolate

PEAKS = [40000.0, 40000.0]
SETTINGS = EvaluateConfig(
    crop=16, max_images=6, max_reference_images=20, heldout=24, hotspot_side=16, hotspots=3
)


def held_store(publish, voxels, name="msdsr_2x_heldout.ome.zarr", factor=2, **changed):
    """What `superresolve --held-out` makes of a slide of these planes, by linear interpolation."""
    every = held_out(factor, read_spec(publish("s1", voxels)).voxel)
    y, x = middle(voxels.shape[2:], 24)
    restored = interpolate(voxels[:, :: every.step, y, x], every.factor, "linear")
    field = [y.start, y.stop, x.start, x.stop]
    provenance = {"factor": every.factor, "keep_every": every.step, "field": field} | changed
    store = publish("s1", restored, name, 0.5, provenance)
    counts = {"held_planes": len(every.planes(voxels.shape[1])), "sum": int(restored.sum())}
    write_manifest(store, Manifest(stage="superresolve", algorithm=1, counts=counts))
    return store


@pytest.fixture
def planes(tissue):
    """Eight acquired planes, ratio 2."""
    return tissue(4)[:, ::2][:, :8]


def test_each_plane_is_compared_with_what_was_imaged_there(publish, planes, patches_of):
    store = publish("s1", planes)
    test = held_store(publish, planes)
    held = open_held(store, {"msdsr": store}, {"msdsr": test}, 2, SETTINGS, patches_of(store))
    assert held.rows == (2, 6, 10)  # planes 1, 3 and 5 of 0, 2, 4, 6
    assert set(held.methods) == {"nearest", "linear", "msdsr"}
    y, x = middle(planes.shape[2:], 24)
    square = planes[:, :, y, x]
    linear = interpolate(square[:, ::2], 4, "linear")
    found = pd.DataFrame(held_scores(held, held.methods["msdsr"], PEAKS))
    found = found.set_index(["channel", "metric"])
    pairs = [(linear[:, row], square[:, z]) for z, row in zip((1, 3, 5), held.rows, strict=True)]
    peaks = np.array(PEAKS)
    expected = {
        ("all", "PSNR"): [psnr(a, b, peaks) for a, b in pairs],
        ("CH3", "PSNR"): [psnr(a[1:], b[1:], peaks[1:]) for a, b in pairs],
        ("all", "NRMSE"): [nrmse(a, b) for a, b in pairs],
        ("all", "SSIM"): [np.nanmean(ssim_rows(a, b, peaks)) for a, b in pairs],
    }
    for key, values in expected.items():
        assert found.value[key] == pytest.approx(np.mean(values))
    assert set(found.plane) == {"XY"}
    assert set(found.n) == {3}
    assert held_scores(held, held.methods["linear"], PEAKS) == held_scores(
        held, held.methods["msdsr"], PEAKS
    )
    assert "twice as far apart as in use (4× instead of 2×)" in held.counts()["note"]


def test_a_factor_that_leaves_out_planes_is_its_own_test(publish, planes, patches_of):
    store = publish("s1", planes)
    whole = interpolate(planes[:, ::2], 4, "linear")
    restored = publish("s1", whole, "msdsr_4x.ome.zarr", 0.5)
    held = open_held(store, {"msdsr": restored}, {}, 4, SETTINGS, patches_of(store))
    assert held.rows == (2, 6, 10)
    assert held.counts()["gap"] == 1
    assert held.counts()["field_px"] == [24, 24]
    assert held_scores(held, held.methods["linear"], PEAKS) == held_scores(
        held, held.methods["msdsr"], PEAKS
    )
    assert "the condition is that of use" in held.counts()["note"]


def test_planes_of_no_use_judge_nobody(publish, planes, patches_of):
    store = publish("s1", planes)
    flagged = {"flagged": {"3": {"reason": "defocused"}, "2": {"reason": "sheet"}}}
    write_manifest(patches_of(store), Manifest(stage="patch", algorithm=1, counts=flagged))
    held = open_held(store, {}, {}, 2, SETTINGS, patches_of(store))
    assert held.rows == (2, 10)
    assert held.flagged == (3,)


@pytest.mark.parametrize(
    ("count", "factor", "settings", "line"),
    [
        (2, 2, {}, "only 2 planes"),
        (8, 5, {}, "restored at 10×"),
        (8, 2, {"heldout": "none"}, "not asked for"),
    ],
)
def test_why_there_is_nothing_is_said(publish, planes, count, factor, settings, line):
    store = publish("s1", planes[:, :count])
    settings = SETTINGS.model_copy(update=settings)
    held = open_held(store, {}, {}, factor, settings)
    assert line in held.reason
    assert held.counts() == {"planes": 0, "note": held.reason}


def test_a_test_of_another_field_or_factor_is_refused(publish, planes):
    test = held_store(publish, planes, factor=2, field=[0, 24, 0, 24])
    store = publish("s1", planes)
    with pytest.raises(UserError, match=r"field \[0, 24, 0, 24\]; expected field \[12, 36"):
        open_held(store, {"msdsr": store}, {"msdsr": test}, 2, SETTINGS)


def test_the_ceiling_is_what_noise_leaves(publish, planes):
    rng = np.random.default_rng(0)
    sigma = 2000.0
    noisy = np.clip(planes + rng.normal(0, sigma, planes.shape), 0, 65535).astype(np.uint16)
    store = publish("s1", noisy)
    settings = SETTINGS.model_copy(update={"heldout": "whole"})
    held = open_held(store, {}, {}, 2, settings)
    found = pd.DataFrame(ceiling_scores(held, PEAKS)).set_index(["channel", "metric"]).value
    perfect = np.mean([psnr(planes[:, z], noisy[:, z], np.array(PEAKS)) for z in (1, 3, 5)])
    assert found["all", "PSNR"] == pytest.approx(perfect, abs=0.5)
    assert found["CH2", "NRMSE"] == pytest.approx(sigma / 20500, rel=0.1)
    assert max(s["value"] for s in held_scores(held, held.methods["linear"], PEAKS)
               if s["metric"] == "PSNR") < found["all", "PSNR"] + 0.5  # fmt: skip


@pytest.fixture
def judge(tmp_path, publish, tissue, planes, standin_path, patches_of):
    """Judge slide s1, its held-out planes included."""
    real = publish("real", tissue(0, (2, 6, 48, 56)))
    reference = tmp_path / "reference.npz"
    build_reference([real], [patches_of(real)], reference, tmp_path / "work/reference",
                    patients=["p-real"], inception=standin_path, settings=SETTINGS, seed=1,
                    device="cpu")  # fmt: skip
    test = held_store(publish, planes)
    store = publish("s1", planes)
    restored = publish("s1", interpolate(planes, 2, "linear"), "msdsr_2x.ome.zarr", 0.5)

    def run(name="metrics_2x"):
        out = tmp_path / "slides/s1" / name
        manifest = evaluate_slide(
            store, {"msdsr": restored}, out, tmp_path / "work" / name, slide="s1", patient="p1",
            factor=2, truth=None, patches=patches_of(store), reference=reference,
            inception=standin_path, settings=SETTINGS, seed=2, device="cpu",
            heldout={"msdsr": test},
        )  # fmt: skip
        return out, manifest

    run.merge = lambda *folders: evaluate_cohort(
        folders, reference, tmp_path / "metrics", cohort="demo", settings=SETTINGS
    )
    return run


def test_the_tables_of_a_cohort(judge, tmp_path):
    out, manifest = judge()
    assert manifest.counts["heldout"]["planes"] == 3
    assert "held out msdsr" in manifest.inputs
    judge.merge(out)
    metrics = tmp_path / "metrics"
    heldout = pd.read_csv(metrics / "heldout.csv")
    assert {"cohort", "factor", "method", "plane", "channel", "metric", "value", "n"} <= set(
        heldout.columns
    )
    assert set(heldout.method) == {"ceiling", "nearest", "linear", "msdsr"}
    assert set(heldout.channel) == {"all", "CH2", "CH3"}
    slides = pd.read_csv(metrics / "heldout_slides.csv")
    assert len(slides) == len(heldout)
    assert set(slides.patient) == {"p1"}
    hot = pd.read_parquet(metrics / "hotspots.parquet")
    assert set(hot.reason) == {"distance"}  # linear interpolation leaves no range
    assert len(hot) == 3
    assert pd.read_csv(metrics / "uncertainty.csv").empty
    summary = json.loads((metrics / "summary.json").read_text())
    assert summary["heldout"]["2"]["restored_at"] == 4
    assert set(summary["hotspots"]) == {"std", "distance", "residual"}


def test_killed_between_two_methods_nothing_is_done_twice_and_nothing_differs(judge, monkeypatch):
    whole, _ = judge("whole")
    seen = []

    def dies(held, source, peaks):
        seen.append(1)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return held_scores(held, source, peaks)

    monkeypatch.setattr(checks, "held_scores", dies)
    with pytest.raises(KeyboardInterrupt):
        judge("cut")
    cut, _ = judge("cut")
    assert len(seen) == 2 + 2  # nearest was done, linear and msdsr were not
    for name in checks.COLUMNS:
        assert (cut / f"{name}.csv").read_text() == (whole / f"{name}.csv").read_text()
    assert read_manifest(cut).counts["heldout"] == read_manifest(whole).counts["heldout"]


def test_the_interval_is_over_patients_and_needs_three_of_them():
    rng = np.random.default_rng(5)
    who = [(f"s{i}", f"p{i // 2}") for i in range(8)]  # four patients of two slides
    table = pd.DataFrame(who, columns=["slide", "patient"]).assign(
        cohort="c", factor=2, method="linear", plane="XY", channel="all", metric="PSNR",
        value=30 + rng.normal(0, 1, 8), n=9,
    )  # fmt: skip
    (row,) = checks.mean_over_patients(table, 500, 0).to_dict("records")
    assert row["value"] == pytest.approx(table.value.mean())
    assert row["low"] < row["value"] < row["high"]
    assert row["n"] == 72
    (few,) = checks.mean_over_patients(table[:4], 500, 0).to_dict("records")
    assert np.isnan(few["low"])
    assert np.isnan(few["high"])
    assert checks.mean_over_patients(table[:0], 500, 0).empty
