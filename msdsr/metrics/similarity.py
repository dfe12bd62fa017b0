"""How alike two images or volumes are: PSNR, NRMSE and SSIM of one against the other.

Each takes one image (or volume) with its channels first, so that a mean over images is a mean of
images, not of batches. The score of one channel is that of ``image[c : c + 1]``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

PSNR_CEILING = 100.0
"""What two equal slices score (dB), so that a mean over slices stays finite."""

SSIM_SIGMA = 1.5
SSIM_SIDE = 11
"""Side of the Gaussian window (pixels), σ 1.5 cut at 3.5 σ; a smaller slice has no SSIM."""

SSIM_K = (0.01, 0.03)
BLOCK_VOXELS = 4_000_000
"""Voxels of which a volume's SSIM is worked out at a time: about 350 MB."""


def psnr(restored: NDArray[Any], truth: NDArray[Any], data_range: NDArray[Any]) -> float:
    """Return the peak signal-to-noise ratio, −10 log₁₀ of the mean squared error (dB).

    Parameters
    ----------
    restored, truth
        Same shape, channels first.
    data_range
        Intensity that counts as the peak, one a channel; errors are divided by it.
    """
    scale = np.asarray(data_range, float).reshape(-1, *(1,) * (truth.ndim - 1))
    mse = float((((restored.astype(float) - truth) / scale) ** 2).mean())
    return PSNR_CEILING if mse == 0 else min(PSNR_CEILING, -10 * float(np.log10(mse)))


def nrmse(restored: NDArray[Any], truth: NDArray[Any]) -> float:
    """Return ‖restored − truth‖ / ‖truth‖ (Euclidean), mean over channels; 0 is perfect.

    A channel whose truth is 0 throughout is left out; nan when all are.
    """
    axes = tuple(range(1, truth.ndim))
    error = np.sqrt(((restored.astype(float) - truth) ** 2).sum(axis=axes))
    norm = np.sqrt((truth.astype(float) ** 2).sum(axis=axes))
    kept = norm > 0
    return float((error[kept] / norm[kept]).mean()) if kept.any() else float("nan")


def ssim(
    restored: NDArray[Any],
    truth: NDArray[Any],
    data_range: NDArray[Any],
    kept: NDArray[np.bool_] | None = None,
) -> float:
    """Return the structural similarity of two images or two volumes, mean over channels.

    Parameters
    ----------
    restored, truth
        Shape (c, rows, columns) or (c, z, y, x).
    data_range
        Intensity range L of each channel.
    kept
        Which rows (or planes) count, shape (rows,) or (z,); all of them by default. Windows reach
        into those that do not.

    Returns
    -------
    float
        The mean over all windows that lie inside the image; 1 is perfect. nan when a side is
        under 11, or no row that counts is 5 or more from the ends.
    """
    if min(truth.shape[1:]) < SSIM_SIDE:
        return float("nan")
    profile = ssim_profile(restored, truth, data_range).mean(axis=0)
    profile = profile if kept is None else profile[kept]
    return float(np.nanmean(profile)) if np.isfinite(profile).any() else float("nan")


def ssim_rows(
    restored: NDArray[Any], truth: NDArray[Any], data_range: NDArray[Any]
) -> NDArray[np.float64]:
    """Return the structural similarity of two slices, row by row, mean over channels.

    Parameters
    ----------
    restored, truth, data_range
        As `ssim_profile` takes them.

    Returns
    -------
    numpy.ndarray
        Shape (rows,); ``nan`` in the border of 5 rows.
    """
    rows: NDArray[np.float64] = ssim_profile(restored, truth, data_range).mean(axis=0)
    return rows


def ssim_profile(
    restored: NDArray[Any], truth: NDArray[Any], data_range: NDArray[Any]
) -> NDArray[np.float64]:
    """Return the structural similarity along the first axis of two images or volumes.

    Parameters
    ----------
    restored, truth
        Shape (c, rows, columns) or (c, z, y, x), all sides at least 11.
    data_range
        Intensity range L of each channel.

    Returns
    -------
    numpy.ndarray
        Mean of the SSIM map over the other axes, shape (c, rows) or (c, z). The border of 5, where
        a window would reach outside, is left out of those axes, and is ``nan`` in this one. The
        map (Wang et al., IEEE Trans. Image Process. 13, 2004, 600) has a Gaussian window of σ 1.5,
        cut at 3.5 σ, in as many dimensions as the image, K₁ 0.01 and K₂ 0.03.
    """
    border = SSIM_SIDE // 2
    n, *others = truth.shape[1:]
    side = max(1, BLOCK_VOXELS // math.prod(others))
    profile = np.full((len(truth), n), np.nan)
    for first in range(border, n - border, side):
        last = min(first + side, n - border)
        part = slice(first - border, last + border)
        for channel, peak in enumerate(data_range):
            similar = _ssim_map(restored[channel, part], truth[channel, part], float(peak))
            profile[channel, first:last] = similar.mean(axis=tuple(range(1, similar.ndim)))
    return profile


def _ssim_map(
    restored: NDArray[Any], truth: NDArray[Any], data_range: float
) -> NDArray[np.float64]:
    """Return the similarity of every window that lies inside the two arrays."""
    x, y = restored.astype(np.float64), truth.astype(np.float64)
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    var_x = _window_mean(x * x) - mean_x**2
    var_y = _window_mean(y * y) - mean_y**2
    covariance = _window_mean(x * y) - mean_x * mean_y
    c1, c2 = ((k * data_range) ** 2 for k in SSIM_K)
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    below = (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    similar: NDArray[np.float64] = above / below
    return similar


def _window_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Gaussian mean in every window that lies inside, each side shorter by 10."""
    border = SSIM_SIDE // 2
    weights = np.exp(-0.5 * (np.arange(-border, border + 1) / SSIM_SIGMA) ** 2)
    weights /= weights.sum()
    for axis in range(values.ndim):
        inside = [slice(None)] * values.ndim
        inside[axis] = slice(border, -border)
        values = correlate1d(values, weights, axis)[tuple(inside)]
    return values
