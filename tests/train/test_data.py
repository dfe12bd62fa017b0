import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import msdsr.train.data as data
from msdsr.config import ModelConfig
from msdsr.errors import UserError
from msdsr.train.data import Crops, CropSampler, as_stored, gather, load_images, open_trainset
from msdsr.train.distributed import Ranks
from msdsr.train.randomness import draw_batch, draw_noise
from msdsr.train.task import task_of

ALONE = Ranks(0, 1, torch.device("cpu"))


@given(
    st.integers(0, 3),
    st.integers(0, 7),
    st.integers(0, 5),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_a_gathered_crop_is_the_crop_turned_and_flipped(image, y, x, turned, flip_y, flip_x):
    images = np.random.default_rng(0).integers(0, 65536, (4, 2, 13, 11)).astype(np.uint16)
    one = [torch.tensor([int(v)]) for v in (image, y, x, turned, flip_y, flip_x)]
    found = gather(as_stored(images), Crops(*one), 6)[0].numpy()
    expected = images[image, :, y : y + 6, x : x + 6]
    expected = expected[:, ::-1] if flip_y else expected
    expected = expected[:, :, ::-1] if flip_x else expected
    expected = expected.transpose(0, 2, 1) if turned else expected
    np.testing.assert_array_equal(found, expected.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_stored_values_come_back(dtype):
    values = np.array([0, 1, 200, 255 if dtype == np.uint8 else 65535], dtype)
    stored = as_stored(values)
    np.testing.assert_array_equal(data.as_float(stored).numpy(), values.astype(np.float32))


def rows_of(*extents, slides=None):
    return pd.DataFrame(
        {
            "height": [h for h, _ in extents],
            "width": [w for _, w in extents],
            "slide": slides or [str(i) for i in range(len(extents))],
        }
    )


def test_crops_stay_inside_and_reach_every_corner():
    extents = [(16, 16), (17, 20), (40, 18)]
    crops = CropSampler(rows_of(*extents), 16).draw(20_000, torch.Generator().manual_seed(0))
    for number, (height, width) in enumerate(extents):
        mine = crops.image == number
        assert (int(crops.y[mine].min()), int(crops.y[mine].max())) == (0, height - 16)
        assert (int(crops.x[mine].min()), int(crops.x[mine].max())) == (0, width - 16)
    for flag in (crops.turned, crops.flip_y, crops.flip_x):
        assert float(flag.float().mean()) == pytest.approx(0.5, abs=0.02)


def test_balance_decides_the_shares():
    rows = rows_of((20, 20), (20, 20), (20, 40), slides=["a", "a", "b"])

    def shares(balance):
        crops = CropSampler(rows, 16, balance).draw(40_000, torch.Generator().manual_seed(1))
        return (torch.bincount(crops.image) / 40_000).tolist()

    assert shares("pixel") == pytest.approx([0.25, 0.25, 0.5], abs=0.01)
    rows.loc[2, "width"] = 20
    assert shares("pixel") == pytest.approx([1 / 3] * 3, abs=0.01)
    assert shares("slide") == pytest.approx([0.25, 0.25, 0.5], abs=0.01)


@pytest.mark.parametrize("balance", ["slide", "patient", "class"])
def test_every_group_gets_the_same_share_and_pixels_count_within(balance):
    rows = rows_of((16, 20), (16, 20), (32, 20), (16, 20), (48, 60), slides=list("aabbc"))
    rows["cohort"] = ["one", "one", "one", "two", "two"]
    rows["patient"] = ["p", "p", "q", "q", "r"]
    rows["class"] = ["tumor", "normal", "tumor", "", "normal"]
    key = {"slide": rows["cohort"] + rows["slide"]}.get(balance, rows[balance])
    groups = key.nunique()
    assert groups == {"slide": 4, "patient": 3, "class": 3}[balance]
    crops = CropSampler(rows, 16, balance).draw(60_000, torch.Generator().manual_seed(2))
    found = np.bincount(crops.image.numpy(), minlength=5) / 60_000
    area = (rows["height"] * rows["width"]).to_numpy(float)
    within = area / pd.Series(area).groupby(key).transform("sum").to_numpy()
    np.testing.assert_allclose(found, within / groups, atol=0.01)


def test_classes_cannot_be_balanced_where_there_are_none():
    rows = rows_of((20, 20))
    rows["class"] = ""
    with pytest.raises(UserError, match="class, but no image"):
        CropSampler(rows, 16, "class")


def test_images_on_the_disk_are_those_in_memory(trainset, tmp_path, monkeypatch):
    opened = open_trainset(trainset)
    rows = opened.rows("train", 16)
    cache = tmp_path / "images.raw"
    resident = load_images(opened, rows, ALONE, cache)
    assert not cache.exists()
    monkeypatch.setattr(data, "RESIDENT_FRACTION", 0.0)
    monkeypatch.setattr(data, "BLOCK_BYTES", 3 * 40 * 40 * 2 * 2)
    mapped = load_images(opened, rows, ALONE, cache)
    assert cache.exists()
    assert torch.equal(resident, mapped)
    again = load_images(opened, rows, ALONE, cache)
    assert torch.equal(resident, again)


def test_small_images_are_not_drawn_from(trainset):
    opened = open_trainset(trainset)
    assert set(opened.rows("train", 16)["slide"]) == {"a", "b"}
    assert set(opened.rows("train", 30)["slide"]) == {"a"}


def test_a_batch_is_a_function_of_seed_and_images_seen(trainset):
    opened = open_trainset(trainset)
    sampler = CropSampler(opened.rows("train", 16), 16)
    task = task_of(ModelConfig(cohorts=["any"]))

    def draw(seed, images):
        found = draw_batch(seed, images, 8, sampler, task)
        noise = draw_noise(seed, images, (8, 2, 16, 16), torch.device("cpu"))
        return torch.cat([found.t, found.crops.x, found.observed.flatten(), noise.flatten()])

    assert torch.equal(draw(1, 80), draw(1, 80))
    assert not torch.equal(draw(1, 80), draw(1, 88))
    assert not torch.equal(draw(1, 80), draw(2, 80))


def test_a_store_that_is_no_training_set_is_refused(trainset, tmp_path):
    with pytest.raises(UserError, match="no such file"):
        open_trainset(tmp_path / "none.zarr")
    copy = tmp_path / "trainset.zarr"
    copy.symlink_to(trainset)
    trainset.with_suffix(".json").read_bytes()
    (tmp_path / "trainset.json").write_bytes(trainset.with_suffix(".json").read_bytes())
    pd.read_parquet(trainset.with_suffix(".parquet")).iloc[1:].to_parquet(
        tmp_path / "trainset.parquet"
    )
    with pytest.raises(UserError, match="disagree"):
        open_trainset(copy)
