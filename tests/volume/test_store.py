import json
import warnings

import numpy as np
import pytest
import yaozarrs
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from ome_zarr_models.v05 import Image

from msdsr.errors import UserError
from msdsr.volume import (
    Region,
    VolumeSpec,
    VoxelSize,
    create_store,
    open_volume,
    read_spec,
    write_volume,
)

SRH = VoxelSize(1.0, 0.5, 0.5)


@settings(max_examples=15)
@given(
    c=st.integers(1, 5), z=st.integers(1, 70), y=st.integers(1, 90), x=st.integers(1, 90),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]), shard_mb=st.sampled_from([0.001, 50.0]),
)  # fmt: skip
def test_voxels_and_metadata_come_back(tmp_path_factory, c, z, y, x, dtype, shard_mb):
    rng = np.random.default_rng(c * z + y)
    voxels = (rng.random((c, z, y, x)) * 200).astype(dtype)
    path = tmp_path_factory.mktemp("store") / "v.ome.zarr"
    names = [f"ch {i}" for i in range(c)]
    write_volume(path, voxels, SRH, names, name="v", chunk_yx=32, shard_mb=shard_mb,
                 provenance={"stage": "test"})  # fmt: skip
    volume = open_volume(path)
    np.testing.assert_array_equal(volume.values, voxels)
    assert volume.dtype == dtype
    assert list(volume.c.values) == names
    np.testing.assert_allclose(volume.z.values, np.arange(z) * 1.0)
    np.testing.assert_allclose(volume.x.values, np.arange(x) * 0.5)
    assert volume.attrs["msdsr"] == {"stage": "test"}
    assert read_spec(path).voxel == SRH


def test_two_validators_agree_and_levels_are_half_a_pixel_right(tmp_path, textured):
    path = tmp_path / "v.ome.zarr"
    voxels = textured((2, 8, 600, 700))
    write_volume(path, voxels, SRH, ("CH2", "CH3"), name="v")
    image = Image.from_zarr(zarr.open_group(path, mode="r"))
    assert len(image.ome_attributes.multiscales[0].datasets) == 3
    yaozarrs.validate_zarr_store(str(path))
    ome = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]
    assert ome["version"] == "0.5"
    assert [a.get("unit") for a in ome["multiscales"][0]["axes"]] == [None] + ["micrometer"] * 3
    ground = open_volume(path, 0)
    for level in (1, 2):
        coarse = open_volume(path, level)
        step = 2**level
        # The centre of a coarse voxel is the mean of the centres it covers, on every axis.
        for axis in "zyx":
            fine = ground[axis].values
            span = round(len(fine) / len(coarse[axis]))
            centres = fine[: len(coarse[axis]) * span].reshape(-1, span).mean(axis=1)
            np.testing.assert_allclose(coarse[axis].values, centres)
        assert coarse.shape[-1] == 700 // step
    # z is 1 µm against 0.5 µm: it is left alone until Y and X are as coarse.
    assert open_volume(path, 1).shape[1] == 8
    assert open_volume(path, 2).shape[1] == 4


def test_pyramid_is_the_mean(tmp_path):
    voxels = np.arange(2 * 512 * 512, dtype=np.uint16).reshape(1, 2, 512, 512)
    path = tmp_path / "v.ome.zarr"
    write_volume(path, voxels, SRH, ["a"], shard_mb=0.1, chunk_yx=64)
    expected = np.rint(voxels.reshape(1, 2, 256, 2, 256, 2).mean(axis=(3, 5)))
    np.testing.assert_array_equal(open_volume(path, 1).values, expected)


def test_arrays_are_sharded_with_names(tmp_path, textured):
    path = tmp_path / "v.ome.zarr"
    write_volume(path, textured((2, 6, 128, 128)), SRH, ("a", "b"), chunk_yx=32, shard_mb=0.05)
    array = zarr.open_group(path, mode="r")["0"]
    assert array.shards[1] >= 6
    assert array.chunks == (1, 6, 32, 32)
    assert array.metadata.dimension_names == ("c", "z", "y", "x")


def test_two_writers_in_one_shard_are_refused(tmp_path):
    spec = VolumeSpec((1, 4, 64, 64), np.dtype("uint16"), SRH, ("a",))
    writer = create_store(tmp_path / "v.ome.zarr", spec, chunk_yx=16, shard_mb=0.009)
    shards = list(writer.grid)
    assert len(shards) > 1
    half = Region(0, 4, 0, 16, 0, 16)
    assert not writer.grid.owns(half)
    with pytest.raises(ValueError, match="whole shards"):
        writer.write(half, np.ones((1, 4, 16, 16), np.uint16))
    for shard in shards:
        writer.write(shard, np.ones((1, *shard.shape), np.uint16))
    assert int(zarr.open_group(writer.path)["0"][:].sum()) == 4 * 64 * 64


def test_writers_of_different_shards_lose_nothing(tmp_path):
    """The case that lost 75 % of the voxels, with the unit of writing that does not."""
    from concurrent.futures import ThreadPoolExecutor

    spec = VolumeSpec((1, 8, 256, 256), np.dtype("uint16"), SRH, ("a",))
    writer = create_store(tmp_path / "v.ome.zarr", spec, chunk_yx=16, shard_mb=0.02)
    assert len(writer.grid) >= 16

    def fill(region):
        create_store(writer.path, spec, chunk_yx=16, shard_mb=0.02, resume=True).write(
            region, np.full((1, *region.shape), 9, np.uint16)
        )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(fill, writer.grid))
    assert (np.asarray(zarr.open_group(writer.path)["0"][:]) == 9).all()


def test_wrong_voxels_are_refused(tmp_path):
    spec = VolumeSpec((1, 2, 8, 8), np.dtype("uint16"), SRH, ("a",))
    writer = create_store(tmp_path / "v.ome.zarr", spec)
    region = next(iter(writer.grid))
    with pytest.raises(ValueError, match="float64 voxels"):
        writer.write(region, np.zeros((1, 2, 8, 8)))
    with pytest.raises(ValueError, match="do not fit"):
        writer.write(region, np.zeros((1, 2, 8, 7), np.uint16))


def test_bad_stores_are_told_in_one_line(tmp_path, textured):
    with pytest.raises(UserError, match="not a Zarr store"):
        open_volume(tmp_path / "none.ome.zarr")
    zarr.create_group(tmp_path / "empty.zarr")
    with pytest.raises(UserError, match="no OME-Zarr multiscales"):
        open_volume(tmp_path / "empty.zarr")
    with pytest.raises(UserError, match="one name a channel"):
        write_volume(tmp_path / "x.zarr", textured(), SRH, ["only one"])
    with pytest.raises(UserError, match="dtype int64"):
        write_volume(tmp_path / "x.zarr", np.zeros((1, 1, 2, 2), np.int64), SRH, ["a"])


def test_a_store_that_is_there_is_replaced_whole(tmp_path, textured):
    path = tmp_path / "v.ome.zarr"
    write_volume(path, textured((1, 2, 64, 64)), SRH, ["a"])
    write_volume(path, np.zeros((1, 3, 16, 16), np.uint8), SRH, ["a"])
    assert open_volume(path).shape == (1, 3, 16, 16)
    assert [p.name for p in tmp_path.iterdir()] == ["v.ome.zarr"]


def test_snakemakes_time_stamp_does_no_harm(small_store):
    (small_store / ".snakemake_timestamp").touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_volume(small_store).values  # noqa: B018
