import io

import numpy as np
import pytest
from PIL import Image

from msdsr.report.pictures import busiest_field, choose, draw_plate, scale_bar
from msdsr.volume import open_volume
from msdsr.volume.colour import Window, to_rgb8

WINDOW = Window((0, 1000, 1000), (9000, 30000, 30000))


@pytest.mark.parametrize(("width", "bar"), [(64.0, 20), (40.0, 10), (1.0, 1), (1e5, 500)])
def test_a_scale_bar_is_round_and_at_most_a_third(width, bar):
    assert scale_bar(width) == bar


def test_the_field_is_where_the_contrast_is(rng):
    plane = np.zeros((100, 140))
    plane[60:90, 100:130] = rng.random((30, 30))
    assert busiest_field(plane, 40) == (60, 100, 100, 140)
    assert busiest_field(plane, 500) == (0, 100, 0, 140)


def test_every_method_shows_the_same_place(slide_of):
    slide = slide_of()
    plate = draw_plate(slide.acquired, slide.restored[2], slide.truth, 2, WINDOW, "s1")
    assert plate.columns == ("acquired planes, repeated", "linear", "msdsr", "truth")
    assert [view.plane for view in plate.views] == ["XY", "XZ", "YZ"]
    shapes = [view.pictures[0].rgb.shape for view in plate.views]
    assert shapes == [(64, 80, 3), (19, 80, 3), (19, 64, 3)]
    truth = open_volume(slide.truth).data.compute()
    xz = plate.views[1].pictures[3].rgb
    expected = np.moveaxis(to_rgb8(truth[:, :, 32], ("CH2", "CH3"), WINDOW), 0, -1)
    np.testing.assert_array_equal(xz, expected)
    np.testing.assert_array_equal(plate.views[1].pictures[1].rgb[::2], xz[::2])
    assert not np.array_equal(plate.views[0].pictures[0].rgb, plate.views[0].pictures[3].rgb)


def test_pictures_are_exact_and_have_a_text(slide_of):
    slide = slide_of()
    plate = draw_plate(slide.acquired, slide.restored[2], None, 2, WINDOW, "s1")
    picture = plate.views[1].pictures[2]
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(picture.webp()))), picture.rgb)
    assert picture.alt == "Slide s1, 2×, XZ, through y = 16.0 µm: msdsr"
    assert plate.views[1].aspect == pytest.approx(80 / 19)
    assert plate.views[1].bar_part == pytest.approx(10 / 40)


def test_at_4x_every_second_plane_is_the_input(slide_of):
    slide = slide_of(factor=4)
    plate = draw_plate(slide.acquired, slide.restored[4], slide.truth, 4, WINDOW, "s1")
    assert {p.rgb.shape[0] for p in plate.views[1].pictures} == {17}
    assert plate.views[0].caption.startswith("XY, generated plane")


@pytest.mark.parametrize(
    ("count", "most", "expected"), [(3, 5, [0, 1, 2]), (9, 3, [0, 4, 8]), (4, 0, []), (5, 1, [0])]
)
def test_slides_are_chosen_evenly(count, most, expected):
    assert choose(["s"] * count, most) == expected
