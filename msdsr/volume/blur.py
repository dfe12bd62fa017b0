"""The light Gaussian blur of the paper's ablation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

HALO = 1
"""How many voxels around it a blurred voxel depends on."""


def gaussian3(voxels_CZYX: NDArray[Any], sigma: float = 0.5) -> NDArray[np.float32]:
    """Blur a volume with a normalised 3 × 3 × 3 Gaussian (the paper's ablation: σ = 0.5).

    The kernel is the outer product of three times (w, 1, w)/(1 + 2w) with w = exp(−1/(2σ²)), so
    it is applied axis by axis. Beyond an end of the volume its outermost voxel is repeated.

    Parameters
    ----------
    voxels_CZYX
        Any dtype.
    sigma
        σ in voxels.

    Returns
    -------
    numpy.ndarray
        float32, of the same shape, neither rounded nor clipped.
    """
    side = math.exp(-0.5 / sigma**2)
    middle = np.float32(1 / (1 + 2 * side))
    edge = np.float32(side / (1 + 2 * side))
    blurred: NDArray[np.float32] = voxels_CZYX.astype(np.float32)
    for axis in (1, 2, 3):
        n = blurred.shape[axis]
        before = np.take(blurred, np.maximum(np.arange(n) - 1, 0), axis)
        after = np.take(blurred, np.minimum(np.arange(n) + 1, n - 1), axis)
        before += after
        before *= edge
        blurred *= middle
        blurred += before
    return blurred
