import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from msdsr.superresolve.tiles import (
    Tiling,
    blending,
    layout,
    raised_cosine,
    windows,
    windows_inside,
)
from msdsr.volume import Region


@given(size=st.integers(1, 64), extra=st.integers(0, 300), stride=st.integers(1, 64))
def test_windows_cover_the_axis(size, extra, stride):
    stride = min(stride, size)
    starts = windows(size + extra, size, stride)
    covered = np.zeros(size + extra, bool)
    for start in starts:
        covered[start : start + size] = True
    assert covered.all()
    assert starts[0] == 0
    assert starts[-1] == extra
    assert len(set(starts)) == len(starts)


@given(
    size=st.integers(2, 48), length=st.integers(60, 400), stride=st.integers(1, 48),
    start=st.integers(0, 300), span=st.integers(0, 300),
)  # fmt: skip
def test_windows_of_a_part_cover_it_and_are_the_axis_own_inside(size, length, stride, start, span):
    stride, size = min(stride, size), min(size, length)
    start = min(start, length - size)
    stop = min(start + size + span, length)
    inside = windows_inside(length, size, stride, start, stop)
    covered = np.zeros(stop - start, bool)
    for w in inside:
        assert 0 <= w <= stop - start - size
        covered[w : w + size] = True
    assert covered.all()
    own = set(windows(length, size, stride))
    strangers = [w for w in inside if w + start not in own]
    assert set(strangers) <= {0, stop - start - size}


@given(size=st.integers(2, 64), overlap=st.integers(0, 32))
def test_blending_weights_add_to_one(size, overlap):
    overlap = min(overlap, size // 2)
    weights = raised_cosine(size, overlap)
    assert (weights > 0).all()
    assert (weights <= 1).all()
    torch.testing.assert_close(weights[:overlap] + weights[size - overlap :], torch.ones(overlap))
    assert (weights[overlap : size - overlap] == 1).all()


@given(
    size=st.integers(2, 48), extra=st.integers(0, 200), stride=st.integers(1, 48),
    origin=st.integers(0, 47),
)  # fmt: skip
def test_moving_windows_stay_inside_and_leave_no_gap(size, extra, stride, origin):
    stride = min(stride, size)
    origin %= stride
    starts = windows(size + extra, size, stride, origin)
    assert starts[0] == 0
    assert starts[-1] == extra
    assert all(0 < b - a <= stride for a, b in itertools.pairwise(starts))
    assert all(s % stride == origin for s in starts[1:-1])


@given(
    size=st.integers(2, 48), extra=st.integers(0, 200), stride=st.integers(1, 48),
    origin=st.integers(0, 47),
)  # fmt: skip
def test_blended_windows_add_to_one(size, extra, stride, origin):
    stride = min(stride, size)
    starts = windows(size + extra, size, stride, origin % stride)
    total = torch.zeros(size + extra)
    for start, weight in zip(starts, blending(starts, size + extra, size, stride), strict=True):
        total[start : start + size] += weight
    torch.testing.assert_close(total, torch.ones(size + extra))


def test_one_window_has_weight_one():
    assert torch.equal(blending((0,), 48, 48, 40), torch.ones(1, 48))


def test_the_origin_is_a_function_of_seed_and_step_that_spreads_evenly():
    region, tiling = Region(0, 48, 0, 400, 0, 400), Tiling(48, 40, 1)
    origins = [layout(region, 400, 400, "xz", tiling, 7, step).along[1] for step in range(40)]
    assert origins == [layout(region, 400, 400, "xz", tiling, 7, s).along[1] for s in range(40)]
    assert origins != [layout(region, 400, 400, "xz", tiling, 8, s).along[1] for s in range(40)]
    assert origins != [layout(region, 400, 400, "yz", tiling, 7, s).along[1] for s in range(40)]
    assert all(1 <= origin <= 40 for origin in origins)
    # A golden rotation: 8 steps come near every place, the steps of one plane alone too.
    for some in (origins[:8], origins[:16:2]):
        ring = sorted(origin % 40 for origin in some)
        gaps = [b - a for a, b in itertools.pairwise([*ring, ring[0] + 40])]
        assert max(gaps) <= 14
    still = Tiling(48, 40, 1, moving=False)
    assert layout(region, 400, 400, "xz", still, 7, 3).along == (0, 40, 80, 120, 160, 200, 240,
                                                                 280, 320, 352)  # fmt: skip


@pytest.mark.parametrize("plane", ["xz", "yz"])
@given(step=st.integers(0, 50), start=st.integers(0, 100), seed=st.integers(0, 9))
def test_a_block_away_from_its_rim_has_the_tiles_of_the_volume(plane, step, start, seed):
    tiling, size = Tiling(16, 12, 1), 16
    whole = layout(Region(0, 16, 0, 200, 0, 200), 200, 200, plane, tiling, seed, step)
    start_y, start_x = (0, start) if plane == "xz" else (start, 0)
    region = Region(0, 16, start_y, start_y + 100, start_x, start_x + 100)
    part = layout(region, 200, 200, plane, tiling, seed, step)
    inside = {s + start for s in part.along} - {start, start + 100 - size}
    own = {s for s in whole.along if start < s < start + 100 - size}
    assert inside == own


def test_high_volumes_have_windows_in_z_that_move_too():
    tiling = Tiling(48, 40, 1)
    region = Region(0, 153, 0, 48, 0, 48)
    found = {layout(region, 48, 48, "xz", tiling, 1, step) for step in range(20)}
    assert len(found) > 10
    assert all(tiles.along == (0,) for tiles in found)
    assert all(tiles.z[0] == 0 and tiles.z[-1] == 105 for tiles in found)
