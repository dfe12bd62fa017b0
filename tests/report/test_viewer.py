import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from msdsr.report.pages import csp_hash, page_names, script, script_json
from msdsr.report.sprites import make_sprites, quantise
from msdsr.report.viewer import (
    MOST_BYTES,
    Volumes,
    channel_windows,
    largest_side,
    slide_data,
    tissue_field,
)
from msdsr.volume import VoxelSize, open_volume, read_spec, write_volume
from msdsr.volume.colour import Window

WINDOW = Window((0, 1000, 2000), (9000, 30000, 31000))


def unpack(stack, channels, rows, columns):
    """Read sheets back, as the viewer does."""
    planes = np.zeros((channels, stack["planes"], rows, columns), np.uint8)
    for i, uri in enumerate(stack["sheets"]):
        kind, _, text = uri.partition(",")
        assert kind == "data:image/webp;base64"
        sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))
        for c in range(3 * i, min(channels, 3 * i + 3)):
            for z in range(stack["planes"]):
                y, x = divmod(z, stack["across"])
                at = np.s_[y * rows : (y + 1) * rows, x * columns : (x + 1) * columns, c - 3 * i]
                planes[c, z] = sheet[at]
    return planes


def volumes(slide, **changes):
    given = {
        "acquired": slide.acquired,
        "restored": slide.restored,
        "spread": slide.spread,
        "truth": slide.truth,
    }
    return Volumes(**given | changes)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_sheets_hold_every_voxel(rng, channels):
    levels = rng.integers(0, 256, (channels, 7, 5, 9), dtype=np.uint8)
    stack = make_sprites(levels).as_json()
    assert len(stack["sheets"]) == -(-channels // 3)
    np.testing.assert_array_equal(unpack(stack, channels, 5, 9), levels)


def test_no_voxels_take_more_room_than_themselves(rng):
    levels = rng.integers(0, 256, (2, 9, 64, 64), dtype=np.uint8)
    (sheet,) = make_sprites(levels).sheets
    assert len(sheet) < 1.03 * levels.size


def test_a_volume_too_big_for_a_sheet_is_refused():
    with pytest.raises(ValueError, match="do not fit"):
        make_sprites(np.zeros((1, 5000, 256, 256), np.uint8))


def test_intensities_are_right_to_half_a_step(rng):
    raw = rng.integers(0, 60000, (2, 3, 8, 8)).astype(np.uint16)
    low, high = np.array([1000.0, 0.0]), np.array([50000.0, 40000.0])
    levels = quantise(raw, low, high)
    for c in range(2):
        seen = low[c] + levels[c] / 255 * (high[c] - low[c])
        error = np.abs(seen - np.clip(raw[c], low[c], high[c]))
        assert error.max() <= (high[c] - low[c]) / 255 / 2 * 1.001


def test_json_cannot_end_its_script():
    hostile = {"</script><!--": "\u2028\u2029<script>&'\"]]>"}
    text = script_json(hostile)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == hostile


def test_pages_have_safe_names_and_no_two_the_same():
    slides = ["P05-S1", "p05-s1", "a/b", "a_b", "a.b", "..", "<script>\"'&", "x" * 200, "ä"]
    names = page_names(slides)
    assert names["P05-S1"] == "P05-S1.html"
    assert len({name.lower() for name in names.values()}) == len(slides)
    assert all(name.isascii() and "/" not in name and len(name) < 100 for name in names.values())


def test_our_script_is_named_by_its_hash():
    ours = script("index.js")
    assert csp_hash(ours).startswith("sha256-")
    assert csp_hash(ours) != csp_hash(ours + " ")


@pytest.mark.parametrize(
    ("channels", "low"),
    [
        (("CH2", "CH3"), [1000, 2000]),
        (("CH3", "CH2"), [2000, 1000]),
        (("DAPI",), [0]),
        (("a", "b"), [0, 1000]),
        (tuple("abcde"), [0, 1000, 2000, 2000, 2000]),
    ],
)
def test_each_channel_has_the_window_of_its_colour(channels, low):
    assert channel_windows(WINDOW, channels)[0] == low


def test_a_page_holds_each_volume_once_and_voxel_for_voxel(slide_of):
    slide = slide_of()
    data = slide_data(volumes(slide), WINDOW, 48)
    (factor,) = data["factors"]
    assert (data["rows"], data["columns"], factor["planes"], factor["keep"]) == (48, 48, 19, 1)
    assert (factor["z_um"], factor["truth_step"]) == (0.5, 1)
    assert [m["spread"] for m in factor["methods"]] == [None]
    low, high = (np.array([c[k] for c in data["channels"]]) for k in ("low", "high"))
    at = np.s_[:, :, data["y0"] : data["y0"] + 48, data["x0"] : data["x0"] + 48]
    for stack, path in (
        (data["acquired"], slide.acquired),
        (factor["methods"][0]["stack"], slide.restored[2]["msdsr"]),
        (data["truth"], slide.truth),
    ):
        expected = quantise(np.asarray(open_volume(path).data[at]), low, high)
        np.testing.assert_array_equal(unpack(stack, 2, 48, 48), expected)


def test_intensities_span_the_window_and_the_field(slide_of):
    data = slide_data(volumes(slide_of()), WINDOW, 64)
    for channel in data["channels"]:
        assert channel["low"] <= channel["black"] < channel["white"] <= channel["high"]


def test_the_truth_is_kept_as_deep_and_as_fine_as_it_is_shown(slide_of):
    slide = slide_of(factor=4)
    data = slide_data(volumes(slide), WINDOW, 32)
    assert data["factors"][0]["planes"] == 17
    assert data["truth"]["planes"] == 17
    assert slide_data(volumes(slide, truth=None), WINDOW, 32)["truth"] is None


def test_a_standard_deviation_is_shown_where_there_is_one(slide_of, tmp_path, rng):
    slide = slide_of()
    spread = np.abs(rng.normal(0, 300, (2, 19, 64, 80))).astype(np.float32)
    spread[1] = 0
    path = tmp_path / "msdsr_2x_std.ome.zarr"
    write_volume(path, spread, VoxelSize(0.5, 0.5, 0.5), ("CH2", "CH3"))
    data = slide_data(volumes(slide, spread={2: {"msdsr": path}}), WINDOW, 64)
    shown = data["factors"][0]["methods"][0]["spread"]
    levels = unpack(shown["stack"], 2, 64, 64)
    step = shown["high"][0] / 255
    field = spread[0, :, data["y0"] : data["y0"] + 64, data["x0"] : data["x0"] + 64]
    inside = field < shown["high"][0]
    assert inside.mean() > 0.998
    assert np.abs(levels[0] * step - field)[inside].max() <= step / 2 * 1.001
    assert levels[1].max() == 0


def test_what_the_page_computes_is_not_stored_again(slide_of):
    slide = slide_of()
    stored = {2: {"linear": slide.truth, "nearest": slide.truth, **slide.restored[2]}}
    data = slide_data(volumes(slide, restored=stored, spread=stored), WINDOW, 32)
    assert [m["name"] for m in data["factors"][0]["methods"]] == ["msdsr"]


def test_a_page_that_would_grow_too_big_gets_a_smaller_field():
    side = largest_side(1000, 8)
    assert 8000 * side**2 <= MOST_BYTES < 8000 * (side + 1) ** 2
    assert largest_side(10**9, 8) == 1


def test_the_field_is_found_on_a_coarse_level_and_stays_inside(tmp_path, rng):
    plane = np.full((1, 2, 640, 1200), 100, np.uint16)
    plane[..., 500:600, 1050:1150] = rng.integers(0, 60000, (2, 100, 100))
    path = tmp_path / "wide.ome.zarr"
    write_volume(path, plane, VoxelSize(1.0, 0.5, 0.5), ("DAPI",))
    field = tissue_field(path, read_spec(path), 160)
    assert field.shape == (2, 160, 160)
    assert field.y0 <= 500 < 600 <= field.y1 <= 640
    assert field.x0 <= 1050 < 1150 <= field.x1 <= 1200
    assert tissue_field(path, read_spec(path), 900).shape == (2, 640, 900)
