"""How alike two images are: PSNR, NRMSE and SSIM of one against the other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

PSNR_CEILING = 100.0
"""What two equal slices score (dB), so that a mean over slices stays finite."""

SSIM_SIGMA = 1.5
SSIM_SIDE = 11
"""Side of the Gaussian window (pixels), σ 1.5 cut at 3.5 σ; a smaller slice has no SSIM."""


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


def ssim_rows(
    restored: NDArray[Any], truth: NDArray[Any], data_range: NDArray[Any]
) -> NDArray[np.float64]:
    """Return the structural similarity of two slices, row by row.

    Parameters
    ----------
    restored, truth
        Shape (c, rows, columns), both sides at least 11 pixels.
    data_range
        Intensity range L of each channel.

    Returns
    -------
    numpy.ndarray
        Mean of the SSIM map over channels and columns, shape (rows,); its mean is the 2D SSIM but
        for the border of 5 pixels, which is left out of the columns here and of the rows by
        ``nan``. Gaussian window σ 1.5, K₁ 0.01, K₂ 0.03 (Wang et al., 2004).
    """
    border = SSIM_SIDE // 2
    maps = []
    for channel, peak in enumerate(data_range):
        _, ssim = structural_similarity(  # type: ignore[no-untyped-call]
            restored[channel].astype(float),
            truth[channel].astype(float),
            data_range=float(peak),
            gaussian_weights=True,
            sigma=SSIM_SIGMA,
            use_sample_covariance=False,
            full=True,
        )
        maps.append(ssim)
    rows: NDArray[np.float64] = np.mean(maps, axis=0)[:, border:-border].mean(axis=1)
    rows[:border] = rows[-border:] = np.nan
    return rows
