"""Squared maximum mean discrepancies between two sets of features: KID, and MMD as in CMMD.

MMD² = E k(x, x′) + E k(y, y′) − 2 E k(x, y) (Gretton et al., JMLR 13, 2012, 723), estimated without
the terms of an image with itself. The estimate is unbiased whatever the number of images, so it can
be compared where FID cannot; it may fall below 0 for two samples of one distribution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msdsr.metrics.features import FeatureSet

ROWS = 5000
"""Most rows of a set that enter, evenly spread."""

BLOCK = 1000
MEDIAN_ROWS = 1000
"""Real images whose distances give the width of the Gaussian kernel."""

MMD_SCALE = 1000.0
"""The squared discrepancy is reported a thousandfold, as Jayasumana et al. do."""

Array = NDArray[np.float64]
Kernel = Callable[[Array, Array], Array]
"""(n, D) and (m, D) features in, (n, m) similarities out."""


@dataclass(frozen=True)
class Estimate:
    """A discrepancy and its standard error (both in the same unit)."""

    value: float
    se: float


@dataclass(frozen=True)
class _Sums:
    """Kernel sums of every image of a set: over the others of the set, and over the other set."""

    within: Array
    across: Array


class Discrepancy:
    """The unbiased squared maximum mean discrepancy from one set of real images.

    Parameters
    ----------
    real
        At least two images; what depends on them alone is computed once.
    kernel
        A positive definite similarity.
    scale
        What the squared discrepancy is multiplied by.

    Notes
    -----
    The standard error is the jackknife's over both sets: the spread of the estimates that leave
    out one image (Efron and Stein, Ann. Stat. 9, 1981, 586), which is not below the true one on
    average. It takes images as independent; crops of one patient are not, which is what
    `msdsr.metrics.bootstrap` is for.
    """

    def __init__(self, real: FeatureSet, kernel: Kernel, scale: float = 1.0) -> None:
        self.kernel, self.scale = kernel, scale
        self.real = thinned(real.sample)
        self._within = row_sums(kernel, self.real, self.real) - diagonal(kernel, self.real)
        if len(self.real) < 2:
            raise ValueError("an unbiased estimate needs at least two images")

    @property
    def real_mean(self) -> float:
        """Mean similarity of two different real images."""
        m = len(self.real)
        return float(self._within.sum() / (m * (m - 1)))

    def __call__(self, fake: FeatureSet) -> float:
        """Return the discrepancy of a set of at least two images."""
        return self.estimate(fake).value

    def estimate(self, fake: FeatureSet) -> Estimate:
        """Return the discrepancy of a set of at least two images, and its standard error.

        With fewer than three images in a set nothing can be left out: the error is nan.
        """
        rows = thinned(fake.sample)
        n, m = len(rows), len(self.real)
        if n < 2:
            raise ValueError("an unbiased estimate needs at least two images")
        of_fake = np.zeros(n)
        of_real = np.zeros(m)
        for i in range(0, n, BLOCK):
            across = self.kernel(rows[i : i + BLOCK], self.real)
            of_fake[i : i + BLOCK] = across.sum(axis=1)
            of_real += across.sum(axis=0)
        within = row_sums(self.kernel, rows, rows) - diagonal(self.kernel, rows)
        mine, theirs = _Sums(within, of_fake), _Sums(self._within, of_real)
        value = _mean(mine) + _mean(theirs) - 2 * float(of_fake.sum()) / (n * m)
        if min(n, m) < 3:
            return Estimate(self.scale * value, float("nan"))
        variance = _jackknife_variance(mine, m) + _jackknife_variance(theirs, n)
        return Estimate(self.scale * value, self.scale * float(np.sqrt(variance)))


class Kid(Discrepancy):
    """KID: kernel (x·y/D + 1)³ (Bińkowski et al., Demystifying MMD GANs, 2018).

    Parameters
    ----------
    real
        At least two images.
    """

    def __init__(self, real: FeatureSet) -> None:
        super().__init__(real, cubic)


class Mmd(Discrepancy):
    """MMD with a Gaussian kernel, as CMMD has it, but on Inception features, not on CLIP's.

    1000 · MMD² with k(x, y) = exp(−‖x − y‖² / 2σ²) (Jayasumana et al., Rethinking FID, CVPR 2024,
    with σ = 10 for CLIP features). CLIP's scale is not Inception's: here σ is the median distance
    between real images (Gretton et al., 2012, section 8), so it depends on the reference alone and
    all methods are judged by one kernel. Figures are not comparable with published CMMDs. The
    estimate is the unbiased one; theirs keeps the terms of an image with itself.

    Parameters
    ----------
    real
        At least two different images.
    """

    def __init__(self, real: FeatureSet) -> None:
        self.sigma = median_distance(real)
        super().__init__(real, gaussian(self.sigma), MMD_SCALE)


def cubic(x: Array, y: Array) -> Array:
    """Return (x·y/D + 1)³."""
    similar: Array = (x @ y.T / x.shape[1] + 1) ** 3
    return similar


def gaussian(sigma: float) -> Kernel:
    """Return the kernel exp(−‖x − y‖² / 2σ²)."""

    def kernel(x: Array, y: Array) -> Array:
        similar: Array = np.exp(-squared_distances(x, y) / (2 * sigma**2))
        return similar

    return kernel


def squared_distances(x: Array, y: Array) -> Array:
    """Return ‖x − y‖² of each row with each, not below 0; shape (n, m)."""
    squares = (x * x).sum(axis=1)[:, None] + (y * y).sum(axis=1) - 2 * x @ y.T
    found: Array = np.maximum(squares, 0)
    return found


def median_distance(features: FeatureSet) -> float:
    """Return the median distance between two images of a set (from at most 1000 of them).

    Raises
    ------
    ValueError
        When most images are the same: their distances give no width.
    """
    rows = thinned(features.sample, MEDIAN_ROWS)
    above = np.triu_indices(len(rows), 1)
    median = float(np.sqrt(np.median(squared_distances(rows, rows)[above]))) if len(rows) > 1 else 0
    if median <= 0:
        raise ValueError("the distances between real images give no width of the kernel")
    return median


def thinned(rows: NDArray[Any], count: int = ROWS) -> Array:
    """Return at most ``count`` rows, evenly spread, as float64."""
    return rows[kept_rows(len(rows), count)].astype(np.float64)


def kept_rows(n: int, count: int = ROWS) -> NDArray[np.int64]:
    """Return the numbers of at most ``count`` of n rows, evenly spread."""
    if n <= count:
        return np.arange(n)
    return np.linspace(0, n - 1, count).round().astype(np.int64)


def row_sums(kernel: Kernel, x: Array, y: Array) -> Array:
    """Return the sum of similarities of each row of x with all of y, shape (n,)."""
    blocks = range(0, len(x), BLOCK)
    return np.concatenate([kernel(x[i : i + BLOCK], y).sum(axis=1) for i in blocks])


def diagonal(kernel: Kernel, x: Array) -> Array:
    """Return the similarity of each row with itself, shape (n,)."""
    side = 64
    blocks = (x[i : i + side] for i in range(0, len(x), side))
    return np.concatenate([np.diagonal(kernel(block, block)) for block in blocks])


def _mean(sums: _Sums) -> float:
    n = len(sums.within)
    return float(sums.within.sum() / (n * (n - 1)))


def _jackknife_variance(sums: _Sums, others: int) -> float:
    """Return the variance that comes from one set, from the estimates without each of its images.

    Leaving out image i takes its row and its column, 2·within_i, off the double sum, and across_i
    off the sum over both sets. What the other set has within itself stays, and is left out here.
    """
    n = len(sums.within)
    within = (sums.within.sum() - 2 * sums.within) / ((n - 1) * (n - 2))
    across = (sums.across.sum() - sums.across) / ((n - 1) * others)
    left = within - 2 * across
    return float((n - 1) / n * ((left - left.mean()) ** 2).sum())
