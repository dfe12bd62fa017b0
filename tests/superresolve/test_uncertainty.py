import json

import numpy as np
import pandas as pd
import pytest
import torch
import yaozarrs
import zarr
from ome_zarr_models.v05 import Image

from msdsr.config import SuperresolveConfig
from msdsr.errors import UserError
from msdsr.manifest import Manifest, read_manifest, write_manifest
from msdsr.superresolve import Part, calibrate, superresolve, superresolve_part
from msdsr.superresolve.blurred import Blurred
from msdsr.superresolve.calibration import Held
from msdsr.superresolve.diffused import Diffused
from msdsr.superresolve.interpolated import Interpolated
from msdsr.superresolve.plan import plan_task
from msdsr.superresolve.samples import sample_seed
from msdsr.superresolve.watch import Stop, Watch
from msdsr.volume import Region, open_volume, read_spec
from msdsr.volume.blur import gaussian3
from msdsr.volume.interpolate import interpolate
from msdsr.volume.labels import read_label

from .conftest import bytes_of

FAST = SuperresolveConfig(
    precision="float32", mode="alternate", steps=2, stride=12, batch=16, samples=3, calibrate=16
)


def run(volume, tmp_path, name="out", factor=2, **options):
    out = tmp_path / "results" / f"{name}.ome.zarr"
    options = {"method": "msdsr", "settings": FAST, "device": "cpu"} | options
    manifest = superresolve(volume, out, tmp_path / "work" / name, factor=factor, **options)
    return out, manifest


def with_settings(**changed):
    return FAST.model_copy(update=changed)


def test_samples_become_a_mean_and_a_standard_deviation(tmp_path, make_slide, make_model):
    path, voxels = make_slide()
    model = make_model()
    out, manifest = run(path, tmp_path, model=model)
    alone, _ = run(path, tmp_path, "alone", model=model, settings=with_settings(samples=1))
    first, _ = run(path, tmp_path, "first", model=model, settings=with_settings(estimate="first"))
    volume = open_volume(out)
    np.testing.assert_array_equal(open_volume(first).values, open_volume(alone).values)
    np.testing.assert_array_equal(volume.values[:, ::2], voxels)
    assert not np.array_equal(volume.values, open_volume(first).values)
    spread = open_volume(tmp_path / "results/out_std.ome.zarr")
    assert spread.dtype == np.float32
    assert spread.shape == volume.shape
    assert not spread.values[:, ::2].any()
    assert np.median(spread.values[:, 1::2]) > 0
    np.testing.assert_array_equal(
        open_volume(tmp_path / "results/first_std.ome.zarr").values, spread.values
    )
    assert not (tmp_path / "results/alone_std.ome.zarr").exists()
    said = spread.attrs["msdsr"]
    assert (said["samples"], said["estimate"], said["calibrated"]) == (3, "mean", False)
    record = read_manifest(tmp_path / "results/out_std.json")
    assert record.product == "out_std.ome.zarr"
    assert record.counts["scales"] == {"CH2": 1.0, "CH3": 1.0}
    assert manifest.product == "out.ome.zarr"
    Image.from_zarr(zarr.open_group(tmp_path / "results/out_std.ome.zarr", mode="r"))


def test_the_mean_is_that_of_single_runs_with_the_samples_seeds(tmp_path, make_slide, make_model):
    path, _ = make_slide((2, 3, 12, 18))
    model = make_model(std=2000.0)  # so that no value meets the end of uint16
    out, _ = run(path, tmp_path, model=model, seed=5)
    singles = [
        open_volume(
            run(path, tmp_path, f"s{k}", model=model, seed=sample_seed(5, k),
                settings=with_settings(samples=1))[0]
        ).values.astype(float)
        for k in range(3)
    ]  # fmt: skip
    np.testing.assert_allclose(open_volume(out).values, np.mean(singles, 0), atol=0.51)
    spread = open_volume(tmp_path / "results/out_std.ome.zarr").values
    np.testing.assert_allclose(spread, np.std(singles, 0, ddof=1), rtol=1e-3, atol=0.5)


@pytest.mark.parametrize(("method", "made"), [("msdsr", 2), ("cubic", 3)])
def test_every_voxel_says_where_it_comes_from(tmp_path, make_slide, make_model, method, made):
    path, _ = make_slide((2, 3, 12, 18))
    model = make_model() if method == "msdsr" else None
    settings = with_settings(samples=1)
    out, _ = run(path, tmp_path, factor=4, method=method, model=model, settings=settings)
    origin = read_label(out, "origin")
    assert origin.shape == (5, 12, 18)  # a ratio of 2: factor 4 takes every second plane
    assert (origin == np.array([1, made, made, made, 1])[:, None, None]).all()
    distance = read_label(out, "distance")
    assert (distance == np.array([0, 1, 2, 1, 0])[:, None, None]).all()
    yaozarrs.validate_zarr_store(str(out / "labels/origin"))
    yaozarrs.validate_zarr_store(str(out / "labels/distance"))
    ome = json.loads((out / "labels/origin/zarr.json").read_text())["attributes"]["ome"]
    meanings = {p["label-value"]: p["meaning"] for p in ome["image-label"]["properties"]}
    assert meanings[1].startswith("acquired")
    assert meanings[2].startswith("restored")


