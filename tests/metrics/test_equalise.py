import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from msdsr.metrics.equalise import equalise, without_border


def written_out(colour, levels):
    """The published mapping, pixel by pixel."""
    low, high = float(colour.min()), float(colour.max())
    width = (high - low) / levels
    counts = [0] * levels
    for v in colour.ravel():
        counts[min(int((float(v) - low) / width), levels - 1)] += 1
    counts[0] = 0
    height = np.cumsum(counts)
    target = [(levels - 1) * h / height[-1] for h in height]
    result = []
    for v in colour.ravel():
        place = (float(v) - low) / width
        left = min(int(place), levels - 1)
        right = min(left + 1, levels - 1)
        result.append(int(target[left] + (place - left) * (target[right] - target[left]) + 1e-9))
    return np.array(result).reshape(colour.shape)


def test_it_is_the_published_mapping_to_181_and_256_levels(rng):
    # Whole multiples of the bin widths, so that no pixel lies on an edge but by intent.
    patch = np.stack([rng.integers(0, 181 * 8 + 1, (24, 24)) / 8, *rng.random((2, 24, 24))])
    patch[0, 0, :2] = 0, 181
    found = equalise(patch)
    assert found.dtype == np.uint8
    for colour, levels, mine in zip(patch, (181, 256, 256), found, strict=True):
        difference = np.abs(mine.astype(int) - written_out(colour, levels))
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.01
    assert found[0].max() == 180
    assert (found[1:].max(axis=(1, 2)) == 255).all()


@given(
    arrays(np.uint16, (3, 6, 7), elements=st.integers(0, 4000)),
    st.sampled_from([2.0, 8.0, 0.25]),
    st.integers(0, 4000),
)
def test_it_is_blind_to_scale_and_offset_and_keeps_the_order(patch, scale, offset):
    found = equalise(patch.astype(np.float64))
    flat = patch.max(axis=(1, 2)) == patch.min(axis=(1, 2))
    other = equalise(patch * scale + offset)
    difference = np.abs(found[~flat].astype(int) - other[~flat])
    assert difference.max(initial=0) <= 1  # an edge may fall to the other side by rounding
    for colour, mine in zip(patch, found, strict=True):
        order = np.argsort(colour, axis=None, kind="stable")
        assert (np.diff(mine.ravel()[order].astype(int)) >= 0).all()


def test_the_darkest_pixels_do_not_count(rng):
    """Half of a patch is background: the levels are shared by the rest alone."""
    patch = np.zeros((3, 20, 20))
    patch[:, 10:] = rng.random((3, 10, 20)) * 0.9 + 0.1
    found = equalise(patch)
    assert (found[:, :10] == 0).all()
    assert found[1, 10:].mean() == pytest.approx(127, abs=6)


def test_a_patch_without_contrast_is_no_division_by_zero():
    assert (equalise(np.full((3, 5, 5), 7.0))[1:] == 255).all()


def test_the_border_is_cut_off_all_three_axes():
    volume = np.arange(2 * 48 * 48 * 48, dtype=np.uint32).reshape(2, 48, 48, 48)
    inner = without_border(volume)
    assert inner.shape == (2, 40, 40, 40)
    assert inner[1, 0, 0, 0] == volume[1, 4, 4, 4]
    assert inner[1, -1, -1, -1] == volume[1, 43, 43, 43]
    assert without_border(volume, 0).shape == volume.shape
    with pytest.raises(ValueError, match="nothing is left"):
        without_border(volume[:, :8])
