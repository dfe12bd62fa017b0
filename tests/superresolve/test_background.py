"""Tiles without tissue are interpolated linearly and cost the network nothing."""

import dataclasses

import numpy as np
import pytest
import torch

from msdsr.superresolve.block import Block, linear_rows, with_tissue
from msdsr.superresolve.engine import Tiling, Walk, count_background, count_walk, restore
from msdsr.volume import Region
from msdsr.volume.interpolate import interpolate

SIGMAS = (5.0, 2.0, 0.7, 0.2, 0.0)
TILING = Tiling(8, 6, 5)
WALK = Walk(SIGMAS, 1.0, 3)
ROWS, COLUMNS = 20, 41


def toy(x, sigma, clean, observed):
    rows = torch.where(observed[:, None], clean, x / (1 + sigma**2) ** 0.5)
    return torch.tanh(rows + 0.3 * rows.mean(dim=(-2, -1), keepdim=True) + rows.roll(1, -1))


def block(tissue=None, height=10):
    clean = torch.randn(2, height, ROWS, COLUMNS, generator=torch.Generator().manual_seed(1))
    acquired = torch.arange(height) % 3 == 0
    return Block(clean, acquired, Region(0, height, 0, ROWS, 0, COLUMNS), ROWS, COLUMNS, tissue)


def islands():
    """Two pieces of tissue that do not touch."""
    tissue = torch.zeros(ROWS, COLUMNS, dtype=torch.bool)
    tissue[2:6, 3:9] = True
    tissue[11:, 33:36] = True
    return tissue


def test_linear_rows_are_those_of_the_baseline():
    known = block(height=10)
    planes = interpolate(known.clean[:, ::3].double().numpy(), 3, "linear")
    found = linear_rows(known.clean, known.acquired, slice(0, 10))
    np.testing.assert_allclose(found.numpy(), planes, atol=1e-6)
    part = linear_rows(known.clean[:, :, 2:5], known.acquired, slice(4, 9))
    assert torch.equal(part, found[:, 4:9, 2:5])


def test_linear_rows_go_on_unchanged_beyond_the_stack():
    acquired = torch.tensor([False, False, True, False, True, False])
    clean = torch.tensor([[torch.nan, torch.nan, 1.0, torch.nan, 3.0, torch.nan]])
    found = linear_rows(clean, acquired, slice(0, 6))
    assert found.tolist() == [[1, 1, 1, 2, 3, 3]]


@pytest.mark.parametrize("plane", ["xz", "yz"])
def test_tiles_with_tissue(plane):
    tissue = islands()
    slices = ROWS if plane == "xz" else COLUMNS
    found = with_tissue(tissue, plane, (0, 5, 12), 8, slices)
    for w, start in enumerate((0, 5, 12)):
        for s in range(slices):
            line = tissue[s] if plane == "xz" else tissue[:, s]
            assert bool(found[w, s]) == bool(line[start : start + 8].any())
    assert bool(with_tissue(None, plane, (0, 5), 8, slices).all())


@pytest.mark.parametrize("mode", ["xz", "average", "joint", "alternate"])
def test_the_network_sees_tiles_with_tissue_alone(mode):
    seen = []
    known = block(islands())
    r = known.region
    restore(toy, known, mode, WALK, TILING, seen.append)
    assert sum(seen) == count_walk(r, ROWS, COLUMNS, mode, WALK, TILING, known.tissue)
    spared = count_background(r, ROWS, COLUMNS, mode, WALK, TILING, known.tissue)
    assert spared > sum(seen) > 0
    assert spared + sum(seen) == count_walk(r, ROWS, COLUMNS, mode, WALK, TILING)


@pytest.mark.parametrize("mode", ["xz", "alternate"])
def test_background_far_from_tissue_is_linear(mode):
    known = block(islands())
    out = restore(toy, known, mode, WALK, TILING)
    linear = linear_rows(known.clean, known.acquired, slice(0, 10))
    torch.testing.assert_close(out[..., 18:24], linear[..., 18:24], atol=1e-5, rtol=1e-5)
    hidden = ~known.acquired
    inside = out[:, hidden, 3:5, 4:8] - linear[:, hidden, 3:5, 4:8]
    assert float(inside.abs().mean()) > 0.1
    assert torch.equal(out[:, known.acquired], known.clean[:, known.acquired])


def test_slices_full_of_tissue_are_as_without_a_mask():
    tissue = islands()
    tissue[3] = True
    known = block(tissue)
    out = restore(toy, known, "xz", WALK, TILING)
    plain = restore(toy, dataclasses.replace(known, tissue=None), "xz", WALK, TILING)
    torch.testing.assert_close(out[:, :, 3], plain[:, :, 3], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(out[:, :, 10], plain[:, :, 10], atol=1e-2)
    full = dataclasses.replace(known, tissue=torch.ones(ROWS, COLUMNS, dtype=torch.bool))
    assert torch.equal(restore(toy, full, "xz", WALK, TILING), plain)


def test_no_tissue_needs_no_network():
    def never(x, sigma, clean, observed):
        raise AssertionError("asked for a tile of background")

    known = block(torch.zeros(ROWS, COLUMNS, dtype=torch.bool))
    out = restore(never, known, "average", WALK, TILING)
    assert torch.equal(out, linear_rows(known.clean, known.acquired, slice(0, 10)))
