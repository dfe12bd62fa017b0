"""What is background is interpolated, and the records say so."""

import numpy as np
import pandas as pd
import pytest

from msdsr.config import SuperresolveConfig
from msdsr.manifest import Manifest, write_manifest
from msdsr.superresolve import superresolve
from msdsr.volume import VoxelSize, open_volume, write_volume
from msdsr.volume.interpolate import interpolate

ISLANDS = [(0, 0), (16, 96)]
"""Patches with tissue (y0, x0), far apart."""


@pytest.fixture
def islands(tmp_path, rng, make_model):
    """A slide with two islands of tissue, its patch table, and a way to restore it."""
    voxels = (rng.random((2, 3, 32, 128)) * 10000 + 4000).astype("uint16")
    volume = tmp_path / "denoised.ome.zarr"
    write_volume(volume, voxels, VoxelSize(1.0, 0.5, 0.5), ("CH2", "CH3"), name="S1")
    write_manifest(volume, Manifest(stage="denoise", algorithm=1))
    patches = tmp_path / "patches.parquet"
    grid = [(y, x) for y in range(0, 32, 16) for x in range(0, 128, 16)]
    pd.DataFrame(
        [{"y0": y, "x0": x, "height": 16, "width": 16, "background": (y, x) not in ISLANDS}
         for y, x in grid]
    ).to_parquet(patches)  # fmt: skip
    write_manifest(patches, Manifest(stage="patch", algorithm=1))
    model = make_model()

    def run(name, **options):
        settings = SuperresolveConfig(
            mode="xz", steps=2, stride=12, batch=64, background=options.pop("background")
        )
        out = tmp_path / "results" / f"{name}.ome.zarr"
        manifest = superresolve(
            volume, out, tmp_path / "work", method="msdsr", factor=2, settings=settings,
            model=model, device="cpu", patches=patches, **options,
        )  # fmt: skip
        return open_volume(out), manifest

    return voxels, run


def test_background_far_from_tissue_is_linear_and_told_of(islands):
    voxels, run = islands
    restored, manifest = run("islands", background="interpolate")
    linear = interpolate(voxels, 2, "linear").astype(int)
    off = np.abs(restored.values.astype(int) - linear)
    assert off[:, :, :16, 48:].max() <= 1  # no tile of 16 here reaches an island
    assert off[:, 1::2, :16, :16].mean() > 500
    assert off[:, 1::2, 16:, 96:112].mean() > 500
    np.testing.assert_array_equal(restored.values[:, ::2], voxels)
    assert manifest.counts["background_pixels"] == 32 * 128 - 2 * 256
    assert manifest.measured["background_tiles"] > manifest.measured["tiles"] > 0
    assert "patches" in manifest.inputs
    told = restored.attrs["msdsr"]["background"]
    assert told["fraction"] == 0.875
    assert "interpolated linearly" in told["note"]


def test_background_can_be_restored_too(islands):
    voxels, run = islands
    restored, manifest = run("all", background="restore")
    off = np.abs(restored.values.astype(int) - interpolate(voxels, 2, "linear").astype(int))
    assert off[:, 1::2, :16, 48:].mean() > 500
    assert manifest.measured["background_tiles"] == 0
    assert "background_pixels" not in manifest.counts
    assert "patches" not in manifest.inputs
    assert "background" not in restored.attrs["msdsr"]
