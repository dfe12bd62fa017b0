"""How often the truth lies within the interval that a standard deviation promises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

BINS_AN_OCTAVE = 64
LOWEST, HIGHEST = -16, 16
"""Octaves of |error|/σ that are told apart; what lies beyond counts as the outermost bin."""


def half_width(level: float) -> float:
    """Return how many σ to either side hold this part of a normal distribution: 1.645 for 0.9."""
    return float(ndtri((1 + level) / 2))


class Coverage:
    """Counts of |error|/σ in bins of one percent, which add up over voxels, blocks and runs.

    A normal distribution of the error is not assumed: the scale is an order statistic of what was
    seen.
    """

    def __init__(self, counts: NDArray[np.int64] | None = None, without_sigma: int = 0) -> None:
        bins = (HIGHEST - LOWEST) * BINS_AN_OCTAVE
        self.counts = np.zeros(bins, np.int64) if counts is None else counts
        self.without_sigma = without_sigma

    def add(self, error: NDArray[Any], sigma: NDArray[Any]) -> None:
        """Count voxels.

        Parameters
        ----------
        error
            Truth less estimate, any shape, in the units of ``sigma``.
        sigma
            Standard deviation, at least 0. Voxels with 0 promise nothing that could be scaled;
            they are counted apart (``without_sigma``).
        """
        wide = sigma > 0
        self.without_sigma += int(wide.size - np.count_nonzero(wide))
        ratio = np.abs(error[wide], dtype=np.float64) / sigma[wide]
        with np.errstate(divide="ignore"):
            place = np.floor((np.log2(ratio) - LOWEST) * BINS_AN_OCTAVE)
        inside = np.clip(place, 0, len(self.counts) - 1).astype(np.int64)
        self.counts += np.bincount(inside, minlength=len(self.counts))

    def __add__(self, other: Coverage) -> Coverage:
        return Coverage(self.counts + other.counts, self.without_sigma + other.without_sigma)

    @property
    def voxels(self) -> int:
        """Voxels that were counted, but for those without σ."""
        return int(self.counts.sum())

    def within(self, width: float) -> float:
        """Return which part of the errors is at most ``width`` σ; NaN of none."""
        if self.voxels == 0:
            return float("nan")
        place = np.clip((np.log2(width) - LOWEST) * BINS_AN_OCTAVE, 0, len(self.counts))
        edges = np.concatenate([[0], np.cumsum(self.counts)])
        return float(np.interp(place, np.arange(len(edges)), edges) / self.voxels)

    def width_of(self, level: float) -> float:
        """Return how many σ hold this part of the errors: the quantile of |error|/σ."""
        if self.voxels == 0:
            return float("nan")
        edges = np.concatenate([[0], np.cumsum(self.counts)])
        wanted = level * self.voxels
        bin_ = int(np.searchsorted(edges, wanted, side="left")) - 1
        bin_ = max(bin_, 0)
        part = (wanted - edges[bin_]) / max(int(self.counts[bin_]), 1)
        return float(2.0 ** ((bin_ + part) / BINS_AN_OCTAVE + LOWEST))

    def scale(self, level: float = 0.9) -> float:
        """Return what σ must be multiplied by so that intervals of this level cover as much.

        It is the ratio of two quantiles of |error|/σ, the one seen and the normal distribution's.
        """
        return self.width_of(level) / half_width(level)

    def to_json(self) -> dict[str, Any]:
        """Return the counts, without the empty bins."""
        filled = np.flatnonzero(self.counts)
        return {
            "bins": filled.tolist(),
            "counts": self.counts[filled].tolist(),
            "without_sigma": self.without_sigma,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the counts that `to_json` told of."""
        found = cls(without_sigma=int(values["without_sigma"]))
        found.counts[np.asarray(values["bins"], np.int64)] = values["counts"]
        return found
