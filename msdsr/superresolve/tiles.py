"""Windows over an axis that the network can take one at a time, and how they are blended."""

from __future__ import annotations

import torch
from torch import Tensor


def windows(length: int, size: int, stride: int) -> tuple[int, ...]:
    """Return the starts of windows that cover an axis.

    They stand at multiples of ``stride``, so that they are the same wherever a block begins; the
    last one is pushed back to end with the axis.

    Parameters
    ----------
    length
        Pixels on the axis, at least ``size``.
    size
        Pixels of a window.
    stride
        Distance of the starts, at most ``size``.
    """
    if length < size or not 1 <= stride <= size:
        raise ValueError(f"windows of {size} every {stride} on an axis of {length}")
    starts = list(range(0, length - size, stride))
    return (*starts, length - size)


def windows_inside(length: int, size: int, stride: int, start: int, stop: int) -> tuple[int, ...]:
    """Return the starts, relative to ``start``, of the windows that lie inside a part of the axis.

    Where none of the axis' own windows reaches an end of the part, one is added there, so that
    every pixel of the part is covered.
    """
    inside = [w - start for w in windows(length, size, stride) if start <= w <= stop - size]
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
