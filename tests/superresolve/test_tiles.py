import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from msdsr.superresolve.tiles import raised_cosine, windows, windows_inside


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
