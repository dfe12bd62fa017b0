import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msdsr.errors import UserError
from msdsr.volume import (
    ShardGrid,
    VoxelSize,
    acquired_rows,
    auto_factor,
    distance_to_acquired,
    keep_every,
    output_planes,
)
from msdsr.volume.interpolate import interpolate

sizes = st.tuples(
    st.integers(1, 4), st.integers(1, 150), st.integers(1, 3000), st.integers(1, 3000)
)


@given(shape=sizes, itemsize=st.sampled_from([1, 2, 4]), mb=st.floats(0.1, 300))
def test_shards_tile_the_volume_exactly_once(shape, itemsize, mb):
    grid = ShardGrid.plan(shape, itemsize, 256, mb)
    voxels = sum(int(np.prod(region.shape)) for region in grid)
    assert voxels == int(np.prod(shape[1:]))
    assert len({region.key for region in grid}) == len(grid) == len(list(grid))
    assert all(grid.owns(region) for region in grid)
    assert all(s % c == 0 for s, c in zip(grid.shard, grid.chunk, strict=True))
    assert grid.shard[0] == shape[0]
    assert grid.shard[1] >= shape[1]


@given(shape=sizes, side=st.integers(1, 3000))
def test_blocks_are_whole_shards_and_tile_the_volume(shape, side):
    grid = ShardGrid.plan(shape, 2, 64, 1.0)
    blocks = list(grid.blocks(side))
    assert all(grid.owns(block) for block in blocks)
    assert sum(int(np.prod(block.shape)) for block in blocks) == int(np.prod(shape[1:]))


def test_a_part_of_a_shard_is_not_owned():
    grid = ShardGrid.plan((1, 4, 512, 512), 2, 128, 0.3)
    region = next(iter(grid))
    assert grid.owns(region)
    part = type(region)(region.z0, region.z1, region.y0, region.y1 - 1, region.x0, region.x1)
    assert not grid.owns(part)


@given(
    y0=st.integers(0, 50), x0=st.integers(0, 50), h=st.integers(1, 50), w=st.integers(1, 50),
    halo=st.integers(0, 30),
)  # fmt: skip
def test_halo_keeps_the_region_inside(y0, x0, h, w, halo):
    from msdsr.volume import Region

    region = Region(0, 3, y0, y0 + h, x0, x0 + w)
    outer = region.with_halo(halo, 100, 100)
    field = np.arange(3 * 100 * 100).reshape(3, 100, 100)
    np.testing.assert_array_equal(field[outer.slices][region.inside(outer)], field[region.slices])


def test_factors_follow_the_paper():
    srh = VoxelSize(1.0, 0.5, 0.5)
    assert [keep_every(f, srh) for f in (2, 4, 8)] == [1, 2, 4]
    assert keep_every(3, srh) == 1
    assert keep_every(4, VoxelSize(2.0, 0.5, 0.5)) == 1
    assert output_planes(20, 2) == 39
    np.testing.assert_array_equal(acquired_rows(4, 3), [0, 3, 6, 9])


@pytest.mark.parametrize("bad", [0.0, -1.0, float("inf"), float("nan")])
def test_voxel_size_above_zero(bad):
    with pytest.raises(ValueError, match="above 0"):
        VoxelSize(bad, 1, 1)


@given(
    planes=st.integers(2, 6), factor=st.integers(1, 8),
    method=st.sampled_from(["nearest", "linear"]),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32]), seed=st.integers(0, 99),
)  # fmt: skip
def test_interpolation_keeps_acquired_planes_bit_for_bit(planes, factor, method, dtype, seed):
    rng = np.random.default_rng(seed)
    acquired = (rng.random((2, planes, 5, 7)) * 255).astype(dtype)
    out = interpolate(acquired, factor, method)
    assert out.shape[1] == output_planes(planes, factor)
    assert out.dtype == dtype
    np.testing.assert_array_equal(out[:, acquired_rows(planes, factor)], acquired)
    assert out.min() >= acquired.min()
    assert out.max() <= acquired.max()


def test_linear_is_row_aligned():
    ramp = np.arange(5, dtype=np.float32).reshape(1, 5, 1, 1) * 8
    np.testing.assert_allclose(interpolate(ramp, 8, "linear").ravel(), np.arange(33))


@given(planes=st.integers(2, 6), factor=st.integers(1, 8))
def test_distance_counts_planes_to_the_nearest_acquired_one(planes, factor):
    rows = acquired_rows(planes, factor)
    z = np.arange(output_planes(planes, factor))
    nearest = np.abs(z[:, None] - rows).min(axis=1)
    np.testing.assert_array_equal(distance_to_acquired(planes, factor), nearest)


@pytest.mark.parametrize(
    ("voxel", "factor"),
    [((1.0, 0.5, 0.5), 2), ((3.1, 0.7, 0.8), 4), ((2.2, 0.9, 0.9), 2), ((4.2, 0.5, 0.5), 8)],
)
def test_the_automatic_factor_is_the_nearest_whole_one(voxel, factor):
    assert auto_factor(VoxelSize(*voxel)) == factor


@pytest.mark.parametrize("z", [0.6, 4.3])
def test_no_automatic_factor_below_2_or_above_8(z):
    with pytest.raises(UserError, match=r"here: factor `auto`, but planes are [0-9.]+ times"):
        auto_factor(VoxelSize(z, 0.5, 0.5), "here")
