"""One denoising of a block: its slices in tiles, the tiles in batches, their x0 blended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from msdsr.diffusion.denoiser import Denoiser
from msdsr.superresolve.block import Block, keep_acquired, linear_rows, with_tissue
from msdsr.superresolve.tiles import Layout, Plane, Tiling, blending, layout

Slices = slice | Tensor


@dataclass(frozen=True)
class _Run:
    """Some slices of one window along the slices, and where they stand in a batch."""

    window: int
    slices: Slices
    batch: slice


def _batches(active: Sequence[Tensor], size: int) -> Iterator[list[_Run]]:
    """Yield what each batch holds: the slices of the first window, then of the second, ….

    The order is always this one, so that overlapping tiles are added in one order, whatever the
    size of the batches.

    Parameters
    ----------
    active
        Slices of each window along them, rising.
    size
        Tiles in a batch.
    """
    runs: list[_Run] = []
    filled = 0
    for window, slices in enumerate(active):
        start = 0
        while start < len(slices):
            n = min(len(slices) - start, size - filled)
            some = _as_slice(slices[start : start + n])
            runs.append(_Run(window, some, slice(filled, filled + n)))
            start += n
            filled += n
            if filled == size:
                yield runs
                runs, filled = [], 0
    if runs:
        yield runs


def _as_slice(indices: Tensor) -> Slices:
    """Return rising indices as a slice where they have no gap: views are cheaper."""
    first, last = int(indices[0]), int(indices[-1])
    return slice(first, last + 1) if last - first + 1 == len(indices) else indices


def denoise_slices(
    denoiser: Denoiser,
    x: Tensor,
    sigma: float,
    block: Block,
    plane: Plane,
    tiling: Tiling,
    advance: Callable[[int], None] = lambda tiles: None,
    tiles: Layout | None = None,
) -> Tensor:
    """Return x0 of a whole block, from tiles of its slices blended with a raised cosine.

    Tiles without tissue are not given to the network; their x0 is the linear interpolation of the
    acquired planes, blended with the others.

    Parameters
    ----------
    denoiser, block, tiling, advance
        As in :func:`msdsr.superresolve.engine.restore`.
    x
        (C, Z, Y, X) at the noise level ``sigma``.
    plane
        Orientation of the slices.
    tiles
        Where the tiles stand; left out, as in step 0 of seed 0.

    Returns
    -------
    Tensor
        (C, Z, Y, X) float32.
    """
    if tiles is None:
        tiles = layout(block.region, block.rows, block.columns, plane, tiling)
    size = tiling.size
    x_CZSU, clean_CZSU = _slices_first(x, plane), _slices_first(block.clean, plane)
    channels, height, slices, width = x_CZSU.shape
    weights_z = blending(tiles.z, height, size, tiling.stride).to(x.device)
    weights_u = blending(tiles.along, width, size, tiling.stride).to(x.device)
    has_tissue = with_tissue(block.tissue, plane, tiles.along, size, slices)
    active = [some.nonzero().squeeze(1) for some in has_tissue]
    x0_CZSU = torch.zeros_like(x_CZSU)
    room = min(tiling.batch, sum(len(some) for some in active))
    given, known = (x.new_empty(room, channels, size, size) for _ in range(2))
    for z, weight_z in zip(tiles.z, weights_z, strict=True):
        rows = slice(z, z + size)
        weights = [weight_z[:, None, None] * weight for weight in weights_u]
        for start, weight, some in zip(tiles.along, weights, has_tissue, strict=True):
            if not bool(some.all()):
                empty, along = _as_slice((~some).nonzero().squeeze(1)), slice(start, start + size)
                drawn = linear_rows(clean_CZSU[:, :, empty, along], block.acquired, rows)
                x0_CZSU[:, rows, empty, along] += drawn * weight
        for runs in _batches(active, tiling.batch):
            starts = [tiles.along[run.window] for run in runs]
            where = [
                (rows, run.slices, slice(start, start + size))
                for run, start in zip(runs, starts, strict=True)
            ]
            for run, (_, s, u) in zip(runs, where, strict=True):
                given[run.batch] = x_CZSU[:, rows, s, u].permute(2, 0, 1, 3)
                known[run.batch] = clean_CZSU[:, rows, s, u].permute(2, 0, 1, 3)
            n = runs[-1].batch.stop
            # Always the whole buffer, the end of the last batch being filled with old tiles: the
            # kernels for another size may round otherwise, and compiled ones know no other.
            found = denoiser(given, sigma, known, block.acquired[rows])
            for run, (_, s, u) in zip(runs, where, strict=True):
                part = found[run.batch].permute(1, 2, 0, 3)
                x0_CZSU[:, rows, s, u] += part * weights[run.window]
            advance(n)
    return keep_acquired(_slices_first(x0_CZSU, plane), block)


def _slices_first(volume_CZYX: Tensor, plane: Plane) -> Tensor:
    """Return (C, Z, slice, along): a view; applied twice it is the volume again."""
    return volume_CZYX if plane == "xz" else volume_CZYX.transpose(2, 3)
