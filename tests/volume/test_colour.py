import numpy as np
import pytest
import torch

from msdsr.diffusion.transform import CH1_OFFSET, unit_transform
from msdsr.volume.colour import (
    EOSIN,
    HAEMATOXYLIN,
    SRH_OFFSET,
    STAIN_DEPTH,
    Window,
    colours,
    full_scale,
    to_rgb8,
    virtual_he,
)


def test_srh_has_its_derived_red_whatever_the_order_of_channels():
    raw = np.array([[[1000]], [[3000]]], np.uint16)
    expected = [3000 - 1000 + 5000, 1000, 3000]
    assert colours(raw, ("CH2", "CH3"))[:, 0, 0].tolist() == expected
    assert colours(raw[::-1], ("CH3", "CH2"))[:, 0, 0].tolist() == expected


def test_the_derived_red_does_not_go_below_zero():
    raw = np.array([[40000], [100]], np.uint16)
    assert colours(raw, ("CH2", "CH3"))[0, 0] == 0


@pytest.mark.parametrize(("dtype", "expected"), [("uint8", 256), ("uint16", 65536), ("float32", 1)])
def test_full_scale(dtype, expected):
    assert full_scale(dtype) == expected


@pytest.mark.parametrize(
    ("count", "order"), [(1, [0, 0, 0]), (2, [0, 1, 0]), (3, [0, 1, 2]), (6, [0, 1, 2])]
)
def test_other_channels(count, order):
    raw = np.arange(count, dtype=np.uint16)[:, None] * 10
    names = [f"C{i}" for i in range(count)]
    assert colours(raw, names)[:, 0].tolist() == [i * 10 for i in order]


def test_what_lies_outside_the_window_is_clipped_and_never_wraps():
    window = Window((100, 100, 100), (300, 300, 300))
    raw = np.array([[0, 100, 200, 300, 65535]], np.uint16)
    assert to_rgb8(raw, ("DAPI",), window)[0].tolist() == [0, 0, 128, 255, 255]


def test_a_window_is_set_at_quantiles_and_a_flat_colour_is_black(rng):
    values = rng.random((3, 50, 40)).astype(np.float32)
    values[2] = 7
    window = Window.from_quantiles(values, 0.1, 0.9)
    assert window.low[0] == pytest.approx(np.quantile(values[0], 0.1))
    assert window.high[1] == pytest.approx(np.quantile(values[1], 0.9))
    assert to_rgb8(values, ("r", "g", "b"), window)[2].max() == 0


SEEN = Window((5000, 0, 0), (9000, 1000, 1000))


def srh(ch2, ch3):
    return np.array([[ch2], [ch3]], np.uint16)


def test_h_and_e_is_white_without_signal_and_pink_or_purple_with_it():
    none = virtual_he(srh(0, 0), ("CH2", "CH3"), SEEN)[:, 0]
    lipid = virtual_he(srh(1000, 1000), ("CH2", "CH3"), SEEN)[:, 0].astype(int)
    nucleus = virtual_he(srh(0, 4000), ("CH2", "CH3"), SEEN)[:, 0].astype(int)
    assert none.tolist() == [255, 255, 255]
    assert min(lipid[0], lipid[2]) > 220 > 150 > lipid[1]
    assert nucleus[2] > nucleus[0] > nucleus[1]
    assert nucleus.max() < 135


def test_h_and_e_absorbs_as_the_stains_that_scikit_image_knows():
    from skimage.color import rgb_from_hed

    assert tuple(map(tuple, rgb_from_hed[:2].tolist())) == (HAEMATOXYLIN, EOSIN)
    both = virtual_he(srh(500, 2500), ("CH3", "CH2")[::-1], SEEN)[:, 0]
    density = 0.5 * (STAIN_DEPTH[0] * rgb_from_hed[0] + STAIN_DEPTH[1] * rgb_from_hed[1])
    assert both.tolist() == np.rint(255 * np.exp(-density)).tolist()


def test_h_and_e_is_for_srh_alone():
    with pytest.raises(ValueError, match="DAPI"):
        virtual_he(np.zeros((2, 1)), ("DAPI", "CH3"), SEEN)


@pytest.mark.parametrize("channels", [("CH2", "CH3"), ("CH3", "CH2")])
def test_the_derived_channel_is_the_one_the_published_network_sees(channels):
    """A model without CH1 loses nothing: it is had from CH2 and CH3 where it is shown."""
    raw = np.random.default_rng(4).integers(0, 65536, (2, 50, 50)).astype(np.uint16)
    shown = colours(raw, channels)[0] / 65536
    seen = unit_transform(channels, derive_ch1=True).forward(torch.from_numpy(raw)[None])[0, 0]
    np.testing.assert_allclose(shown.clip(0, 1), seen.numpy(), atol=1e-6)
    assert SRH_OFFSET == CH1_OFFSET
