"""Several samples of one volume: their mean or the first of them, and how far they lie apart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

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

    def __init__(self) -> None:
        self.count = 0
        self._mean: NDArray[np.float32] | None = None
        self._squares: NDArray[np.float32] | None = None

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
