"""Restored planes against the true ones: PSNR, SSIM and NRMSE of what was not acquired."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msdsr.evaluate.slices import ACROSS, PLANES, picture
from msdsr.evaluate.sources import Source
from msdsr.metrics.similarity import SSIM_SIDE, nrmse, psnr, ssim_rows
from msdsr.volume import Region


@dataclass(frozen=True)
class PairedScore:
    """One metric of one plane orientation, averaged over ``n`` slices."""

    plane: str
    metric: str
    value: float
    n: int


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
