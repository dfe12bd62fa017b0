"""Distances between two sets of features: FID, KID, and SliceFID, the mean over three planes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, eigvalsh, svdvals

from msdsr.metrics.features import FeatureSet, FeatureSums

KID_ROWS = 5000
KID_BLOCK = 1000
MIN_UNBIASED = 2048
"""Below as many images as there are features, a covariance is singular and FID clearly too high."""


def fid(real: FeatureSet, fake: FeatureSet) -> float:
    """Return the Fréchet distance between the Gaussians fitted to two sets of features.

    d² = ‖μ₁ − μ₂‖² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁Σ₂)^½ (Heusel et al., 2017, who call it FID).

    Parameters
    ----------
    real, fake
        At least two images each. The distance is symmetric.

    Returns
    -------
    float
        Not below 0. Biased upward for few images: compare only figures with the same n.

    Notes
    -----
    The trace of the root comes without a matrix root: with fewer images than features it is the
    nuclear norm of the product of the two centred feature matrices, else the sum of the roots of
    the eigenvalues of Σ₁^½ Σ₂ Σ₁^½.
    """
    if min(real.n, fake.n) < 2:
        raise ValueError("a covariance needs at least two images")
    if real.complete and fake.complete and min(real.n, fake.n) < real.dimensions:
        return frechet_from_rows(real.sample, fake.sample)
    return frechet_from_sums(real.sums(), fake.sums())


def frechet_from_rows(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Return the Fréchet distance from the features themselves, (n, D) and (m, D).

    With A = Xc/√(n−1), B = Yc/√(m−1): tr (AᵀA BᵀB)^½ = ‖A Bᵀ‖_* (nuclear norm).
    """
    a, b = (_centred(rows) for rows in (x, y))
    root = float(svdvals(a @ b.T).sum())
    step = x.mean(axis=0, dtype=np.float64) - y.mean(axis=0, dtype=np.float64)
    return max(0.0, float(step @ step + (a * a).sum() + (b * b).sum() - 2 * root))


def _centred(rows: NDArray[Any]) -> NDArray[np.float64]:
    x = rows.astype(np.float64)
    centred: NDArray[np.float64] = (x - x.mean(axis=0)) / np.sqrt(len(x) - 1)
    return centred


def frechet_from_sums(x: FeatureSums, y: FeatureSums) -> float:
    """Return the Fréchet distance from sums: tr (Σ₁Σ₂)^½ = Σ √λ(Σ₁^½ Σ₂ Σ₁^½)."""
    cov_x, cov_y = x.covariance, y.covariance
    values, vectors = eigh(cov_x)
    half = vectors * np.sqrt(np.clip(values, 0, None))
    inner = half.T @ cov_y @ half
    root = float(np.sqrt(np.clip(eigvalsh((inner + inner.T) / 2), 0, None)).sum())
    step = x.mean - y.mean
    return max(0.0, float(step @ step + np.trace(cov_x) + np.trace(cov_y) - 2 * root))


class Kid:
    """The unbiased squared maximum mean discrepancy from one set of real images.

    Kernel (x·y/D + 1)³, the diagonal left out (Bińkowski et al., 2018, who call it KID). Its
    expectation does not depend on n, so it can be compared where FID cannot; it may fall below 0
    for two samples of one distribution. From at most 5000 rows a set, evenly spread.

    Parameters
    ----------
    real
        At least two images; what depends on them alone is computed once.
    """

    def __init__(self, real: FeatureSet) -> None:
        self._real = _at_most(real.sample, KID_ROWS)
        self._within = _mean_off_diagonal(self._real)

    def __call__(self, fake: FeatureSet) -> float:
        """Return the discrepancy of a set of at least two images."""
        rows = _at_most(fake.sample, KID_ROWS)
        across = _kernel_sum(self._real, rows) / (len(self._real) * len(rows))
        return self._within + _mean_off_diagonal(rows) - 2 * across


def _at_most(rows: NDArray[Any], count: int) -> NDArray[np.float64]:
    if len(rows) > count:
        rows = rows[np.linspace(0, len(rows) - 1, count).round().astype(int)]
    return rows.astype(np.float64)


def _kernel_sum(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    blocks = range(0, len(x), KID_BLOCK)
    return float(sum(((x[i : i + KID_BLOCK] @ y.T / x.shape[1] + 1) ** 3).sum() for i in blocks))


def _mean_off_diagonal(x: NDArray[np.float64]) -> float:
    if len(x) < 2:
        raise ValueError("an unbiased estimate needs at least two images")
    diagonal = float((((x * x).sum(axis=1) / x.shape[1] + 1) ** 3).sum())
    return (_kernel_sum(x, x) - diagonal) / (len(x) * (len(x) - 1))


def slice_mean(by_plane: Mapping[str, float]) -> float:
    """Return the mean of a distance over the XY, XZ and YZ slices (paper, Eq. 10: SliceFID)."""
    return (by_plane["XY"] + by_plane["XZ"] + by_plane["YZ"]) / 3