def test_the_blur_leaves_acquired_planes_and_does_not_see_blocks(tmp_path, make_slide, make_model):
    path, voxels = make_slide((2, 3, 40, 24))
    model = make_model()
    sharp, _ = run(path, tmp_path, "sharp", model=model, settings=with_settings(samples=1))
    settings = with_settings(samples=1, blur="gaussian3")
    out, _ = run(path, tmp_path, "soft", model=model, settings=settings)
    soft = open_volume(out).values
    np.testing.assert_array_equal(soft[:, ::2], voxels)
    expected = np.clip(np.rint(gaussian3(open_volume(sharp).values)), 0, 65535)
    np.testing.assert_array_equal(soft[:, 1::2], expected[:, 1::2])
    assert open_volume(out).attrs["msdsr"]["blur"] == "gaussian3"


def test_a_blur_of_whole_and_of_parts_is_the_same(make_slide, tmp_path):
    path, _ = make_slide((2, 3, 20, 24))
    task = plan_task(path, "linear", 2, FAST, 0, None)
    filler = Blurred(task, Interpolated(task, "linear"))
    watch = Watch(torch.device("cpu"), lambda n: None, lambda n: None, Stop())
    whole = filler.restore(Region(0, 5, 0, 20, 0, 24), watch)
    for region in (Region(0, 5, 0, 7, 0, 11), Region(0, 5, 7, 20, 11, 24)):
        np.testing.assert_array_equal(
            filler.restore(region, watch), whole[(slice(None), *region.slices)]
        )


@pytest.mark.parametrize(("factor", "gap", "rows"), [(2, 2, 2), (4, 1, 2)])
def test_held_out_planes_calibrate_the_spread(tmp_path, make_slide, make_model, factor, gap, rows):
    path, _ = make_slide((2, 5, 24, 30))
    model = make_model()
    table = tmp_path / "results/calibration.parquet"
    call = {"method": "msdsr", "factor": factor, "settings": FAST, "model": model, "device": "cpu"}
    manifest = calibrate(path, table, tmp_path / "work/c", **call)
    assert manifest.counts["gap"] == gap
    assert manifest.counts["held_planes"] == rows
    assert manifest.counts["voxels"]["CH2"] == rows * 16 * 16
    assert manifest.counts["without_spread"]["CH2"] == 0
    curve = pd.read_parquet(table)
    at = curve[(curve.nominal == 0.9) & (curve.distance == 0)]
    np.testing.assert_allclose(at.covered, 0.9, atol=0.01)
    assert set(curve.distance) == {0, 2}
    assert manifest.warnings[0].startswith("channel CH2: only 512 held-out voxels")

    _, _ = run(path, tmp_path, "plain", model=model, factor=factor)
    run(path, tmp_path, "scaled", model=model, factor=factor, calibration=table)
    plain, scaled = (
        open_volume(tmp_path / f"results/{name}_std.ome.zarr") for name in ("plain", "scaled")
    )
    scales = manifest.counts["scales"]
    for c, name in enumerate(("CH2", "CH3")):
        expected = plain.values[c] * scales[name]
        np.testing.assert_allclose(scaled.values[c], expected, rtol=1e-6)
    assert scaled.attrs["msdsr"]["scales"] == scales
    assert scaled.attrs["msdsr"]["calibrated"]
    assert "calibration" in read_manifest(tmp_path / "results/scaled.json").inputs


def test_a_calibration_of_another_run_is_refused(tmp_path, make_slide, make_model):
    path, _ = make_slide((2, 5, 16, 16))
    model = make_model()
    table = tmp_path / "results/calibration.parquet"
    call = {"method": "msdsr", "factor": 2, "model": model, "device": "cpu"}
    calibrate(path, table, tmp_path / "work/c", settings=FAST, **call)
    with pytest.raises(UserError, match="calibrated with another steps, samples; expected"):
        run(path, tmp_path, model=model, calibration=table,
            settings=with_settings(steps=3, samples=2))  # fmt: skip
    record = table.with_suffix(".json")
    text = record.read_text()
    record.write_text(text.replace(read_manifest(record).inputs["weights"], "0" * 64))
    with pytest.raises(UserError, match="calibrated with another model"):
        run(path, tmp_path, model=model, calibration=table)
    with pytest.raises(UserError, match="2 or more to calibrate"):
        calibrate(path, table, tmp_path / "w", settings=with_settings(samples=1), **call)
    path, _ = make_slide((2, 2, 16, 16))
    with pytest.raises(UserError, match="at least 3, to hold some out"):
        calibrate(path, table, tmp_path / "w", settings=FAST, **call)


