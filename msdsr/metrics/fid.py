"""The Fréchet distance between two sets of features, FID, and SliceFID, its mean over planes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, eigh, eigvalsh, svdvals

from msdsr.metrics.features import FeatureSet, FeatureSums

MIN_UNBIASED = 2048
"""Below as many images as there are features, a covariance is singular and FID clearly too high."""

MIN_SETTLED = 10_000
"""Below it the bias, which falls as 1/n, is still felt (Chong and Forsyth, CVPR 2020)."""


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
    the eigenvalues of Σ₁Σ₂, which a symmetric matrix shares.
    """
    if min(real.n, fake.n) < 2:
        raise ValueError("a covariance needs at least two images")
    if real.complete and fake.complete and min(real.n, fake.n) < real.dimensions:
        return frechet_from_rows(real.sample, fake.sample)
    return frechet_from_sums(real.sums(), fake.sums())


def fid_notes(images: int, dimensions: int = MIN_UNBIASED) -> list[str]:
    """Return what a reader of a FID must know, given the images of the smaller set.

    Parameters
    ----------
    images
        Images of the smaller of the two sets.
    dimensions
        Length of a feature vector.

    Returns
    -------
    list of str
        A warning of a singular covariance (fewer images than features), else of the bias of few
        images; empty from 10,000 images on.
    """
    if images >= MIN_SETTLED:
        return []
    few = f"fewer than {MIN_SETTLED}"
    if images <= dimensions:
        few = f"no more than its {dimensions} features: a covariance is singular"
    note = (
        f"FID on {images} images ({few}) is biased upward: compare it only with figures from the "
        "same number of images; KID is not biased"
    )
    return [note]


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
    """Return the Fréchet distance from sums: tr (Σ₁Σ₂)^½ = Σ √λ(Σ₁Σ₂)."""
    cov_x, cov_y = x.covariance, y.covariance
    root = float(np.sqrt(_eigenvalues_of_product(cov_x, cov_y).clip(min=0)).sum())
    step = x.mean - y.mean
    return max(0.0, float(step @ step + np.trace(cov_x) + np.trace(cov_y) - 2 * root))


def _eigenvalues_of_product(
    cov_x: NDArray[np.float64], cov_y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the eigenvalues of Σ₁Σ₂, from a symmetric matrix that has the same.

    That is LᵀΣ₂L with Σ₁ = LLᵀ (Cholesky), or where Σ₁ is singular, Σ₁^½ Σ₂ Σ₁^½.
    """
    try:
        # "gv" is half as long under way as the default; the stubs know of no driver beside b.
        found = eigvalsh(cov_y, cov_x, type=2, driver="gv")  # type: ignore[arg-type]
    except LinAlgError:
        values, vectors = eigh(cov_x)
        half = vectors * np.sqrt(np.clip(values, 0, None))
        inner = half.T @ cov_y @ half
        found = eigvalsh((inner + inner.T) / 2)
    return np.asarray(found, np.float64)


def slice_mean(by_plane: Mapping[str, float]) -> float:
    """Return the mean of a distance over the XY, XZ and YZ slices (paper, Eq. 10: SliceFID)."""
    return (by_plane["XY"] + by_plane["XZ"] + by_plane["YZ"]) / 3
