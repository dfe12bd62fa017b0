"""A part of a volume that is restored in one go, and what of it needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from msdsr.superresolve.tiles import Plane
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
    tissue
        (Y, X) bool: where there is tissue. A tile whose pixels along the slice are all background
        is interpolated linearly, not given to the network. Left out: tissue everywhere.
    """

    clean: Tensor
    acquired: Tensor
    region: Region
    rows: int
    columns: int
    tissue: Tensor | None = None


def keep_acquired(x: Tensor, block: Block) -> Tensor:
    """Put the acquired planes back into x (Eq. 5), in place."""
    planes = block.acquired.nonzero().squeeze(1)
    return x.index_copy_(1, planes, block.clean.index_select(1, planes))


def with_tissue(
    tissue: Tensor | None, plane: Plane, starts: Sequence[int], size: int, slices: int
) -> Tensor:
    """Tell which tiles have tissue.

    Parameters
    ----------
    tissue
        (Y, X) bool, or nothing: tissue everywhere.
    plane
        Orientation of the slices.
    starts, size
        Windows along the slices (pixels).
    slices
        How many there are.

    Returns
    -------
    Tensor
        (windows, slices) bool, on the CPU.
    """
    if tissue is None:
        return torch.ones(len(starts), slices, dtype=torch.bool)
    tissue_SU = (tissue if plane == "xz" else tissue.T).cpu()
    before = torch.nn.functional.pad(tissue_SU.cumsum(1), (1, 0))
    first = torch.tensor(starts)
    return (before[:, first + size] > before[:, first]).T


def linear_rows(clean: Tensor, acquired: Tensor, rows: slice) -> Tensor:
    """Return some planes, drawn straight between the acquired planes around them.

    Beyond the outermost acquired planes these go on unchanged.

    Parameters
    ----------
    clean
        (C, Z, …); only acquired planes are looked at.
    acquired
        (Z,) bool, at least one.
    rows
        Which planes are wanted.
    """
    planes = acquired.nonzero().squeeze(1)
    wanted = torch.arange(rows.start, rows.stop, device=planes.device)
    above = torch.searchsorted(planes, wanted).clamp(max=len(planes) - 1)
    below = torch.searchsorted(planes, wanted, right=True).sub(1).clamp(min=0)
    gap = (planes[above] - planes[below]).clamp(min=1)
    part = ((wanted - planes[below]) / gap).clamp(0, 1).to(clean.dtype)
    shape = (1, -1, *(1,) * (clean.dim() - 2))
    return torch.lerp(
        clean.index_select(1, planes[below]),
        clean.index_select(1, planes[above]),
        part.reshape(shape),
    )
