"""A synthetic microscope: it samples every n-th plane of the tissue, with its noise and drift."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from msdsr.config import PhantomConfig
from msdsr.phantom.noise import Doubles, Floats, derive_key, hashed, lattice_noise, normal
from msdsr.phantom.tissue import Indices, Tissue

FULL_SCALE = 65535
TRUNCATE = 4.0
DRIFT_ROWS = 48.0
"""Rows over which the laser's intensity wanders."""


@dataclass(frozen=True)
class Field:
    """A field of view: where a slide lies in its tissue, in absolute voxels."""

    z0: int
    y0: int
    x0: int


@dataclass(frozen=True)
class Microscope:
    """How a slide is acquired.

    Parameters
    ----------
    tissue
        What is looked at.
    field
        Where; rows and columns below are counted from its corner.
    settings
        Strength of noise, drift and blur.
    key
        Of this slide's noise.
    """

    tissue: Tissue
    field: Field
    settings: PhantomConfig
    key: int

    def truth(self, planes: int, y: Indices, x: Indices) -> NDArray[np.uint16]:
        """Return the noise-free isotropic tissue (2, planes, y, x)."""
        return to_uint16(self._tissue(np.arange(planes), y, x))

    def acquire(
        self, planes: int, y: Indices, x: Indices, truth: NDArray[np.uint16] | None = None
    ) -> NDArray[np.uint16]:
        """Image a block of the slide.

        Parameters
        ----------
        planes
            Planes to acquire; they lie ``z_ratio`` voxels apart.
        y, x
            Rows and columns of the slide, ascending.
        truth
            What `truth` gave for these rows and columns; saves doing it again when there is no
            axial blur.

        Returns
        -------
        numpy.ndarray
            uint16 (2, planes, y, x).
        """
        settings = self.settings
        z = np.arange(planes, dtype=np.int64) * settings.z_ratio
        if settings.axial_blur_um > 0:
            signal = self._blurred(z, y, x)
        elif truth is not None:
            signal = truth[:, z].astype(np.float32) / np.float32(FULL_SCALE)
        else:
            # Through uint16, so that a slide does not depend on whether its truth is kept.
            quantised = to_uint16(self._tissue(z, y, x))
            signal = quantised.astype(np.float32) / np.float32(FULL_SCALE)
        signal *= self.gain(planes, y, x)
        return to_uint16(self._detect(signal, y, x))

    def _tissue(self, z: Indices, y: Indices, x: Indices) -> Floats:
        at = self.field
        return self.tissue.sample(z + at.z0, y + at.y0, x + at.x0)

    def _blurred(self, z: Indices, y: Indices, x: Indices) -> Floats:
        sigma = self.settings.axial_blur_um / self.settings.voxel_um
        halo = math.ceil(TRUNCATE * sigma)
        sharp = self._tissue(np.arange(z[0] - halo, z[-1] + halo + 1), y, x)
        blurred: Floats = gaussian_filter1d(sharp, sigma, axis=1, truncate=TRUNCATE)
        return np.ascontiguousarray(blurred[:, z + halo])

    def gain(self, planes: int, y: Indices, x: Indices) -> Floats:
        """Return the laser's relative intensity (planes, y, x).

        The stage scans strips along Y; each strip of each plane has its own slow wander.
        """
        strips = np.unique(x // self.settings.strip)
        gain = np.ones((planes, len(y), len(x)), np.float32)
        rows = np.asarray(y, np.float64)
        here: Doubles = np.zeros(1)
        for plane in range(planes):
            for strip in strips:
                key = derive_key(self.key, "laser", plane, strip)
                drift = lattice_noise(key, DRIFT_ROWS, (here, rows, here))[0, :, 0]
                columns = x // self.settings.strip == strip
                gain[plane][:, columns] += np.float32(self.settings.laser_drift) * drift[:, None]
        return np.maximum(gain, 0)

    def _detect(self, signal: Floats, y: Indices, x: Indices) -> Floats:
        """Add shot noise and read noise, plane by plane to stay small.

        A Poisson number is its normal quantile n corrected for skewness (Cornish and Fisher),
        λ + √λ·n + (n² − 1)/6, rounded: right to a count for λ above about 4.
        """
        photons = np.float32(self.settings.photons)
        for channel in range(signal.shape[0]):
            for plane in range(signal.shape[1]):
                view = signal[channel, plane]
                at = (np.array([[channel]]), np.array([[plane]]), y[:, None], x[None, :])
                n = normal(hashed(derive_key(self.key, "shot"), *at))
                mean = view * photons
                count = np.rint(mean + np.sqrt(mean) * n + (n * n - 1) / np.float32(6))
                read = normal(hashed(derive_key(self.key, "read"), *at))
                view[...] = np.maximum(count, 0) / photons
                view += np.float32(self.settings.read_noise) * read
        return signal


def to_uint16(signal: Floats) -> NDArray[np.uint16]:
    """Turn a part of full scale into grey levels, saturating at both ends."""
    levels: NDArray[np.uint16] = np.rint(np.clip(signal, 0, 1) * np.float32(FULL_SCALE)).astype(
        np.uint16
    )
    return levels
