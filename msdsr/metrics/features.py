"""Features of many pictures: kept as rows while they are few, as mergeable sums beyond."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

ROWS_LIMIT = 20_000
"""Rows of 2048 float32 that are kept as they are: 164 MB."""


@dataclass(frozen=True)
class FeatureSums:
    """n, Σx and Σxxᵀ in float64: what a mean and a covariance need, and what can be added up."""

    n: int
    total: NDArray[np.float64]
    outer: NDArray[np.float64]

    @classmethod
    def of(cls, rows: NDArray[Any]) -> Self:
        """Return the sums over rows, shape (n, D)."""
        x = rows.astype(np.float64)
        return cls(len(x), x.sum(axis=0), x.T @ x)

    def __add__(self, other: FeatureSums) -> FeatureSums:
        return FeatureSums(self.n + other.n, self.total + other.total, self.outer + other.outer)

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean, shape (D,)."""
        return self.total / self.n

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Unbiased covariance (divided by n − 1), shape (D, D)."""
        return (self.outer - np.outer(self.total, self.mean)) / (self.n - 1)


class FeatureSet:
    """Features of pictures that belong together, added slide by slide.

    Parameters
    ----------
    limit
        Rows kept. Beyond it every second, fourth, … row is kept as an even sample (`sample`), and
        the sums stand for all of them.
    """

    def __init__(self, limit: int = ROWS_LIMIT) -> None:
        self.limit = limit
        self.n = 0
        self._rows: list[NDArray[np.float32]] = []
        self._sums: FeatureSums | None = None
        self._stride = 1

    @classmethod
    def of(cls, rows: NDArray[Any], limit: int = ROWS_LIMIT) -> Self:
        """Return a set of rows, shape (n, D)."""
        features = cls(limit)
        features.add(rows)
        return features

    def add(self, rows: NDArray[Any]) -> None:
        """Add rows, shape (n, D)."""
        if len(rows) == 0:
            return
        first = -self.n % self._stride
        self._rows.append(rows[first :: self._stride].astype(np.float32))
        self.n += len(rows)
        if self._sums is not None:
            self._sums += FeatureSums.of(rows)
        elif self.n > self.limit:
            self._sums = FeatureSums.of(self.sample)
        while sum(map(len, self._rows)) > self.limit:
            self._rows = [self.sample[::2]]
            self._stride *= 2

    @property
    def complete(self) -> bool:
        """Whether `sample` still holds every row."""
        return self._sums is None

    @property
    def sample(self) -> NDArray[np.float32]:
        """The rows kept, shape (n or fewer, D)."""
        if not self._rows:
            raise ValueError("no features")
        if len(self._rows) > 1:
            self._rows = [np.concatenate(self._rows)]
        return self._rows[0]

    @property
    def dimensions(self) -> int:
        """Length D of a feature vector."""
        return int(self.sample.shape[1])

    def sums(self) -> FeatureSums:
        """Return the sums over all rows ever added."""
        return FeatureSums.of(self.sample) if self._sums is None else self._sums
