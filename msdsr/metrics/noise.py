"""How much noise an image holds, told from the image alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

TILE = 16
"""Side of the squares in which noise is taken to be the same everywhere (pixels)."""

NORMAL_MEDIAN = 0.6744897501960817
"""Median of |N(0, 1)|."""


def noise_variance(image_YX: NDArray[Any]) -> float:
    """Return the variance of white noise in an image, mean over its squares of 16 pixels.

    Parameters
    ----------
    image_YX
        At least 3 pixels on each side.

    Returns
    -------
    float
        In squared intensities; nan for a smaller image.

    Notes
    -----
    The difference of two Laplacians, which is blind to planes and to curvature along the axes, and
    whose response to white noise of variance σ² has 36 σ² (Immerkær, "Fast noise variance
    estimation", Comput. Vis. Image Underst. 64(2), 1996). In each square the median of its modulus
    stands for the standard deviation (Donoho and Johnstone, Biometrika 81, 1994), so that edges
    count little, and brighter squares may hold more noise than darker ones. Texture as fine as a
    pixel counts as noise, and noise that is correlated between pixels is underestimated.
    """
    if min(image_YX.shape) < 3:
        return float("nan")
    image = image_YX.astype(np.float64)
    across = image[:, :-2] - 2 * image[:, 1:-1] + image[:, 2:]
    response = np.abs(across[:-2] - 2 * across[1:-1] + across[2:])
    rows, columns = response.shape
    variances, pixels = [], []
    for y in range(0, rows, TILE):
        for x in range(0, columns, TILE):
            square = response[y : y + TILE, x : x + TILE]
            variances.append((np.median(square) / NORMAL_MEDIAN) ** 2 / 36)
            pixels.append(square.size)
    return float(np.average(variances, weights=pixels))
