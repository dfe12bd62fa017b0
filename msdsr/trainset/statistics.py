"""Mean, σ and percentiles of a channel from a streaming histogram, whatever the amount of data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (0.1, 1.0, 50.0, 99.0, 99.9)
BINS = 1 << 16


@dataclass
class Histogram:
    """Counts of the values of each channel, and their sums.

    Integers of up to 16 bits are counted one by one, so everything that comes out is exact.
    32-bit floats are counted by their upper 16 bits (sign, exponent, 7 bits of mantissa), so a
    percentile is within 0.4 % of the value; mean and σ come from sums in double precision.

    Attributes
    ----------
    counts
        (C, 65536), int64.
    total, square
        (C,), sums of the values and of their squares, float64.
    """

    dtype: np.dtype[Any]
    counts: NDArray[np.int64]
    total: NDArray[np.float64]
    square: NDArray[np.float64]

    @classmethod
    def empty(cls, channels: int, dtype: np.dtype[Any]) -> Histogram:
        """Return a histogram that has counted nothing."""
        if dtype not in (np.uint8, np.uint16, np.float32):
            raise ValueError(f"uint8, uint16 or float32, not {dtype}")
        zeros = np.zeros(channels)
        return cls(dtype, np.zeros((channels, BINS), np.int64), zeros.copy(), zeros.copy())

    def add(self, image_CYX: NDArray[Any]) -> None:
        """Count the pixels of an image (C, Y, X)."""
        for channel, pixels in enumerate(image_CYX):
            values = np.ascontiguousarray(pixels).ravel()
            self.counts[channel] += np.bincount(_bins(values), minlength=BINS)
            if self.dtype == np.float32:
                exact = values.astype(np.float64)
                self.total[channel] += exact.sum()
                self.square[channel] += np.dot(exact, exact)

    def merge(self, other: Histogram) -> None:
        """Add the counts of another histogram."""
        self.counts += other.counts
        self.total += other.total
        self.square += other.square

    def summary(self, channel: int) -> dict[str, Any]:
        """Return ``mean``, ``std`` and ``percentiles`` (by name, as ``"99.9"``) of a channel.

        A percentile is the smallest value that at least that part of the pixels does not exceed.
        """
        counts = self.counts[channel]
        pixels = int(counts.sum())
        if pixels == 0:
            raise ValueError("no pixel was counted")
        values = _values(self.dtype)
        if self.dtype == np.float32:
            mean = self.total[channel] / pixels
            variance = self.square[channel] / pixels - mean**2
        else:
            mean = np.dot(counts, values) / pixels
            variance = np.dot(counts, (values - mean) ** 2) / pixels
        ranks = np.ceil(np.array(PERCENTILES) / 100 * pixels)
        order = np.argsort(values, kind="stable")
        at = order[np.searchsorted(np.cumsum(counts[order]), ranks)]
        return {
            "mean": float(mean),
            "std": float(np.sqrt(max(variance, 0.0))),
            "percentiles": {
                f"{p:g}": float(v) for p, v in zip(PERCENTILES, values[at], strict=True)
            },
        }


def _bins(values: NDArray[Any]) -> NDArray[Any]:
    """Return the bin of each value."""
    if values.dtype == np.float32:
        return values.view(np.uint32) >> 16
    return values


def _values(dtype: np.dtype[Any]) -> NDArray[np.float64]:
    """Return the value each bin stands for: itself, or the middle of its range for floats."""
    bins = np.arange(BINS, dtype=np.uint32)
    if dtype != np.float32:
        return bins.astype(np.float64)
    finite = (bins & 0x7F80) != 0x7F80
    middles = (np.where(finite, bins, 0) << 16 | 0x8000).astype(np.uint32).view(np.float32)
    sign = np.where(bins < 0x8000, 1.0, -1.0)
    return np.where(finite, middles.astype(np.float64), sign * np.inf)
