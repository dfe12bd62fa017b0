"""A set that grows writes what is new, and says why when it cannot go on from what is there."""

import hashlib
import os
import shutil

import numpy as np
import pandas as pd
import pytest
import zarr

import msdsr.trainset.build as build_module
from msdsr.config import TrainsetConfig
from msdsr.errors import UserError
from msdsr.manifest import Manifest, write_manifest
from msdsr.trainset import build_trainset

SETTINGS = TrainsetConfig(size=32, min_side=16, shard_images=4)


@pytest.fixture
def build(tmp_path):
    def build(slides, out="trainset", settings=SETTINGS):
        path = tmp_path / f"{out}.zarr"
        manifest = build_trainset(
            slides, path, tmp_path / f"{out}-work", channels=("CH2", "CH3"), settings=settings
        )
        return manifest, path, pd.read_parquet(path.with_suffix(".parquet"))

    return build


@pytest.fixture
def two(make_slide, textured):
    return [
        make_slide("a", textured((2, 5, 64, 32)), cohort="old"),
        make_slide("b", textured((2, 3, 32, 32)), cohort="old", patient="p2", split="val"),
    ]


@pytest.fixture
def third(make_slide, textured):
    return make_slide("a", textured((2, 6, 32, 32)) + 3000, cohort="new", patient="p3")


def shards(store):
    """Return inode, time of writing and SHA-256 of each shard of a store."""
    found = {}
    for path in sorted((store / "images/c").rglob("*")):
        if path.is_file():
            stat = path.stat()
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path.relative_to(store))] = (stat.st_ino, stat.st_mtime_ns, digest)
    return found


@pytest.mark.parametrize("deleted", [False, True])
def test_a_cohort_is_appended_and_no_old_shard_is_written_again(build, two, third, deleted):
    _, path, before = build(two)
    old = shards(path)
    assert len(old) == 4
    if deleted:  # as Snakemake does with outputs before it runs a job again
        shutil.rmtree(path)
        path.with_suffix(".parquet").unlink()
        path.with_suffix(".json").unlink()
    manifest, path, after = build([*two, third])
    new = shards(path)
    assert {name: new[name] for name in old} == old
    assert len(new) == 4 + 2
    pd.testing.assert_frame_equal(after.iloc[: len(before)], before)
    assert set(after.iloc[len(before) :]["cohort"]) == {"new"}
    assert manifest.measured == {"slides_decoded": 1, "slides_linked": 2}
    assert manifest.counts["slides"] == {"train": 2, "val": 1}


def test_a_grown_set_is_the_set_that_is_made_at_once(build, two, third):
    build(two)
    grown, path, index = build([*two, third])
    for slide in (*two, third):
        shutil.rmtree(slide.store)
    fresh, other, again = build([*two, third], out="other")
    assert fresh.counts == grown.counts
    assert fresh.measured["slides_decoded"] == 3
    pd.testing.assert_frame_equal(index, again)
    assert {k: v[2] for k, v in shards(path).items()} == {k: v[2] for k, v in shards(other).items()}


def test_statistics_are_of_all_training_slides_and_no_others(build, two, third):
    manifest, _, _ = build([*two, third])
    pixels = np.concatenate(
        [zarr.open_group(s.volume)["0"][1].ravel() for s in (two[0], third)]
    ).astype(float)
    found = manifest.counts["statistics"]["CH3"]
    assert found["mean"] == pytest.approx(pixels.mean())
    assert found["std"] == pytest.approx(pixels.std())


def test_a_slide_left_out_is_told_and_nothing_is_decoded(build, two, third, capsys):
    build([*two, third])
    capsys.readouterr()
    manifest, _, index = build([two[0], third])
    assert "old/b left out; no other slide is decoded again" in capsys.readouterr().err
    assert manifest.measured["slides_decoded"] == 0
    assert set(zip(index["cohort"], index["slide"], strict=True)) == {("old", "a"), ("new", "a")}


def test_a_changed_slide_alone_is_decoded_again_and_told(build, two, third, capsys):
    _, path, _ = build([*two, third])
    before = shards(path)
    changed = pd.read_parquet(two[1].patches)
    changed["height"] = 20
    changed.to_parquet(two[1].patches)
    write_manifest(two[1].patches, Manifest(stage="patch", algorithm=2, counts={"slide": "other"}))
    capsys.readouterr()
    manifest, path, index = build([*two, third])
    assert "trainset: old/b is decoded again: changed: patches" in capsys.readouterr().err
    assert manifest.measured["slides_decoded"] == 1
    assert set(index.loc[index["slide"] == "b", "height"]) == {20}
    after = shards(path)
    same = [name for name in before if before[name] == after[name]]
    assert len(same) == 3 + 2


def test_other_settings_decode_all_again(build, two, capsys):
    build(two)
    capsys.readouterr()
    manifest, _, _ = build(two, settings=SETTINGS.model_copy(update={"size": 16}))
    assert manifest.measured["slides_decoded"] == 2
    assert capsys.readouterr().err.count("the settings of the training set have changed") == 2


def test_two_models_share_the_shards(build, two):
    _, one, _ = build(two)
    manifest, other, _ = build(two, out="other")
    assert manifest.measured["slides_decoded"] == 0
    assert shards(one) == shards(other)


def test_without_hard_links_the_bytes_are_copied(build, two, monkeypatch):
    hard_link = os.link

    def refuse(source, target):  # zarr links its metadata by itself
        if "images/c/" in str(target):
            raise OSError("no links here")
        hard_link(source, target)

    _, linked, _ = build(two)
    monkeypatch.setattr(os, "link", refuse)
    _, copied, _ = build(two, out="copied")
    one, other = shards(linked), shards(copied)
    assert {k: v[2] for k, v in one.items()} == {k: v[2] for k, v in other.items()}
    assert one != other


def test_killed_between_links_it_goes_on(build, two, monkeypatch):
    _, whole, index = build(two, out="whole")
    link, calls = build_module.link_shards, []

    def dies_at_the_second(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        link(*arguments)

    monkeypatch.setattr(build_module, "link_shards", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        build(two)
    monkeypatch.setattr(build_module, "link_shards", link)
    _, path, again = build(two)
    assert shards(path) == shards(whole)
    pd.testing.assert_frame_equal(index, again)


def test_a_patient_in_two_splits_of_two_cohorts_is_refused(build, make_slide, textured):
    voxels = textured((2, 1, 32, 32))
    slides = [
        make_slide("a", voxels, cohort="old"),
        make_slide("b", voxels, cohort="new", split="val"),
    ]
    with pytest.raises(UserError, match=r"'p1' is in `val` here and in `train` with .*'old/a'"):
        build(slides)


def test_slides_of_one_name_are_told_apart_by_their_cohorts(build, two, third):
    _, _, index = build([*two, third])
    named = index[index["slide"] == "a"].groupby("cohort")["image"].count()
    assert named.to_dict() == {"new": 6, "old": 10}
    with pytest.raises(UserError, match="'old/a' stands twice"):
        build([two[0], two[0]])
