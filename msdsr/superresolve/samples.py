"""Several samples of one volume: their mean or the first of them, and how far they lie apart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


def sample_seed(seed: int, k: int) -> int:
    """Return the seed of sample k: that of the run for k = 0, else a hash of both.

    So the first sample is the volume that one sample alone gives, and more samples change none.
    """
    if k == 0:
        return seed
    digest = hashlib.sha256(f"msdsr sample {k} of {seed}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


class Moments:
    """Mean and variance of volumes that come one after another (Welford 1962).

    Memory does not grow with their number: two float32 volumes, whatever the dtype of theirs.
    """

    def __init__(
        self,
        count: int = 0,
        mean: NDArray[np.float32] | None = None,
        squares: NDArray[np.float32] | None = None,
    ) -> None:
        self.count, self._mean, self._squares = count, mean, squares

    def add(self, voxels: NDArray[Any]) -> None:
        """Take one more volume; all have one shape."""
        new = voxels.astype(np.float32)
        self.count += 1
        if self._mean is None or self._squares is None:
            self._mean, self._squares = new, np.zeros_like(new)
            return
        before = new - self._mean
        self._mean += before / np.float32(self.count)
        self._squares += before * (new - self._mean)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return the mean and the sum of squared differences from it."""
        if self._mean is None or self._squares is None:
            raise ValueError("no volume yet")
        return {"mean": self._mean, "squares": self._squares}

    @property
    def mean(self) -> NDArray[np.float32]:
        """The mean so far; bit for bit the common value where all agree."""
        if self._mean is None:
            raise ValueError("no volume yet")
        return self._mean

    @property
    def std(self) -> NDArray[np.float32]:
        """The standard deviation so far, with n − 1; of one volume 0."""
        if self._squares is None:
            raise ValueError("no volume yet")
        std: NDArray[np.float32] = np.sqrt(
            np.maximum(self._squares, 0) / np.float32(max(self.count - 1, 1))
        )
        return std


def moments_of(volumes: Iterable[NDArray[Any]]) -> Moments:
    """Return the moments of some volumes."""
    moments = Moments()
    for voxels in volumes:
        moments.add(voxels)
    return moments


@dataclass
class Samples:
    """The finished samples of a block: the first of them, and the moments of all."""

    first: NDArray[Any]
    moments: Moments

    @classmethod
    def begin(cls, first: NDArray[Any]) -> Self:
        """Return what one sample comes to."""
        return cls(first, moments_of([first]))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all but the count as arrays."""
        return {"first": np.ascontiguousarray(self.first), **self.moments.arrays()}

    @classmethod
    def from_arrays(cls, count: int, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Return the samples that `arrays` told of."""
        return cls(arrays["first"], Moments(count, arrays["mean"], arrays["squares"]))
