"""Windows over an axis that the network can take one at a time, and how they are blended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from msdsr.diffusion.noise import spread_evenly
from msdsr.volume import Region

Plane = Literal["xz", "yz"]
PLANES: tuple[Plane, Plane] = ("xz", "yz")
ACROSS: dict[Plane, Literal["y", "x"]] = {"xz": "y", "yz": "x"}
"""The axis perpendicular to the slices of an orientation."""


@dataclass(frozen=True)
class Tiling:
    """How slices are cut into tiles for the network.

    Attributes
    ----------
    size
        Side of a tile: what the network was trained on (pixels).
    stride
        Distance of neighbouring tiles (pixels).
    batch
        Tiles the network takes at a time.
    moving
        The tiles' origin is another in every step, so that no pixel always lies on a seam.
    """

    size: int
    stride: int
    batch: int
    moving: bool = True


@dataclass(frozen=True)
class Layout:
    """Where the tiles of every slice of a block stand in one step.

    Attributes
    ----------
    z, along
        First rows, and first pixels along the slices, relative to the block.
    """

    z: tuple[int, ...]
    along: tuple[int, ...]

    def __len__(self) -> int:
        """Return the number of tiles of a slice."""
        return len(self.z) * len(self.along)


def layout(
    region: Region,
    rows: int,
    columns: int,
    plane: Plane,
    tiling: Tiling,
    seed: int = 0,
    step: int = 0,
) -> Layout:
    """Return where the tiles of a block stand: a function of (seed, step, absolute voxel).

    Parameters
    ----------
    region
        The block, filled up to one tile where the volume is smaller.
    rows, columns
        Of the whole volume, to which the tiles are anchored.
    plane
        Orientation of the slices.
    tiling
        Size and distance of the tiles, and whether they move.
    seed, step
        What the origin is a function of. Its steps are those of a golden rotation, so that few
        steps spread the seams evenly.
    """
    start, stop, length = (
        (region.x0, region.x1, columns) if plane == "xz" else (region.y0, region.y1, rows)
    )
    origin_z, origin = 0, 0
    if tiling.moving:
        origin_z, origin = (
            spread_evenly(tiling.stride, step, seed, axis) for axis in (0, 1 + PLANES.index(plane))
        )
    height = region.z1 - region.z0
    return Layout(
        windows(height, tiling.size, tiling.stride, origin_z),
        windows_inside(max(length, stop - start), tiling.size, tiling.stride, start, stop, origin),
    )


def windows(length: int, size: int, stride: int, origin: int = 0) -> tuple[int, ...]:
    """Return the starts of windows that cover an axis and stay inside it.

    They stand at ``origin`` and every ``stride`` from there, so that they are the same wherever a
    block begins. Where these do not reach an end of the axis, one window stands at the end.

    Parameters
    ----------
    length
        Pixels on the axis, at least ``size``.
    size
        Pixels of a window.
    stride
        Distance of the starts, at most ``size``.
    origin
        In 0..stride−1.
    """
    if length < size or not 1 <= stride <= size or not 0 <= origin < stride:
        raise ValueError(f"windows of {size} every {stride} from {origin} on an axis of {length}")
    last = length - size
    return tuple(sorted({0, *range(origin, last, stride), last}))


def windows_inside(
    length: int, size: int, stride: int, start: int, stop: int, origin: int = 0
) -> tuple[int, ...]:
    """Return the starts, relative to ``start``, of the windows that lie inside a part of the axis.

    Where none of the axis' own windows reaches an end of the part, one is added there, so that
    every pixel of the part is covered.
    """
    own = windows(length, size, stride, origin)
    inside = [w - start for w in own if start <= w <= stop - size]
    last = stop - start - size
    return tuple(sorted({0, *inside, last}))


def raised_cosine(size: int, overlap: int) -> Tensor:
    """Return blending weights of a window: 1 inside, sin² flanks over ``overlap`` pixels.

    Two windows that overlap by ``overlap`` have weights that add to 1, since sin² + cos² = 1; the
    flanks never reach 0, so that a pixel at the rim of a volume keeps a weight.

    Returns
    -------
    Tensor
        (size,) float32, in (0, 1].
    """
    ramp = torch.arange(overlap, dtype=torch.float64) + 0.5
    flank = torch.sin(torch.pi / 2 * ramp / max(overlap, 1)) ** 2
    weights = torch.ones(size, dtype=torch.float64)
    weights[:overlap] *= flank
    weights[size - overlap :] *= flank.flip(0)
    return weights.float()


def blending(starts: Sequence[int], length: int, size: int, stride: int) -> Tensor:
    """Return the weights of the windows on an axis, which add to 1 at every pixel.

    Returns
    -------
    Tensor
        (windows, size) float32.
    """
    flanked = raised_cosine(size, size - stride)
    total = torch.zeros(length)
    for start in starts:
        total[start : start + size] += flanked
    return torch.stack([flanked / total[start : start + size] for start in starts])
