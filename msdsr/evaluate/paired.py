"""Restored planes against the true ones: PSNR, SSIM and NRMSE of what was not acquired."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from msdsr.evaluate.slices import ACROSS, PLANES, picture
from msdsr.evaluate.sources import Source
from msdsr.volume import Region

PSNR_CEILING = 100.0
"""What two equal slices score (dB), so that a mean over slices stays finite."""

SSIM_SIGMA = 1.5
SSIM_SIDE = 11
"""Side of the Gaussian window (pixels), σ 1.5 cut at 3.5 σ; a smaller slice has no SSIM."""


@dataclass(frozen=True)
class PairedScore:
    """One metric of one plane orientation, averaged over ``n`` slices."""

    plane: str
    metric: str
    value: float
    n: int


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


def paired_scores(
    restored: Source,
    truth: Source,
    generated: NDArray[np.bool_],
    data_range: Sequence[float],
    count: int,
) -> list[PairedScore]:
    """Compare a restored volume with the truth on the planes that were not acquired.

    Each slice is scored on its own, then the mean is taken. XY slices are generated planes; of XZ
    and YZ slices only the generated rows enter (SSIM windows reach into the acquired ones).

    Parameters
    ----------
    restored, truth
        The same planes, rows and columns.
    generated
        Which planes were not acquired, shape (planes,).
    data_range
        Peak of each channel for PSNR and SSIM (raw intensities).
    count
        Most slices of one orientation, evenly spread.

    Returns
    -------
    list of PairedScore
        Metrics ``PSNR`` (dB), ``SSIM`` and ``NRMSE`` of ``XY``, ``XZ``, ``YZ`` and their ``mean``.
        An orientation whose slices are under 11 pixels on a side has no SSIM.
    """
    peaks = np.asarray(data_range, float)
    scores: list[PairedScore] = []
    for plane in PLANES:
        found: dict[str, list[float]] = {"PSNR": [], "SSIM": [], "NRMSE": []}
        for region in _slices(plane, restored.shape_zyx, generated, count):
            mine, true = (picture(source.read(region), plane) for source in (restored, truth))
            rows = np.ones(mine.shape[1], bool) if plane == "XY" else generated
            found["PSNR"].append(psnr(mine[:, rows], true[:, rows], peaks))
            found["NRMSE"].append(nrmse(mine[:, rows], true[:, rows]))
            if min(mine.shape[1:]) >= SSIM_SIDE:
                similar = ssim_rows(mine, true, peaks)[rows]
                found["SSIM"] += [float(np.nanmean(similar))] if np.isfinite(similar).any() else []
        for metric, values in found.items():
            kept = [v for v in values if not np.isnan(v)]
            if kept:
                scores.append(PairedScore(plane, metric, float(np.mean(kept)), len(kept)))
    return scores + _means(scores)


def _slices(
    plane: str, shape_zyx: tuple[int, int, int], generated: NDArray[np.bool_], count: int
) -> Iterator[Region]:
    """Yield whole slices, evenly spread; of XY slices, generated planes alone."""
    across = ACROSS[plane]
    places = np.flatnonzero(generated) if plane == "XY" else np.arange(shape_zyx[across])
    if len(places) > count:
        places = places[np.linspace(0, len(places) - 1, count).round().astype(int)]
    for place in places:
        low, high = [0, 0, 0], list(shape_zyx)
        low[across], high[across] = int(place), int(place) + 1
        yield Region(low[0], high[0], low[1], high[1], low[2], high[2])


def _means(scores: Sequence[PairedScore]) -> list[PairedScore]:
    """Return the mean over the three planes of each metric that all of them have."""
    means = []
    for metric in ("PSNR", "SSIM", "NRMSE"):
        parts = [s for s in scores if s.metric == metric]
        if len(parts) == len(PLANES):
            value = float(np.mean([s.value for s in parts]))
            means.append(PairedScore("mean", metric, value, min(s.n for s in parts)))
    return means
