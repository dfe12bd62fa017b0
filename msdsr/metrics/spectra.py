"""How a volume varies along its axes: power spectra, and the steps between neighbouring planes.

A restored volume can look right in every slice of one orientation and still be wrong across them:
slices that do not know of each other make it jump from one to the next, and a mean of two volumes
is too smooth. Both show here without any learned network, against a volume of the same tissue.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

AXES = ("z", "y", "x")


def power_spectrum(volume_CZYX: NDArray[Any], axis: str) -> NDArray[np.float64]:
    """Return the mean power spectrum of all lines of voxels along one axis.

    Each line loses its mean and is tapered by a Hann window, so that its two ends, which do not
    meet, leave no power at high frequencies (Welch 1967, one segment a line).

    Parameters
    ----------
    volume_CZYX
        Any real dtype; at least 4 voxels along the axis.
    axis
        ``z``, ``y`` or ``x``.

    Returns
    -------
    numpy.ndarray
        (c, n // 2): power at 1, 2, … n // 2 cycles a line, channel by channel; the constant is
        left out.
    """
    lines = np.moveaxis(volume_CZYX.astype(np.float64), 1 + AXES.index(axis), -1)
    n = lines.shape[-1]
    if n < 4:
        raise ValueError(f"no spectrum along {axis} of {n} voxels")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(n) + 0.5) / n)
    lines = (lines - lines.mean(axis=-1, keepdims=True)) * window
    power = np.abs(np.fft.rfft(lines, axis=-1)[..., 1:]) ** 2
    spectrum: NDArray[np.float64] = power.mean(axis=(1, 2)) / np.sum(window**2)
    return spectrum


def spectral_distance(restored_CZYX: NDArray[Any], truth_CZYX: NDArray[Any], axis: str) -> float:
    """Return the log-spectral distance of two volumes along one axis (dB).

    √(mean over frequencies of (10·log₁₀ P/P_truth)²), mean over channels: Gray and Markel (1976,
    IEEE Trans. ASSP 24, 380), with the spectra of `power_spectrum`. 0 is perfect; 3 dB is half or
    twice the power at every frequency. The phase does not enter.

    Parameters
    ----------
    restored_CZYX, truth_CZYX
        Of the same shape, or at least with as many channels and voxels along the axis.
    axis
        ``z``, ``y`` or ``x``.
    """
    found, true = (power_spectrum(v, axis) for v in (restored_CZYX, truth_CZYX))
    tiny = np.finfo(np.float64).tiny
    decibels = 10 * np.log10(np.maximum(found, tiny) / np.maximum(true, tiny))
    return float(np.sqrt((decibels**2).mean(axis=1)).mean())


def lag_one(volume_CZYX: NDArray[Any], axis: str) -> NDArray[np.float64]:
    """Return the mean |difference| of neighbouring planes across one axis, shape (c,)."""
    steps = np.abs(np.diff(volume_CZYX.astype(np.float64), axis=1 + AXES.index(axis)))
    mean: NDArray[np.float64] = steps.mean(axis=(1, 2, 3))
    return mean


def lag_one_ratio(restored_CZYX: NDArray[Any], truth_CZYX: NDArray[Any], axis: str) -> float:
    """Return the step between neighbouring planes across an axis, over the truth's.

    1 is right; above it the slices jump, below it the volume is too smooth. Geometric mean over
    channels.

    Parameters
    ----------
    restored_CZYX, truth_CZYX
        Of the same tissue; at least 2 voxels along the axis.
    axis
        ``z``, ``y`` or ``x``: the one that the planes are perpendicular to.
    """
    ratio = lag_one(restored_CZYX, axis) / lag_one(truth_CZYX, axis)
    return float(np.exp(np.log(ratio).mean()))


def frequencies(n: int, spacing_um: float) -> NDArray[np.float64]:
    """Return where the values of `power_spectrum` stand (cycles/µm), shape (n // 2,).

    Parameters
    ----------
    n
        Voxels along the axis.
    spacing_um
        Their distance (µm). The last frequency of an even n is 1 / (2 · spacing), Nyquist's.
    """
    return np.asarray(np.fft.rfftfreq(n, spacing_um)[1:], np.float64)


def power_ratio(
    restored_CZYX: NDArray[Any], truth_CZYX: NDArray[Any], axis: str
) -> NDArray[np.float64]:
    """Return the power along one axis over the truth's, frequency by frequency.

    1 is right; below it detail of that size is missing, above it there is too much of it. The
    phase does not enter: that the detail stands in its place, only `msdsr.metrics.frc` shows.

    Parameters
    ----------
    restored_CZYX, truth_CZYX
        Of the same shape, or at least with as many channels and voxels along the axis.
    axis
        ``z``, ``y`` or ``x``.

    Returns
    -------
    numpy.ndarray
        (c, n // 2), at the places of `frequencies`; nan where the truth has no power.
    """
    found, true = (power_spectrum(v, axis) for v in (restored_CZYX, truth_CZYX))
    ratio: NDArray[np.float64] = np.divide(
        found, true, out=np.full_like(true, np.nan), where=true > 0
    )
    return ratio
