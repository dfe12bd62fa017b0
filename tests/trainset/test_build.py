import hashlib
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

import msdsr.trainset.slide as slide_module
from msdsr.config import TrainsetConfig
from msdsr.errors import UserError
from msdsr.manifest import read_manifest
from msdsr.trainset import TrainSlide, build_trainset
from msdsr.trainset.select import tiles
from msdsr.trainset.statistics import Histogram

SETTINGS = TrainsetConfig(size=32, min_side=16, shard_images=4)


@pytest.fixture
def run(tmp_path):
    def run(slides, settings=SETTINGS, channels=("CH2", "CH3")):
        out = tmp_path / "trainset.zarr"
        manifest = build_trainset(
            slides, out, tmp_path / "work", channels=channels, settings=settings
        )
        images = zarr.open_group(out, mode="r")["images"]
        return manifest, images, pd.read_parquet(out.with_suffix(".parquet"))

    return run


def contents(store):
    """Return the SHA-256 of each file of a store."""
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(store.rglob("*"))
        if path.is_file()
    }


@given(st.integers(1, 3000), st.integers(1, 300))
def test_tiles_cover_a_side_once(length, size):
    pieces = tiles(length, size)
    assert [start for start, _ in pieces] == [
        0,
        *np.cumsum([n for _, n in pieces])[:-1].tolist(),
    ]
    assert sum(n for _, n in pieces) == length
    assert max(n for _, n in pieces) <= size
    assert max(n for _, n in pieces) - min(n for _, n in pieces) <= 1


def test_every_image_is_the_plane_its_row_says(run, make_slide, textured):
    a, b = textured((2, 5, 70, 90)), textured((2, 1, 40, 24))
    _, images, index = run([make_slide("a", a), make_slide("b", b, patient="p2", split="val")])
    assert len(index) == 5 * 3 * 3 + 2
    assert index["image"].is_unique
    assert index["image"].max() < images.shape[0]
    assert images.dtype == np.uint16
    for row in index.itertuples():
        source = {"a": a, "b": b}[row.slide]
        stored = images[row.image]
        box = np.s_[:, row.plane, row.y0 : row.y0 + row.height, row.x0 : row.x0 + row.width]
        np.testing.assert_array_equal(stored[:, : row.height, : row.width], source[box])
        assert not stored[:, row.height :].any()
        assert not stored[:, :, row.width :].any()


def test_statistics_are_those_of_the_training_pixels(run, make_slide, textured):
    a, b = textured((2, 2, 64, 64)), textured((2, 2, 32, 32)) + 9000
    manifest, _, _ = run([make_slide("a", a), make_slide("b", b, patient="p2", split="val")])
    found = manifest.counts["statistics"]["CH3"]
    assert found["mean"] == pytest.approx(a[1].mean(dtype=float))
    assert found["std"] == pytest.approx(a[1].std(dtype=float))
    assert manifest.counts["images"] == {"train": 8, "val": 2}
    assert manifest.counts["patients"] == {"train": 1, "val": 1}


def test_channels_are_picked_by_name(run, make_slide, textured):
    a = textured((2, 1, 32, 32))
    manifest, images, _ = run([make_slide("a", a)], channels=("CH3",))
    np.testing.assert_array_equal(images[0], a[1:, 0])
    assert list(manifest.counts["statistics"]) == ["CH3"]


def test_background_and_narrow_patches_are_left_out(run, make_slide, textured):
    boxes = [(0, 0, 32, 32), (0, 32, 32, 32), (32, 0, 32, 32), (32, 32, 32, 9)]
    slide = make_slide("a", textured((2, 1, 64, 64)), rectangles=boxes, background={1})
    manifest, _, index = run([slide])
    assert index[["y0", "x0"]].to_numpy().tolist() == [[0, 0], [32, 0]]
    assert manifest.counts["left_out"] == {"background": 1, "narrower than 16 pixels": 1}
    assert any("narrower than 16 pixels: 1 images (a)" in line for line in manifest.warnings)
    assert any("no validation images" in line for line in manifest.warnings)


