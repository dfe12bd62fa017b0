"""What does not become a training image, with counts and reasons."""

import numpy as np
import pandas as pd
import pytest
import zarr

from msdsr.config import TrainsetConfig
from msdsr.trainset import build_trainset

SETTINGS = TrainsetConfig(size=32, min_side=16, shard_images=4)


@pytest.fixture
def build(tmp_path):
    def build(slides, **changed):
        path = tmp_path / "trainset.zarr"
        settings = SETTINGS.model_copy(update=changed)
        manifest = build_trainset(
            slides, path, tmp_path / "work", channels=("CH2", "CH3"), settings=settings
        )
        images = zarr.open_group(path, mode="r")["images"]
        return manifest, images, pd.read_parquet(path.with_suffix(".parquet"))

    return build


def test_flagged_planes_are_left_out_and_told(build, make_slide, textured):
    voxels = textured((2, 6, 64, 32))
    slide = make_slide("a", voxels, flagged={0: "empty", 4: "defocused", 5: "defocused"})
    manifest, images, index = build([slide])
    assert index["plane"].tolist() == [1, 2, 3] * 2
    assert index["stacked"].all()
    assert manifest.counts["left_out"] == {"flagged: defocused": 4, "flagged: empty": 2}
    assert "left out, flagged: defocused: 4 images (a)" in manifest.warnings
    for row in index.itertuples():
        box = np.s_[:, row.plane, row.y0 : row.y0 + 32, :]
        np.testing.assert_array_equal(images[row.image], voxels[box])


def test_listed_images_keep_their_class_and_are_no_stack(build, make_slide, textured):
    voxels = textured((2, 5, 32, 40))
    classes = ["tumor", "normal", "nondiagnostic", "tumor", ""]
    slide = make_slide("a", voxels, classes=classes, label="hgg", flagged={3: "duplicated"})
    stack = make_slide("b", voxels, patient="p2", label="lgg")
    manifest, images, index = build([slide, stack])
    listed = index[index["slide"] == "a"]
    assert not listed["stacked"].any()
    assert index[index["slide"] == "b"]["stacked"].all()
    # Both halves of the images 0, 1 and 4; rectangle by rectangle.
    assert listed["plane"].tolist() == [0, 1, 4] * 2
    assert listed["class"].tolist() == ["tumor", "normal", "hgg"] * 2
    assert set(index[index["slide"] == "b"]["class"]) == {"lgg"}
    # Left out before it is cut in two, the other after.
    assert manifest.counts["left_out"] == {"class nondiagnostic": 1, "flagged: duplicated": 2}
    assert manifest.counts["classes"]["train"] == {"hgg": 2, "lgg": 10, "normal": 2, "tumor": 2}
    for row in listed.itertuples():
        box = np.s_[:, row.plane, :, row.x0 : row.x0 + row.width]
        np.testing.assert_array_equal(images[row.image][:, :, : row.width], voxels[box])


def test_which_classes_are_left_out_is_configured(build, make_slide, textured):
    voxels = textured((2, 2, 32, 32))
    listed = make_slide("a", voxels, classes=["nondiagnostic", "tumor"])
    other = make_slide("b", voxels, patient="p2", label="unknown")
    manifest, _, index = build([listed, other], exclude_classes=[])
    assert len(index) == 4
    manifest, _, index = build([listed, other], exclude_classes=["unknown"])
    assert set(index["slide"]) == {"a"}
    assert "left out, slides of class unknown: 1 (b)" in manifest.warnings


def test_a_slide_without_tissue_is_no_error_among_others(build, make_slide, textured):
    voxels = textured((2, 2, 32, 32))
    empty = make_slide("a", voxels, tissue=0.0)
    full = make_slide("b", voxels, patient="p2")
    manifest, images, index = build([empty, full])
    assert set(index["slide"]) == {"b"}
    assert manifest.counts["left_out"] == {"background": 2}
    np.testing.assert_array_equal(images[index["image"].iloc[1]], voxels[:, 1])
