import numpy as np
import pandas as pd
import pytest

from msdsr.config import EvaluateConfig
from msdsr.manifest import Manifest, write_manifest
from msdsr.volume import VoxelSize, write_volume

FACTOR, PLANES = 2, 20
CHANNELS = ("CH2", "CH3")


@pytest.fixture
def evaluate_settings():
    return EvaluateConfig(crop=16, max_images=12, max_reference_images=40, bootstrap=50)


@pytest.fixture
def tissue():
    """An isotropic texture, uint16 (c, z, y, x), the same along z, y and x."""

    def make(seed, shape=(2, (PLANES - 1) * FACTOR + 1, 48, 56)):
        from scipy.ndimage import gaussian_filter

        field = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), (0, 2, 2, 2))
        return np.rint(field / field.std() * 4000 + 20000).clip(0, 65535).astype(np.uint16)

    return make


@pytest.fixture
def publish(tmp_path):
    """Write a volume, its patch manifest and the manifests of both, as earlier stages do."""

    def make(slide, voxels, name="denoised.ome.zarr", z_um=1.0, provenance=None, empty=False):
        folder = tmp_path / "slides" / slide
        store = folder / name
        provenance = provenance or {}
        write_volume(
            store, voxels, VoxelSize(z_um, 0.5, 0.5), CHANNELS, name=slide, provenance=provenance
        )
        counts = {"slide": slide, "sum": int(voxels.sum())}
        write_manifest(store, Manifest(stage="denoise", algorithm=1, counts=counts))
        rows, columns = voxels.shape[2:]
        grid = pd.DataFrame(
            {
                "slide": [slide] * 2,
                "y0": [0, 0],
                "x0": [0, columns // 2],
                "height": [rows] * 2,
                "width": [columns // 2, columns - columns // 2],
                "background": [empty, empty],
            }
        )
        grid.to_parquet(folder / "patches.parquet")
        write_manifest(folder / "patches.parquet", Manifest(stage="patch", algorithm=1))
        return store

    return make


@pytest.fixture
def patches_of():
    return lambda store: store.parent / "patches.parquet"