def test_a_patient_in_both_splits_is_refused(run, make_slide, textured):
    voxels = textured((2, 1, 32, 32))
    slides = [make_slide("a", voxels), make_slide("b", voxels, split="val")]
    with pytest.raises(UserError, match=r"patient 'p1' is in `val` here and in `train`"):
        run(slides)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"channels": ("CH2", "CH9")}, "'CH3' among them"),
        ({"dtype": np.uint8}, "pixels of type uint8"),
        ({"split": "infer"}, "split 'infer'"),
        ({"rectangles": [(0, 0, 32, 99)]}, "beyond the volume"),
    ],
)
def test_what_does_not_fit_is_named(run, make_slide, textured, changed, message):
    voxels = textured((2, 1, 32, 32))
    good = make_slide("good", voxels)
    dtype = changed.pop("dtype", np.uint16)
    bad = make_slide("bad", voxels.astype(dtype), **{"patient": "p2", **changed})
    with pytest.raises(UserError, match=message) as caught:
        run([good, bad])
    assert "/bad/" in caught.value.where


def test_nothing_to_train_on_is_refused(run, make_slide, textured):
    slide = make_slide("a", textured((2, 1, 32, 32)), tissue=0.01)
    with pytest.raises(UserError, match="no training image"):
        run([slide])


def test_values_that_are_not_finite_are_refused(run, make_slide):
    voxels = np.ones((2, 1, 32, 32), np.float32)
    voxels[0, 0, 3, 3] = np.nan
    with pytest.raises(UserError, match="not finite") as caught:
        run([make_slide("a", voxels)])
    assert "/a/" in caught.value.where


def test_an_interrupted_build_goes_on_and_ends_the_same(
    tmp_path, run, make_slide, textured, monkeypatch
):
    slides = [
        make_slide("a", textured((2, 7, 64, 32))),
        make_slide("b", textured((2, 3, 32, 32)), patient="p2", split="val"),
    ]
    written = []
    add = Histogram.add

    def dies_at_the_tenth(self, image):
        written.append(1)
        if len(written) == 10:
            raise KeyboardInterrupt
        add(self, image)

    monkeypatch.setattr(Histogram, "add", dies_at_the_tenth)
    with pytest.raises(KeyboardInterrupt):
        run(slides)
    assert not (tmp_path / "trainset.zarr").exists()
    ledger = (tmp_path / "work/slide-000000/ledger.jsonl").read_text().splitlines()
    assert sum("shard-" in json.loads(line)["key"] for line in ledger) == 2

    resumed, images, index = run(slides)
    assert len(written) == 10 + 14 + 3 - 8
    first, files = np.asarray(images[:]), contents(tmp_path / "trainset.zarr")
    monkeypatch.setattr(Histogram, "add", add)
    for slide in slides:
        shutil.rmtree(slide.store)
    fresh, again, index_again = run(slides)
    np.testing.assert_array_equal(first, again[:])
    assert contents(tmp_path / "trainset.zarr") == files
    pd.testing.assert_frame_equal(index, index_again)
    assert resumed.counts == fresh.counts
    assert read_manifest(tmp_path / "trainset.zarr").counts == fresh.counts


def test_a_missing_patch_table_is_named(run, make_slide, textured):
    slide = make_slide("a", textured((2, 1, 32, 32)))
    slide.patches.unlink()
    with pytest.raises(UserError, match="no such file"):
        run([TrainSlide("a", "p1", "train", slide.volume, slide.patches)])


def test_voxels_are_read_once(run, make_slide, textured, monkeypatch):
    opened = []
    original = slide_module.open_volume
    monkeypatch.setattr(slide_module, "open_volume", lambda p: opened.append(p) or original(p))
    run([make_slide("a", textured((2, 9, 64, 64)))])
    assert len(opened) == 1
