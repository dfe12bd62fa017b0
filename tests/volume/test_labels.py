import json

import numpy as np
import pytest
import yaozarrs
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from ome_zarr_models.v05 import Image
from ome_zarr_models.v05.labels import Labels

from msdsr.volume import VoxelSize, read_spec, write_volume
from msdsr.volume.labels import Label, Value, read_label, write_labels

SRH = VoxelSize(0.5, 0.5, 0.5)
VALUES = (Value(1, "one", (0, 255, 0, 255)), Value(2, "two", (255, 0, 0, 255)))


def label_of(field, name="origin"):
    return Label(name, VALUES, lambda region: field[region.slices])


@pytest.fixture
def store(tmp_path, textured):
    path = tmp_path / "v.ome.zarr"
    write_volume(path, textured((2, 5, 600, 530)), SRH, ("CH2", "CH3"), name="v")
    return path


def test_two_validators_accept_the_store_with_its_labels(store, rng):
    field = rng.integers(1, 3, (5, 600, 530)).astype(np.uint8)
    write_labels(store, read_spec(store), [label_of(field), label_of(field, "other")])
    Image.from_zarr(zarr.open_group(store, mode="r"))
    labels = Labels.from_zarr(zarr.open_group(store / "labels", mode="r"))
    assert labels.label_paths == ["origin", "other"]
    yaozarrs.validate_zarr_store(str(store))
    yaozarrs.validate_zarr_store(str(store / "labels"))
    yaozarrs.validate_zarr_store(str(store / "labels/origin"))
    ome = json.loads((store / "labels/origin/zarr.json").read_text())["attributes"]["ome"]
    assert ome["image-label"]["properties"][1] == {"label-value": 2, "meaning": "two"}
    assert ome["image-label"]["source"] == {"image": "../../"}
    image = json.loads((store / "zarr.json").read_text())["attributes"]["ome"]
    whole, flat = image["multiscales"][0]["datasets"], ome["multiscales"][0]["datasets"]
    assert len(flat) == len(whole) > 1
    for with_channels, without in zip(whole, flat, strict=True):
        for a, b in zip(
            with_channels["coordinateTransformations"],
            without["coordinateTransformations"],
            strict=True,
        ):
            assert a[a["type"]][1:] == b[b["type"]]


def test_coarse_levels_keep_the_greatest_value_and_have_the_volumes_shape(store, rng):
    field = rng.integers(1, 3, (5, 600, 530)).astype(np.uint8)
    write_labels(store, read_spec(store), [label_of(field)])
    np.testing.assert_array_equal(read_label(store, "origin"), field)
    group = zarr.open_group(store, mode="r")
    fine = field[:4, :600, :528]
    expected = fine.reshape(2, 2, 300, 2, 264, 2).max(axis=(1, 3, 5))
    found = read_label(store, "origin", 1)
    assert found.shape == group["1"].shape[1:]
    np.testing.assert_array_equal(found[:, :, :264], expected)


def test_written_again_they_are_replaced(store):
    first = np.full((5, 600, 530), 2, np.uint8)
    write_labels(store, read_spec(store), [label_of(first, "old")])
    write_labels(store, read_spec(store), [label_of(first - 1)])
    assert not (store / "labels/old").exists()
    assert read_label(store, "origin").max() == 1


@settings(max_examples=8)
@given(z=st.integers(1, 9), y=st.integers(1, 300), x=st.integers(1, 300), seed=st.integers(0, 9))
def test_labels_of_any_shape_come_back(tmp_path_factory, z, y, x, seed):
    field = np.random.default_rng(seed).integers(0, 4, (z, y, x)).astype(np.uint8)
    path = tmp_path_factory.mktemp("store") / "v.ome.zarr"
    write_volume(path, np.zeros((1, z, y, x), np.uint8), SRH, ("a",), chunk_yx=32)
    write_labels(path, read_spec(path), [label_of(field)])
    np.testing.assert_array_equal(read_label(path, "origin"), field)


def test_planes_that_do_not_vary_take_next_to_no_room(store):
    field = np.broadcast_to(np.array([1, 2, 1, 2, 1], np.uint8)[:, None, None], (5, 600, 530))
    write_labels(store, read_spec(store), [label_of(field)])
    size = sum(f.stat().st_size for f in (store / "labels").rglob("*") if f.is_file())
    assert size < 0.02 * field.size
