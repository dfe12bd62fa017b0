"""Where the tissue is: Otsu's threshold on a smoothed projection."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.filters import threshold_otsu

SEPARABILITY = 0.70
"""Below this share of between-class variance there are not two classes to tell apart.

The best threshold of one Gaussian reaches 2/π ≈ 0.64, that of two distant classes nearly 1.
"""

BLOCK_Z = 64
"""Listed 2D images are smoothed so many at a time."""


def projection(volume: xr.DataArray) -> NDArray[np.float32]:
    """Return the mean over z, channels weighed by their 99 % quantile (rows, columns)."""
    mean = volume.mean("z", dtype=np.float32).compute().values
    scale = np.quantile(mean, 0.99, axis=(1, 2), keepdims=True)
    relative: NDArray[np.float32] = (mean / np.where(scale > 0, scale, 1)).mean(axis=0)
    return relative


def smoothed_images(volume: xr.DataArray, sigma_px: float) -> NDArray[np.float32]:
    """Return every plane of a list of 2D images on its own: smoothed, thinned out, channels merged.

    Parameters
    ----------
    volume
        Dimensions c, z, y, x.
    sigma_px
        σ of the Gaussian (pixels); of its result every so many pixels one is kept.

    Returns
    -------
    numpy.ndarray
        (planes, rows, columns), the mean over channels that are each relative to their 99 %
        quantile over all images.
    """
    step = max(1, round(sigma_px))
    sigma = (0, 0, sigma_px, sigma_px)
    parts = []
    for z in range(0, volume.shape[1], BLOCK_Z):
        images = volume[:, z : z + BLOCK_Z].to_numpy().astype(np.float32)
        parts.append(gaussian_filter(images, sigma, mode="nearest")[..., ::step, ::step])
    smooth = np.concatenate(parts, axis=1)
    scale = np.quantile(smooth, 0.99, axis=(1, 2, 3), keepdims=True)
    relative: NDArray[np.float32] = (smooth / np.where(scale > 0, scale, 1)).mean(axis=0)
    return relative


def tissue_mask(
    projected_YX: NDArray[np.float32], sigma_px: float
) -> tuple[NDArray[np.bool_], float]:
    """Tell tissue from background.

    Parameters
    ----------
    projected_YX
        Projection of a slide.
    sigma_px
        σ of the Gaussian that smooths it (pixels).

    Returns
    -------
    mask : numpy.ndarray
        True where there is tissue. All true when the two classes cannot be told apart.
    separability : float
        η = σ_B²/σ_T² of Otsu's threshold (doi:10.1109/TSMC.1979.4310076, Eq. 12), 0 to 1.
    """
    return otsu_mask(gaussian_filter(projected_YX, sigma_px, mode="nearest"))


def otsu_mask(smooth: NDArray[np.float32]) -> tuple[NDArray[np.bool_], float]:
    """Tell the bright class of smoothed intensities, of any shape, from the dark one.

    See `tissue_mask` for what is returned.
    """
    total = float(smooth.var())
    if total == 0:
        return np.ones(smooth.shape, bool), 0.0
    mask: NDArray[np.bool_] = smooth > threshold_otsu(smooth)  # type: ignore[no-untyped-call]
    share = float(mask.mean())
    between = share * (1 - share) * _gap(smooth, mask) ** 2
    separability = between / total
    if separability < SEPARABILITY:
        return np.ones(smooth.shape, bool), separability
    return mask, separability


def _gap(values: NDArray[Any], mask: NDArray[np.bool_]) -> float:
    if mask.all() or not mask.any():
        return 0.0
    return float(values[mask].mean() - values[~mask].mean())
