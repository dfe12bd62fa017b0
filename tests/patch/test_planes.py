"""Planes that no model should learn from are found, and normal ones are not."""

import numpy as np
import pandas as pd
import pytest
import tifffile
import xarray as xr
from scipy.ndimage import gaussian_filter

import msdsr.patch.planes as planes_module
from msdsr.config import PatchConfig, PhantomConfig
from msdsr.errors import UserError
from msdsr.manifest import Manifest, write_manifest
from msdsr.patch import patch
from msdsr.patch.patch import equal_pieces
from msdsr.patch.planes import flag_planes, measure_planes
from msdsr.phantom.cohort import make_slide
from msdsr.volume import VoxelSize, write_volume


def volume(voxels_CZYX):
    return xr.DataArray(voxels_CZYX, dims=("c", "z", "y", "x"))


def flags(voxels_CZYX, **settings):
    found = flag_planes(volume(voxels_CZYX), PatchConfig(**settings))
    return {flag.plane: flag.reason for flag in found}


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """A slide of the phantom, 8 planes of 96 × 96."""
    path = tmp_path_factory.mktemp("phantom") / "P01-S1.tif"
    make_slide("P01-S1", PhantomConfig(size=96, planes=8), "demo", 2024, path, None)
    return tifffile.imread(path).transpose(1, 0, 2, 3)


def test_no_plane_of_the_phantom_is_flagged(stack):
    assert flags(stack) == {}
    noisy = stack + np.random.default_rng(0).normal(0, 2000, stack.shape)
    assert flags(noisy.clip(0, 65535).astype(np.uint16)) == {}


def test_each_reason_is_found(stack, rng):
    bad = stack.copy()
    bad[1, 0] = 7
    bad[:, 2] = rng.normal(300, 20, bad[:, 2].shape)
    bad[0, 3, :40] = 65535
    bad[:, 5] = bad[:, 4]
    bad[:, 6] = gaussian_filter(bad[:, 6].astype(float), (0, 4, 4))
    assert flags(bad) == {
        0: "empty",
        2: "empty",
        3: "saturated",
        5: "duplicated",
        6: "defocused",
    }
    off = {"flag_empty": 0, "flag_saturated": 1, "flag_duplicates": False, "flag_defocused": 0}
    assert flags(bad, **off) == {0: "empty"}  # a channel of one value is of no use to anybody


def test_12_bits_saturate_too_and_dark_images_do_not(stack):
    twelve = (stack // 16).astype(np.uint16)
    twelve[0, 3, :40] = 4095
    assert flags(twelve) == {3: "saturated"}
    dark = (stack // 12000).astype(np.uint16)
    assert "saturated" not in flags(dark).values()


def test_brightness_alone_flags_nothing(stack):
    fading = stack * np.linspace(1, 0.2, 8)[None, :, None, None]
    assert flags(fading.astype(np.uint16)) == {}


def test_blocks_do_not_matter(stack, monkeypatch):
    whole = measure_planes(volume(stack))
    monkeypatch.setattr(planes_module, "BLOCK_Z", 3)
    parts = measure_planes(volume(stack))
    assert parts.digests == whole.digests
    np.testing.assert_array_equal(parts.contrast, whole.contrast)
    monkeypatch.setattr(planes_module, "BLOCK_YX", 50)
    cut = measure_planes(volume(stack))
    np.testing.assert_allclose(cut.contrast, whole.contrast, rtol=1e-9)
    np.testing.assert_allclose(cut.sharpness, whole.sharpness, rtol=0.05)


def test_flags_stand_in_the_manifest(tmp_path, stack):
    store = tmp_path / "raw.ome.zarr"
    bad = stack.copy()
    bad[:, 5] = bad[:, 4]
    write_volume(store, bad, VoxelSize(1, 0.5, 0.5), ("CH2", "CH3"), name="S1")
    write_manifest(store, Manifest(stage="ingest", algorithm=1))
    out = tmp_path / "patches.parquet"
    manifest = patch(store, out, settings=PatchConfig(), flagged=(0,))
    assert manifest.counts["flagged"] == {
        "0": {"reason": "sheet", "value": 1, "limit": 0},
        "5": {"reason": "duplicated", "value": 4.0, "limit": 0.0},
    }
    assert "1 of 8 planes duplicated, no model learns from them: 5" in manifest.warnings
    with pytest.raises(UserError, match="plane 8 is flagged, of planes 0 to 7"):
        patch(store, out, settings=PatchConfig(), flagged=(8,))


def test_listed_images_are_patches_of_their_own(tmp_path, rng):
    """Tissue is told image by image, with one threshold for all."""
    tissue = [True, False, True, False, True]
    level = np.where(tissue, 900, 90)[:, None, None]
    images = rng.poisson(np.broadcast_to(level, (2, 5, 70, 70))).astype(np.uint16)
    kind = {"kind": "images2d", "image_classes": ["tumor", "normal", "tumor", "", "normal"]}
    store = tmp_path / "raw.ome.zarr"
    voxel = VoxelSize(1, 0.5, 0.5)
    write_volume(store, images, voxel, ("CH2", "CH3"), name="S1", provenance=kind)
    write_manifest(store, Manifest(stage="ingest", algorithm=1))
    patch(store, tmp_path / "p.parquet", settings=PatchConfig(size=64))
    table = pd.read_parquet(tmp_path / "p.parquet")
    assert table["plane"].tolist() == [0, 1, 2, 3, 4]
    assert (~table["background"]).tolist() == tissue
    assert table["class"].tolist() == kind["image_classes"]
    assert set(table["height"]) == {70}


def test_images_are_cut_into_equal_pieces_near_the_size():
    assert equal_pieces(300, 256) == [(0, 300)]
    assert equal_pieces(2000, 256) == [(n * 250, 250) for n in range(8)]
    assert equal_pieces(40, 256) == [(0, 40)]