def test_a_calibration_that_is_stopped_goes_on_to_the_same_table(
    tmp_path, make_slide, make_model, monkeypatch
):
    path, _ = make_slide((2, 3, 140, 20))
    settings = with_settings(calibrate=140, samples=2, block=64, steps=1)
    call = {"method": "msdsr", "factor": 2, "model": make_model(), "device": "cpu",
            "settings": settings}  # fmt: skip
    whole = calibrate(path, tmp_path / "whole.parquet", tmp_path / "work/w", **call)
    compare, seen = Held.compare, []

    def die(self, region, *rest):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(region)
        return compare(self, region, *rest)

    monkeypatch.setattr(Held, "compare", die)
    with pytest.raises(KeyboardInterrupt):
        calibrate(path, tmp_path / "cut.parquet", tmp_path / "work/c", **call)
    seen.clear()
    cut = calibrate(path, tmp_path / "cut.parquet", tmp_path / "work/c", **call)
    assert len(seen) == 1
    assert cut.counts == whole.counts
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "cut.parquet"), pd.read_parquet(tmp_path / "whole.parquet")
    )


def test_the_specs_of_both_stores_agree(tmp_path, make_slide, make_model, small_shards):
    path, _ = make_slide((2, 2, 40, 24))
    out, _ = run(path, tmp_path, model=make_model(), settings=with_settings(samples=2))
    volume, spread = read_spec(out), read_spec(tmp_path / "results/out_std.ome.zarr")
    assert (volume.shape, volume.voxel, volume.channels) == (
        spread.shape, spread.voxel, spread.channels,
    )  # fmt: skip
    arrays = [zarr.open_group(p, mode="r")["0"] for p in (out, out.with_name("out_std.ome.zarr"))]
    assert arrays[0].shards == arrays[1].shards == (2, 3, 16, 16)


def test_tissue_that_no_tile_can_hold_is_called_interpolated(tmp_path, make_slide, make_model):
    path, _ = make_slide((2, 2, 60, 60))
    patches = tmp_path / "patches.parquet"
    boxes = {"y0": [0, 0, 10], "x0": [0, 10, 0], "height": [10, 10, 50], "width": [10, 50, 60]}
    pd.DataFrame({**boxes, "background": [False, True, True]}).to_parquet(patches)
    write_manifest(patches, Manifest(stage="patch", algorithm=1))
    settings = with_settings(samples=2, mode="average")
    out, _ = run(path, tmp_path, model=make_model(), settings=settings, patches=patches)
    origin = read_label(out, "origin")
    assert (origin[::2] == 1).all()
    near = np.zeros((60, 60), bool)
    near[:10, : 10 + 15] = near[: 10 + 15, :10] = True  # tiles of 16 pixels, along rows or columns
    np.testing.assert_array_equal(origin[1], np.where(near, 2, 3))
    spread = open_volume(tmp_path / "results/out_std.ome.zarr").values
    assert not spread[:, 1][:, ~near].any()
    linear = interpolate(open_volume(path).values, 2, "linear")
    difference = np.abs(open_volume(out).values.astype(int) - linear)[:, 1][:, ~near]
    assert difference.max() <= 1


def test_killed_between_samples_a_block_goes_on_with_the_next(
    tmp_path, make_slide, make_model, monkeypatch
):
    path, _ = make_slide((2, 2, 16, 18))
    model = make_model()
    whole, _ = run(path, tmp_path, "whole", model=model)
    restore, seen = Diffused.restore, []

    def die(self, *arguments):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(self.task.seed)
        return restore(self, *arguments)

    monkeypatch.setattr(Diffused, "restore", die)
    with pytest.raises(KeyboardInterrupt):
        run(path, tmp_path, "cut", model=model)
    first, seen[:] = list(seen), []
    cut, _ = run(path, tmp_path, "cut", model=model)
    assert [*first, *seen] == [sample_seed(0, k) for k in range(3)]
    for suffix in ("", "_std"):
        np.testing.assert_array_equal(
            open_volume(cut.with_name(f"cut{suffix}.ome.zarr")).values,
            open_volume(whole.with_name(f"whole{suffix}.ome.zarr")).values,
        )


def test_parts_make_both_stores_as_one_job_does(tmp_path, wide_slide, make_model):
    path, settings = wide_slide
    settings = settings.model_copy(update={"samples": 2, "blur": "gaussian3"})
    model = make_model()
    whole, _ = run(path, tmp_path, "whole", model=model, settings=settings)
    out, work = tmp_path / "results/parts.ome.zarr", tmp_path / "work/parts"
    call = {"method": "msdsr", "factor": 2, "model": model, "device": "cpu", "settings": settings}
    for part in ("2/2", "1/2"):
        superresolve_part(path, out, work, Part.parse(part), **call)
    superresolve(path, out, work, finish=True, **call)
    for suffix in ("", "_std"):
        assert bytes_of(out.with_name(f"parts{suffix}.ome.zarr")) == bytes_of(
            whole.with_name(f"whole{suffix}.ome.zarr")
        )
