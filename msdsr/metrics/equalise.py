"""How the published code shows images to Inception: equalised, patch by patch, without a border.

`protocol: paper` repeats it, so that figures can be set beside the paper's. It is blind to what a
restoration does to brightness and contrast, which is why it is not the only one here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

PAPER_BITS = (7.5, 8.0, 8.0)
"""Levels of red, green and blue: 2 to the power of these, rounded down: 181, 256 and 256."""

PAPER_BORDER = 4
"""Voxels that the published code cuts off each end of every axis before it takes slices."""


def equalise(colours: NDArray[Any], bits: Sequence[float] = PAPER_BITS) -> NDArray[np.uint8]:
    """Return one patch with each of its colours spread over all levels by its own histogram.

    What the published code calls ``viz_rescale_hist`` (MLNeurosurg/msdsr, commit b2697d2). With B
    levels, the histogram h of B equal bins from the darkest to the brightest pixel, and its first
    bin set to 0, an intensity v becomes ``(B − 1) · H(v) / H(last)``, where H is h summed up,
    taken at the left edges of the bins and interpolated linearly between them; then it is cut,
    not rounded, to a whole number.

    Parameters
    ----------
    colours
        Shape (3, rows, columns), one patch: red, green and blue in raw intensities, as
        `msdsr.volume.colour.colours` gives them. Scale and offset of a colour do not matter.
    bits
        Logarithm to base 2 of the number of levels, one a colour.

    Returns
    -------
    numpy.ndarray
        uint8, of the same shape. A colour without contrast becomes its highest level.
    """
    return np.stack(
        [_equalised(colour, math.floor(2**b)) for colour, b in zip(colours, bits, strict=True)]
    )


def _equalised(colour: NDArray[Any], levels: int) -> NDArray[np.uint8]:
    counts, edges = np.histogram(colour, levels)
    counts[0] = 0
    height = counts.cumsum()
    target = (levels - 1) * height / height[-1]
    equal: NDArray[np.uint8] = np.interp(colour, edges[:-1], target).astype(np.uint8)
    return equal


def without_border(voxels_CZYX: NDArray[Any], border: int = PAPER_BORDER) -> NDArray[Any]:
    """Return a volume without the outermost voxels of z, y and x, as the published code cuts it.

    Parameters
    ----------
    voxels_CZYX
        Any dtype, shape (c, z, y, x).
    border
        Voxels at each end; 4 in the published code (40 of 48 are left).

    Raises
    ------
    ValueError
        When nothing is left.
    """
    if min(voxels_CZYX.shape[1:]) <= 2 * border:
        raise ValueError(f"nothing is left of {voxels_CZYX.shape} without {border} at each end")
    inner = slice(border, -border or None)
    return voxels_CZYX[:, inner, inner, inner]
