"""Row masks obey the laws they state."""

import math
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from msdsr.diffusion import masks


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.integers(1, 100), st.integers(1, 12), st.data())
def test_stride_mask_is_exact(rows: int, factor: int, data: st.DataObject) -> None:
    phase = data.draw(st.integers(0, factor - 1))
    observed = masks.stride_mask(rows, factor, phase).nonzero()[:, 0].tolist()
    assert observed == list(range(phase, rows, factor))


def test_stride_mask_refuses_a_phase_outside() -> None:
    with pytest.raises(ValueError, match="phase 4 of factor 4"):
        masks.stride_mask(48, 4, 4)


@given(st.integers(0, 2**40))
def test_paper_counts(seed: int) -> None:
    counts = masks.paper_masks(64, 48, seeded(seed)).sum(dim=1)
    assert int(counts.min()) >= 5
    assert int(counts.max()) <= 20


def test_paper_law_is_uniform_in_number_and_place() -> None:
    n = 40_000
    drawn = masks.paper_masks(n, 48, seeded(0))
    share = torch.bincount(drawn.sum(dim=1), minlength=48)[5:21] / n
    assert torch.allclose(share, torch.full((16,), 1 / 16), atol=5 * math.sqrt(1 / 16 / n))
    place = drawn.float().mean(dim=0)
    assert torch.allclose(place, torch.full((48,), 12.5 / 48), atol=5 * math.sqrt(0.25 / n))


@given(st.integers(1, 300))
def test_observed_range_scales(rows: int) -> None:
    low, high = masks.observed_range(rows)
    assert 1 <= low <= high <= max(rows, 1)
    assert masks.observed_range(48) == (5, 20)


@given(st.integers(0, 2**40), st.integers(9, 64))
def test_stride_masks_are_strides(seed: int, rows: int) -> None:
    for mask in masks.stride_masks(16, rows, seeded(seed)):
        at = mask.nonzero()[:, 0]
        gaps = at.diff().unique()
        if len(at) > 1:
            assert len(gaps) == 1
            assert 2 <= int(gaps[0]) <= 8
        assert int(at[0]) < 8


def test_stride_masks_are_uniform_in_factor_and_phase() -> None:
    n = 40_000
    drawn = masks.stride_masks(n, 48, seeded(1)).int()
    first = drawn.argmax(dim=1)
    factor = (drawn.cumsum(dim=1) == 2).int().argmax(dim=1) - first
    for f in range(2, 9):
        mine = first[factor == f]
        bound = 5 * math.sqrt(n / 7)
        assert abs(len(mine) - n / 7) < bound
        phases = torch.bincount(mine, minlength=f).float()
        assert len(phases) == f
        assert torch.allclose(phases, torch.full((f,), len(mine) / f), atol=bound / math.sqrt(f))


def test_mixture_has_its_shares() -> None:
    n = 40_000
    drawn = masks.mixture_masks(n, 48, seeded(2))
    counts = drawn.sum(dim=1)
    # Neither a stride of 2..8 nor the paper's law observes fewer than 5 of 48 rows.
    few = float((counts <= 4).float().mean())
    assert abs(few - 0.1) < 5 * math.sqrt(0.09 / n)
    for count in range(5):
        assert abs(float((counts == count).float().mean()) - 0.02) < 5 * math.sqrt(0.02 / n)
    # Random rows hit one of the 35 stride masks almost never.
    bits = 2 ** torch.arange(48)
    strides = torch.stack([masks.stride_mask(48, f, p) for f in range(2, 9) for p in range(f)])
    stride = torch.isin((drawn * bits).sum(dim=1), (strides * bits).sum(dim=1))
    assert abs(float(stride.float().mean()) - 0.5) < 5 * math.sqrt(0.25 / n)


@pytest.mark.parametrize("law", ["paper", "mixture"])
def test_a_seed_decides_everything(law: Literal["paper", "mixture"]) -> None:
    a, b = (masks.draw_masks(law, 32, 48, seeded(7)) for _ in range(2))
    assert torch.equal(a, b)
    assert a.dtype == torch.bool
    assert a.shape == (32, 48)
    assert not torch.equal(a, masks.draw_masks(law, 32, 48, seeded(8)))
