import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicHermiteSpline
from scipy.ndimage import correlate1d

from msdsr.volume.blur import gaussian3
from msdsr.volume.interpolate import cubic_weights, interpolate


@given(planes=st.integers(2, 9), factor=st.integers(2, 8), seed=st.integers(0, 99))
def test_cubic_is_the_hermite_spline_with_central_slopes(planes, factor, seed):
    values = np.random.default_rng(seed).normal(size=(2, planes, 3, 4))
    slopes = np.gradient(values, axis=1, edge_order=2 if planes > 2 else 1)
    spline = CubicHermiteSpline(np.arange(planes), values, slopes, axis=1)
    expected = spline(np.arange((planes - 1) * factor + 1) / factor)
    np.testing.assert_allclose(interpolate(values, factor, "cubic"), expected, atol=1e-6)
    single = interpolate(values.astype(np.float32), factor, "cubic")
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, atol=2e-5)


@given(
    method=st.sampled_from(["nearest", "linear", "cubic"]),
    planes=st.integers(2, 6),
    factor=st.integers(2, 8),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
)
def test_acquired_planes_stay_and_constants_stay_constant(method, planes, factor, dtype):
    rng = np.random.default_rng(planes)
    voxels = (rng.random((1, planes, 4, 3)) * 255).astype(dtype)
    filled = interpolate(voxels, factor, method)
    assert filled.dtype == dtype
    np.testing.assert_array_equal(filled[:, ::factor], voxels)
    flat = np.full_like(voxels, 7)
    np.testing.assert_allclose(interpolate(flat, factor, method), 7, rtol=1e-6)


@given(planes=st.integers(2, 8), factor=st.integers(2, 8), data=st.data())
def test_cubic_keeps_straight_lines_and_its_weights_add_to_one(planes, factor, data):
    low = data.draw(st.integers(0, planes - 2))
    t = data.draw(st.integers(0, factor - 1)) / factor
    weights = cubic_weights(low, t, planes)
    assert sum(weights.values()) == pytest.approx(1)
    assert sum(z * w for z, w in weights.items()) == pytest.approx(low + t)
    if planes > 2:  # and parabolas, with Keys' ends
        assert sum(z**2 * w for z, w in weights.items()) == pytest.approx((low + t) ** 2)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_overshoot_is_clipped_and_never_wrapped(dtype):
    top = np.iinfo(dtype).max
    step = np.array([0, 0, top, top], dtype).reshape(1, 4, 1, 1)
    filled = interpolate(step, 4, "cubic").ravel()
    np.testing.assert_array_equal(filled[:5], 0)  # a spline would go below
    np.testing.assert_array_equal(filled[8:], top)
    assert np.all(np.diff(filled.astype(int)) >= 0)


def test_an_unknown_part_of_a_unit_is_rounded_not_cut():
    pair = np.array([0, 255], np.uint8).reshape(1, 2, 1, 1)
    assert interpolate(pair, 3, "linear").ravel().tolist() == [0, 85, 170, 255]
    assert interpolate(pair, 2, "cubic").ravel().tolist() == [0, 128, 255]


@settings(max_examples=25)
@given(z=st.integers(1, 5), y=st.integers(1, 6), x=st.integers(1, 6), seed=st.integers(0, 9))
def test_the_blur_is_the_normalised_gaussian(z, y, x, seed):
    voxels = np.random.default_rng(seed).random((2, z, y, x)) * 1000
    taps = np.exp(-0.5 * (np.arange(-1, 2) / 0.5) ** 2)
    expected = voxels
    for axis in (1, 2, 3):
        expected = correlate1d(expected, taps / taps.sum(), axis, mode="nearest")
    np.testing.assert_allclose(gaussian3(voxels), expected, rtol=1e-5)


@given(cut=st.integers(1, 7), seed=st.integers(0, 9))
def test_a_block_with_its_halo_is_blurred_as_the_whole_is(cut, seed):
    voxels = np.random.default_rng(seed).integers(0, 60000, (1, 3, 4, 9), dtype=np.uint16)
    whole = gaussian3(voxels)
    left = gaussian3(voxels[..., : cut + 1])[..., :cut]
    right = gaussian3(voxels[..., cut - 1 :])[..., 1:]
    np.testing.assert_array_equal(np.concatenate([left, right], -1), whole)
