"""One denoising of a block: its slices in tiles, the tiles in batches, their x0 blended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from msdsr.diffusion.denoiser import Denoiser
from msdsr.superresolve.tiles import Layout, Plane, Tiling, blending, layout
from msdsr.volume import Region


@dataclass(frozen=True)
class Block:
    """A part of a volume that is restored in one go, in model units.

    Attributes
    ----------
    clean
        (C, Z, Y, X) float32; only acquired planes are looked at.
    acquired
        (Z,) bool: planes that were acquired. Planes above and below the stack may be there too, to
        fill the network's window; they are extrapolated and thrown away.
    region
        Where the block lies in the output volume (voxels); z may begin below 0.
    rows, columns
        Size of the whole volume, to which the tiles are anchored.
    """

    clean: Tensor
    acquired: Tensor
    region: Region
    rows: int
    columns: int


def keep_acquired(x: Tensor, block: Block) -> Tensor:
    """Put the acquired planes back into x (Eq. 5), in place."""
    planes = block.acquired.nonzero().squeeze(1)
    return x.index_copy_(1, planes, block.clean.index_select(1, planes))


@dataclass(frozen=True)
class _Run:
    """Neighbouring slices of one window along the slices, and where they stand in a batch."""

    window: int
    slices: slice
    batch: slice


def _batches(windows: int, slices: int, size: int) -> Iterator[list[_Run]]:
    """Yield what each batch holds: all slices of the first window, then of the second, ….

    The order is always this one, so that overlapping tiles are added in one order, whatever the
    size of the batches.
    """
    runs: list[_Run] = []
    filled = 0
    for window in range(windows):
        start = 0
        while start < slices:
            n = min(slices - start, size - filled)
            runs.append(_Run(window, slice(start, start + n), slice(filled, filled + n)))
            start += n
            filled += n
            if filled == size:
                yield runs
                runs, filled = [], 0
    if runs:
        yield runs


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
    x0_CZSU = torch.zeros_like(x_CZSU)
    room = min(tiling.batch, slices * len(tiles.along))
    given, known = (x.new_empty(room, channels, size, size) for _ in range(2))
    for z, weight_z in zip(tiles.z, weights_z, strict=True):
        rows = slice(z, z + size)
        for runs in _batches(len(tiles.along), slices, tiling.batch):
            starts = [tiles.along[run.window] for run in runs]
            where = [
                (rows, run.slices, slice(start, start + size))
                for run, start in zip(runs, starts, strict=True)
            ]
            for run, (z_, s, u_) in zip(runs, where, strict=True):
                given[run.batch] = x_CZSU[:, z_, s, u_].permute(2, 0, 1, 3)
                known[run.batch] = clean_CZSU[:, z_, s, u_].permute(2, 0, 1, 3)
            n = runs[-1].batch.stop
            found = denoiser(given[:n], sigma, known[:n], block.acquired[rows])
            for run, (z_, s, u_) in zip(runs, where, strict=True):
                weight = weight_z[:, None] * weights_u[run.window]
                x0_CZSU[:, z_, s, u_] += (found[run.batch] * weight).permute(1, 2, 0, 3)
            advance(n)
    return keep_acquired(_slices_first(x0_CZSU, plane), block)


def _slices_first(volume_CZYX: Tensor, plane: Plane) -> Tensor:
    """Return (C, Z, slice, along): a view; applied twice it is the volume again."""
    return volume_CZYX if plane == "xz" else volume_CZYX.transpose(2, 3)
