"""Restored planes against the true ones: how near they are, channel by channel and jointly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msdsr.evaluate.blocks import blocks_of
from msdsr.evaluate.slices import ACROSS, PLANES
from msdsr.evaluate.sources import Source
from msdsr.metrics.similarity import SSIM_SIDE, nrmse, psnr, ssim_profile
from msdsr.metrics.spectra import AXES, lag_one_ratio, spectral_distance

ALL = "all"
"""The channel of scores that all channels share."""

IMAGE_METRICS = ("PSNR", "SSIM", "NRMSE")
AXIS_METRICS = ("LSD", "LAG1")
VOLUME = "3D"
MEAN = "mean"
LEAST_LINE = 4
"""Voxels along an axis that a spectrum needs."""


@dataclass(frozen=True)
class PairedScore:
    """One metric of one plane orientation or axis, averaged over ``n`` slices or parts."""

    plane: str
    channel: str
    metric: str
    value: float
    n: int


Found = dict[tuple[str, str, str], list[float]]
"""By plane, channel and metric: the scores of single slices, or of single parts of a slide."""


def paired_scores(
    restored: Source,
    truth: Source,
    generated: NDArray[np.bool_],
    data_range: Sequence[float],
    count: int,
    channels: Sequence[str] | None = None,
    tissue: NDArray[np.bool_] | None = None,
) -> list[PairedScore]:
    """Compare a restored volume with the truth on the planes that were not acquired.

    Each slice is scored on its own, then the mean is taken. XY slices are generated planes; of XZ
    and YZ slices, and of the volume, only the generated rows enter (SSIM windows reach into the
    acquired ones). Spectra and steps between neighbours are those of all planes. A slide of more
    than 512 × 512 pixels is taken in parts (`blocks_of`); a slice is then one of a part.

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
    channels
        Their names; scores are given of each, if there are several, and of ``all`` together.
    tissue
        See `blocks_of`.

    Returns
    -------
    list of PairedScore
        Metrics ``PSNR`` (dB), ``SSIM`` and ``NRMSE`` of ``XY``, ``XZ``, ``YZ``, their ``mean`` and
        of the volume (``3D``); ``LSD`` (log-spectral distance, dB) and ``LAG1`` (step between
        neighbours over the truth's) along ``z``, ``y`` and ``x``. What is under 11 pixels on a
        side has no SSIM, an axis of under 4 voxels no LSD.
    """
    peaks = np.asarray(data_range, float)
    names = list(channels or [])
    found: Found = {}
    blocks = blocks_of(restored.shape_zyx, tissue)
    for block in blocks:
        mine, true = restored.read(block), truth.read(block)
        for plane in PLANES:
            places = _spread(plane, mine.shape[1:], generated, -(-count // len(blocks)))
            for place in places:
                a, b = (np.take(v, place, axis=1 + ACROSS[plane]) for v in (mine, true))
                kept = np.ones(a.shape[1], bool) if plane == "XY" else generated
                _score_images(found, plane, a, b, peaks, kept, names)
        _score_images(found, VOLUME, mine, true, peaks, generated, names)
        _score_axes(found, mine, true, names)
    scores = [
        PairedScore(plane, channel, metric, float(np.mean(values)), len(values))
        for (plane, channel, metric), values in found.items()
    ]
    return scores + _means(scores)


def _spread(
    plane: str, shape_zyx: Sequence[int], generated: NDArray[np.bool_], count: int
) -> Iterator[int]:
    """Yield places of whole slices, evenly spread; of XY slices, generated planes alone."""
    places = np.flatnonzero(generated) if plane == "XY" else np.arange(shape_zyx[ACROSS[plane]])
    if len(places) > count:
        places = places[np.linspace(0, len(places) - 1, count).round().astype(int)]
    yield from (int(place) for place in places)


def _score_images(
    found: Found,
    plane: str,
    mine: NDArray[Any],
    true: NDArray[Any],
    peaks: NDArray[np.float64],
    kept: NDArray[np.bool_],
    names: Sequence[str],
) -> None:
    """Score one image or volume (c, …); ``kept`` says which of its rows or planes count."""
    rows = (mine[:, kept], true[:, kept])
    if rows[0].size == 0:
        return
    similar = None
    if min(true.shape[1:]) >= SSIM_SIDE:
        profile = ssim_profile(mine, true, peaks)[:, kept]
        similar = profile[:, np.isfinite(profile[0])]
    for channel, part in _channels(names, len(true)):
        a, b = (v[part] for v in rows)
        scores = {"PSNR": psnr(a, b, peaks[part]), "NRMSE": nrmse(a, b)}
        if similar is not None and similar.size:
            scores["SSIM"] = float(similar[part].mean())
        _add(found, plane, channel, scores)


def _score_axes(found: Found, mine: NDArray[Any], true: NDArray[Any], names: Sequence[str]) -> None:
    """Score the spectra and the steps of a volume along each axis."""
    measures: dict[str, Callable[[NDArray[Any], NDArray[Any], str], float]] = {
        "LSD": spectral_distance,
        "LAG1": lag_one_ratio,
    }
    for axis, n in zip(AXES, true.shape[1:], strict=True):
        for channel, part in _channels(names, len(true)):
            a, b = mine[part], true[part]
            # A truth without any contrast has no ratio; it is left out below.
            with np.errstate(divide="ignore", invalid="ignore"):
                scores = {
                    metric: measure(a, b, axis)
                    for metric, measure in measures.items()
                    if n >= (LEAST_LINE if metric == "LSD" else 2)
                }
            _add(found, axis, channel, scores)


def _channels(names: Sequence[str], count: int) -> Iterator[tuple[str, slice]]:
    """Yield what is scored: all channels together, then each, if there are several."""
    yield ALL, slice(0, count)
    if len(names) > 1:
        yield from ((name, slice(i, i + 1)) for i, name in enumerate(names))


def _add(found: Found, plane: str, channel: str, scores: dict[str, float]) -> None:
    for metric, value in scores.items():
        if np.isfinite(value):
            found.setdefault((plane, channel, metric), []).append(value)


def _means(scores: Sequence[PairedScore]) -> list[PairedScore]:
    """Return the mean over the three planes of each metric that all of them have."""
    by_key = {(s.plane, s.channel, s.metric): s for s in scores}
    means = []
    for channel in dict.fromkeys(s.channel for s in scores):
        for metric in IMAGE_METRICS:
            parts = [by_key.get((plane, channel, metric)) for plane in PLANES]
            there = [part for part in parts if part is not None]
            if len(there) == len(PLANES):
                value = float(np.mean([part.value for part in there]))
                n = min(part.n for part in there)
                means.append(PairedScore(MEAN, channel, metric, value, n))
    return means
