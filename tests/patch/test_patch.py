import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msdsr.config import PatchConfig
from msdsr.errors import UserError
from msdsr.manifest import Manifest, read_manifest, write_manifest
from msdsr.patch import patch
from msdsr.patch.patch import patch_table
from msdsr.patch.tissue import tissue_mask
from msdsr.volume import VoxelSize, write_volume


@given(rows=st.integers(1, 300), columns=st.integers(1, 300), size=st.integers(1, 128))
def test_patches_tile_the_slide(rows, columns, size):
    mask = np.zeros((rows, columns), bool)
    mask[: rows // 2] = True
    table = patch_table("s", mask, PatchConfig(size=size))
    assert (table["height"] * table["width"]).sum() == rows * columns
    assert table["height"].max() <= size
    tissue = (table["tissue_fraction"] * table["height"] * table["width"]).sum()
    assert tissue == pytest.approx(mask.sum())


def test_tissue_is_told_from_background(tmp_path, rng):
    truth = np.zeros((256, 256), bool)
    truth[:, 128:] = True
    voxels = rng.poisson(np.where(truth, 900, 90), (2, 5, 256, 256)).astype(np.uint16)
    store = tmp_path / "raw.ome.zarr"
    write_volume(store, voxels, VoxelSize(1, 0.5, 0.5), ("CH2", "CH3"), name="S1")
    write_manifest(store, Manifest(stage="ingest", algorithm=1))
    manifest = patch(store, tmp_path / "patches.parquet", settings=PatchConfig(size=64))
    table = pd.read_parquet(tmp_path / "patches.parquet")
    assert list(table.columns) == [
        "slide", "index", "plane", "y0", "x0", "height", "width", "tissue_fraction", "background",
        "class",
    ]  # fmt: skip
    assert (table["slide"] == "S1").all()
    assert (table["background"] == (table["x0"] < 128)).all()
    assert manifest.counts["tissue_patches"] == 8
    assert manifest.counts["background_told_apart"]
    assert read_manifest(tmp_path / "patches.parquet").stage == "patch"


def test_a_slide_full_of_tissue_is_not_cut_in_half(rng):
    from scipy.ndimage import gaussian_filter

    even = gaussian_filter(rng.standard_normal((200, 200)), 3).astype(np.float32)
    mask, separability = tissue_mask(even, 2.0)
    assert mask.all()
    assert 0.5 < separability < 0.7


def test_a_constant_slide_is_tissue():
    mask, separability = tissue_mask(np.full((9, 9), 3.0, np.float32), 1.0)
    assert mask.all()
    assert separability == 0.0


def test_no_volume_is_told(tmp_path):
    with pytest.raises(UserError, match="not a Zarr store"):
        patch(tmp_path / "raw.ome.zarr", tmp_path / "p.parquet", settings=PatchConfig())


def test_a_slide_of_no_use_is_refused(tmp_path, textured):
    blank, empty = tmp_path / "blank.ome.zarr", tmp_path / "empty.ome.zarr"
    write_volume(
        blank, np.full((1, 4, 32, 32), 700, np.uint16), VoxelSize(1, 1, 1), ("A",), name="b"
    )
    write_manifest(blank, Manifest(stage="ingest", algorithm=1))
    with pytest.raises(UserError, match=r"every plane is flagged \(empty"):
        patch(blank, tmp_path / "blank.parquet", settings=PatchConfig())
    corner = textured() // 40
    corner[..., :20, :20] += 20000
    write_volume(empty, corner, VoxelSize(1, 1, 1), ("A", "B"), name="e")
    write_manifest(empty, Manifest(stage="ingest", algorithm=1))
    strict = PatchConfig(min_tissue_fraction=1.0, smoothing_um=1.0)
    with pytest.raises(UserError, match=r"no tissue: all 1 patches are background"):
        patch(empty, tmp_path / "empty.parquet", settings=strict)
    assert not list(tmp_path.glob("*.parquet"))
