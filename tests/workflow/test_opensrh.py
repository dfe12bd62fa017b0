"""An OpenSRH tree from its tables to a training set, and a cohort added to it, with real stages."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr

from msdsr.manifest import read_manifest


def configuration(*cohorts):
    sheets = {name: {"sheet": f"config/cohorts/{name}.tsv", "model": "own"} for name in cohorts}
    return {
        "cohorts": sheets,
        "models": {"own": {"preset": "tiny", "cohorts": list(cohorts)}},
        "patch": {"size": 48},
        "trainset": {"size": 48, "shard_images": 2},
    }


def written(folder):
    """Return inode, time of writing and SHA-256 of every shard of training images."""
    found = {}
    for path in folder.rglob("images/c/*/0/0/0"):
        stat = path.stat()
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        found[str(path.relative_to(folder))] = (stat.st_ino, stat.st_mtime_ns, digest)
    return found


@pytest.mark.slow
def test_opensrh_becomes_a_training_set_that_grows(project, opensrh, rng):
    opensrh.rename(project.folder / "opensrh")
    command = [sys.executable, "-m", "msdsr", "sheet", "opensrh", "opensrh"]
    said = subprocess.run(
        [*command, "config/cohorts/opensrh.tsv"],
        cwd=project.folder,
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "4 slides of 3 patients; images: 9 tumor, 4 normal" in said
    project.config(configuration("opensrh"))
    target = "results/models/own/trainset.json"
    project.run(target, "--cores", "2")

    store = project.folder / "results/models/own/trainset.zarr"
    manifest, first = read_manifest(store), written(store)
    index = pd.read_parquet(store.with_suffix(".parquet"))
    assert manifest.counts["images"] == {"train": 9, "val": 4}
    assert manifest.counts["classes"] == {"train": {"normal": 4, "tumor": 5}, "val": {"tumor": 4}}
    assert not index["stacked"].any()
    assert index.groupby("slide")["image"].count().tolist() == [4, 2, 3, 4]
    images = zarr.open_group(store, mode="r")["images"]
    listed = pd.read_csv(project.folder / "config/cohorts/opensrh/NIO_002-1.images.tsv", sep="\t")
    rows = index[index["slide"] == "NIO_002-1"]
    for row, path in zip(rows.itertuples(), listed["path"], strict=True):
        np.testing.assert_array_equal(images[row.image], tifffile.imread(project.folder / path))

    # A cohort of volumes is added: its shards are written, and no other.
    manifests = list(project.folder.rglob("slides/*/images.json"))
    before = [path.stat().st_mtime_ns for path in manifests]
    voxels = rng.integers(9000, 60000, (3, 2, 48, 96), dtype=np.uint16)
    tifffile.imwrite(project.folder / "stack.tif", voxels, photometric="minisblack")
    project.sheet("volumes", [("S1", "P1", "train", "stack.tif", "")])
    project.config(configuration("opensrh", "volumes"))
    said = project.run(target, "--cores", "2")
    assert "rule trainset_slide" in said
    assert said.count("rule trainset_slide:") == 1
    second = written(store)
    assert {name: second[name] for name in first} == first
    assert len(second) == len(first) + 3
    grown = pd.read_parquet(store.with_suffix(".parquet"))
    pd.testing.assert_frame_equal(grown.iloc[: len(index)], index)
    assert grown.iloc[len(index) :]["stacked"].all()
    assert [path.stat().st_mtime_ns for path in manifests] == before
    assert read_manifest(store).measured == {"slides_decoded": 0, "slides_linked": 5}
