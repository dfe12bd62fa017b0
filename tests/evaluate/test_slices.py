import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msdsr.evaluate.slices import PLANES, picture, spread_crops
from msdsr.volume import Region
from msdsr.volume.tissue import tissue_mask


@given(
    st.sampled_from(PLANES),
    st.tuples(*[st.integers(8, 60)] * 3),
    st.integers(1, 50),
    st.integers(0, 10**6),
)
def test_crops_are_different_squares_inside_the_volume(plane, shape, count, seed):
    crops = spread_crops(plane, shape, 8, count, seed=seed)
    thin = PLANES.index(plane)
    for crop in crops:
        assert crop.shape == tuple(1 if axis == thin else 8 for axis in range(3))
        assert all(s.start >= 0 and s.stop <= n for s, n in zip(crop.slices, shape, strict=True))
    assert len(set(crops)) == len(crops) <= count
    assert crops == spread_crops(plane, shape, 8, count, seed=seed)


def test_crops_spread_evenly_over_all_three_axes():
    crops = spread_crops("XY", (40, 500, 700), 20, 400, seed=1)
    assert len(crops) == 400
    for axis, room in enumerate((40, 481, 681)):
        starts = [crop.slices[axis].start / room for crop in crops]
        counts, _ = np.histogram(starts, bins=8, range=(0, 1))
        assert counts.min() > 0.8 * 50
        assert counts.max() < 1.2 * 50


def test_all_places_of_a_small_volume_are_found():
    assert len(spread_crops("XZ", (8, 5, 8), 8, 100, seed=0)) == 5


def test_a_volume_smaller_than_a_crop_has_none():
    assert spread_crops("XZ", (7, 50, 50), 8, 10, seed=0) == []


def test_slides_differ_in_their_places_and_methods_do_not():
    a, b = (spread_crops("XY", (9, 99, 99), 8, 5, seed=0, name=n) for n in ("a", "b"))
    assert a != b


def test_crops_are_cut_from_tissue(tmp_path):
    pd.DataFrame(
        {"y0": [0, 0], "x0": [0, 50], "height": 40, "width": 50, "background": [True, False]}
    ).to_parquet(tmp_path / "patches.parquet")
    mask = tissue_mask(tmp_path / "patches.parquet", (40, 100))
    assert mask.sum() == 40 * 50
    crops = spread_crops("XY", (3, 40, 100), 10, 50, seed=2, tissue=mask)
    assert len(crops) == 50
    assert all(crop.x0 + 5 >= 50 for crop in crops)
    assert spread_crops("YZ", (30, 40, 100), 10, 50, seed=2, tissue=~mask | mask)
    assert spread_crops("YZ", (30, 40, 100), 10, 5, seed=2, tissue=np.zeros_like(mask)) == []


@pytest.mark.parametrize(
    ("plane", "shape"), [("XY", (2, 4, 5)), ("XZ", (2, 3, 5)), ("YZ", (2, 3, 4))]
)
def test_a_picture_keeps_the_axes_of_its_plane(plane, shape):
    voxels = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    box = {
        "XY": Region(1, 2, 0, 4, 0, 5),
        "XZ": Region(0, 3, 2, 3, 0, 5),
        "YZ": Region(0, 3, 0, 4, 4, 5),
    }
    cut = voxels[(slice(None), *box[plane].slices)]
    assert picture(cut, plane).shape == shape
