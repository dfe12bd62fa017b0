import os

# One thread: small tensors gain nothing from two, and lose much when two tests share two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from msdsr.volume import VoxelSize, write_volume

settings.register_profile(
    "msdsr",
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("msdsr")


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def textured(rng):
    """Smooth bright blobs on a dark ground, uint16, (c, z, y, x)."""

    def make(shape=(2, 6, 64, 80)):
        from scipy.ndimage import gaussian_filter

        field = gaussian_filter(rng.standard_normal(shape), (0, 1.5, 3, 3))
        field = (field - field.min()) / np.ptp(field)
        return (field * 30000 + 1000).astype(np.uint16)

    return make


@pytest.fixture
def small_store(tmp_path, textured):
    """A store with 6 planes of 64 × 80, spacing 1 × 0.5 × 0.5 µm, channels CH2 and CH3."""
    path = tmp_path / "small.ome.zarr"
    write_volume(path, textured(), VoxelSize(1.0, 0.5, 0.5), ("CH2", "CH3"), name="small")
    return path
