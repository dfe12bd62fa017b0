import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msdsr.evaluate import sources
from msdsr.evaluate.sources import Interpolated, Stored
from msdsr.volume import Region
from msdsr.volume.interpolate import interpolate


@given(
    st.sampled_from(["nearest", "linear", "cubic"]),
    st.integers(2, 5),
    st.integers(2, 6),
    st.data(),
)
def test_any_region_equals_the_whole_interpolated(method, factor, planes, data):
    voxels = np.random.default_rng(planes).integers(0, 60000, (2, planes, 6, 7), dtype=np.uint16)
    source = Interpolated(Stored(voxels), factor, method)
    whole = interpolate(voxels, factor, method)
    assert source.shape_zyx == whole.shape[1:]
    z0 = data.draw(st.integers(0, whole.shape[1] - 1))
    z1 = data.draw(st.integers(z0 + 1, whole.shape[1]))
    region = Region(z0, z1, 1, 5, 2, 7)
    np.testing.assert_array_equal(source.read(region), whole[:, z0:z1, 1:5, 2:7])


@pytest.mark.parametrize("limit", [10, 10**9])
def test_large_and_small_volumes_read_alike(monkeypatch, rng, limit):
    monkeypatch.setattr(sources, "IN_MEMORY_BYTES", limit)
    voxels = rng.integers(0, 255, (1, 5, 8, 9), dtype=np.uint8)
    source = Stored(da.from_array(voxels, chunks=(1, 2, 4, 4)))
    found = source.read(Region(1, 4, 2, 8, 0, 3))
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, voxels[:, 1:4, 2:8, :3])
