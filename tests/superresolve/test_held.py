"""Acquired planes that are restored as if they had not been imaged."""

import signal

import numpy as np
import pytest

from msdsr.config import SuperresolveConfig
from msdsr.errors import UserError
from msdsr.manifest import Manifest, read_manifest, write_manifest
from msdsr.superresolve import restore_held_out
from msdsr.volume import HeldOut, VoxelSize, held_out, middle, open_volume, read_spec, write_volume
from msdsr.volume.interpolate import interpolate

from .conftest import bytes_of, ended

FAST = SuperresolveConfig(precision="float32", steps=2, stride=12, batch=16)


def run(volume, tmp_path, name="held", **options):
    out = tmp_path / "results" / f"{name}.ome.zarr"
    options = {"method": "msdsr", "factor": 2, "settings": FAST, "device": "cpu", "side": 16,
               **options}  # fmt: skip
    return out, restore_held_out(volume, out, tmp_path / "work" / name, **options)


@pytest.mark.parametrize(
    ("factor", "z_um", "expected", "held", "rows"),
    [
        (2, 1.0, HeldOut(2, 4, 2), (1, 3), [2, 6]),  # all planes in use: every second one
        (4, 1.0, HeldOut(2, 4, 1), (1, 3), [2, 6]),  # every second in use: those between
        (8, 1.0, HeldOut(4, 8, 1), (1, 2, 3), [2, 4, 6]),
        (3, 1.0, HeldOut(2, 6, 2), (1, 3), [3, 9]),
        (8, 4.0, HeldOut(2, 8, 1), (1, 3), [4, 12]),
        (8, 4.5, HeldOut(2, 8, 1), (1, 3), [4, 12]),
    ],
)
def test_what_is_held_out_follows_from_factor_and_spacing(factor, z_um, expected, held, rows):
    found = held_out(factor, VoxelSize(z_um, 0.5, 0.5) if z_um == 1 else VoxelSize(z_um, 1, 1))
    assert found == expected
    assert found.planes(6) == held
    assert [found.row(z) for z in held] == rows
    assert found.restored_planes(6) == (found.shown(6) - 1) * found.factor + 1
    assert not set(rows) & set(found.shown_rows(6))
    assert found.learnt


def test_the_field_lies_in_the_middle_and_inside():
    assert middle((50, 80), 20) == (slice(15, 35), slice(30, 50))
    assert middle((10, 80), 20) == (slice(0, 10), slice(30, 50))
    assert middle((10, 80), "whole") == (slice(0, 10), slice(0, 80))


def test_what_was_imaged_there_does_not_matter(tmp_path, make_slide, make_model):
    path, voxels = make_slide((2, 6, 20, 24))
    model = make_model()
    out, manifest = run(path, tmp_path, model=model)
    changed = voxels.copy()
    changed[:, [1, 3]] = 65535 - changed[:, [1, 3]]
    changed[:, 5] = 0  # beyond the last shown plane
    other = tmp_path / "other.ome.zarr"
    write_volume(other, changed, VoxelSize(1, 0.5, 0.5), ("CH2", "CH3"), name="S1",
                 provenance={"slide": "S1"})  # fmt: skip
    write_manifest(other, Manifest(stage="denoise", algorithm=1, seed=9))
    again, _ = run(other, tmp_path, "again", model=model)
    assert bytes_of(again) == bytes_of(out)
    restored = open_volume(out)
    assert restored.shape == (2, 9, 16, 16)
    np.testing.assert_array_equal(restored.values[:, ::4], voxels[:, ::2, 2:18, 4:20])
    assert (restored.values[:, 2] != voxels[:, 1, 2:18, 4:20]).mean() > 0.9
    said = restored.attrs["msdsr"]
    assert said["held_out_planes"] == [1, 3]
    assert said["field"] == [2, 18, 4, 20]
    assert (said["factor"], said["keep_every"], said["acquired_planes"]) == (4, 2, [0, 4, 8])
    assert (manifest.counts["held_planes"], manifest.counts["gap"]) == (2, 2)
    assert manifest.warnings[0].endswith("twice as far apart as in the run this judges")
    assert read_manifest(out).counts == manifest.counts


def test_an_interpolation_is_that_of_the_shown_planes(tmp_path, make_slide):
    path, voxels = make_slide((2, 5, 20, 24))
    out, manifest = run(path, tmp_path, method="linear", factor=4, side="whole")
    np.testing.assert_array_equal(open_volume(out).values, interpolate(voxels[:, ::2], 4, "linear"))
    assert manifest.counts["gap"] == 1
    assert not any("twice as far" in warning for warning in manifest.warnings)


def test_samples_have_their_spread_beside_them(tmp_path, make_slide, make_model):
    path, _ = make_slide((2, 3, 16, 18))
    settings = FAST.model_copy(update={"samples": 2})
    out, _ = run(path, tmp_path, model=make_model(), settings=settings)
    spread = open_volume(out.with_name("held_std.ome.zarr"))
    assert spread.shape == read_spec(out).shape
    assert np.median(spread.values[:, 2]) > 0
    assert spread.attrs["msdsr"]["calibrated"] is False
    assert spread.attrs["msdsr"]["field"] == [0, 16, 1, 17]


@pytest.mark.parametrize(
    ("planes", "factor", "line"),
    [(2, 2, "2 planes, and it takes 3"), (6, 5, "restored at 10×, and models learn up to 8×")],
)
def test_where_nothing_can_be_held_out_the_product_is_empty_and_says_why(
    tmp_path, make_slide, make_model, planes, factor, line
):
    path, _ = make_slide((2, planes, 16, 18))
    settings = FAST.model_copy(update={"samples": 2})
    out, manifest = run(path, tmp_path, model=make_model(), settings=settings, factor=factor)
    assert out.is_dir()
    assert out.with_name("held_std.ome.zarr").is_dir()
    assert manifest.counts["held_planes"] == 0
    assert line in manifest.warnings[0]
    assert not (tmp_path / "work/held").exists()


def test_mistakes_are_those_of_the_stage(tmp_path, make_slide):
    path, _ = make_slide()
    with pytest.raises(UserError, match="needs one"):
        run(path, tmp_path)


DIE = """
import os, signal
from msdsr.superresolve.outputs import Outputs
fill, seen = Outputs.fill, []
def die(self, region, *rest):
    fill(self, region, *rest)
    seen.append(region)
    if len(seen) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
Outputs.fill = die
"""


def test_killed_it_goes_on_to_the_same_bytes(tmp_path, wide_slide, make_model, stage_process):
    path, settings = wide_slide
    voxels = open_volume(path).values
    thick = tmp_path / "thick.ome.zarr"
    write_volume(thick, np.concatenate([voxels, voxels[:, :1]], axis=1), VoxelSize(1, 0.5, 0.5),
                 ("CH2", "CH3"), name="S1")  # fmt: skip
    write_manifest(thick, Manifest(stage="denoise", algorithm=1))
    model = make_model()
    options = {"settings": settings, "model": model, "side": "whole"}
    whole, counted = run(thick, tmp_path, "whole", **options)
    call = {"volume": thick, "out": tmp_path / "results/cut.ome.zarr",
            "work": tmp_path / "work/cut", "method": "msdsr", "factor": 2, "device": "cpu",
            **options}  # fmt: skip
    process = stage_process(DIE, held=True, **call)
    assert ended(process) == -signal.SIGKILL
    assert not call["out"].exists()
    cut, manifest = run(thick, tmp_path, "cut", **options)
    assert bytes_of(cut) == bytes_of(whole)
    assert manifest.measured["blocks"] == counted.measured["blocks"] == 6
