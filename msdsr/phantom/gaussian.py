"""Gaussian random fields: volumes of which posterior and slice denoiser are known in closed form.

With the exact denoiser in place of a network, what a sampler gets wrong is the sampler's own: how
slices that were denoised one by one are brought together, and in how many steps. The field is
stationary, isotropic and periodic, so it is diagonal in the Fourier basis; with whole planes
observed, every frequency of the plane is a problem of one line along z.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

Texture = Literal["smooth", "rough"]

RIDGE = 1e-10
"""Added to observed covariances, which are singular to rounding for smooth fields."""

FLOOR = 1e-8
"""The least power of any frequency, relative to the mean."""


@dataclass(frozen=True)
class GaussianField:
    """A periodic field of zero mean and unit variance.

    Parameters
    ----------
    side
        n: the field has n×n×n voxels.
    length
        ℓ, in voxels.
    texture
        Covariance at distance r: exp(−r²/ℓ²) (``smooth``), exp(−r/ℓ) (``rough``).
    """

    side: int
    length: float
    texture: Texture

    @cached_property
    def spectrum(self) -> Tensor:
        """Variance of every frequency, (z, y, x) float64; its mean is 1."""
        lags = torch.arange(self.side, dtype=torch.float64)
        lags = torch.minimum(lags, self.side - lags)
        square = lags[:, None, None] ** 2 + lags[None, :, None] ** 2 + lags[None, None] ** 2
        if self.texture == "smooth":
            covariance = torch.exp(-square / self.length**2)
        else:
            covariance = torch.exp(-square.sqrt() / self.length)
        power = torch.fft.fftn(covariance).real.clamp(min=FLOOR)
        spectrum: Tensor = power / power.mean()
        return spectrum

    @cached_property
    def slice_spectrum(self) -> Tensor:
        """The same of a plane slice of any orientation, (n, n)."""
        return self.spectrum.mean(dim=1)

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw a field, (z, y, x) float64."""
        white = torch.randn(self.spectrum.shape, dtype=torch.float64, generator=generator)
        field: Tensor = torch.fft.ifftn(torch.fft.fftn(white) * self.spectrum.sqrt()).real
        return field

    def posterior(self, truth: Tensor, observed: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a field from the exact posterior, given whole z planes of ``truth``.

        A fresh field plus the kriged difference of the observed planes (Matheron's rule; Journel
        and Huijbregts 1978).

        Parameters
        ----------
        truth
            (z, y, x) float64; only observed planes are looked at.
        observed
            (z,) bool.
        generator
            Source of randomness.
        """
        fresh = self.sample(generator)
        gain, _ = _conditional(self.spectrum.reshape(self.side, -1), observed)
        difference = torch.fft.fft2((truth - fresh)[observed]).reshape(int(observed.sum()), -1)
        missing = torch.einsum("kuo,ok->uk", gain.to(difference.dtype), difference)
        drawn = fresh.clone()
        drawn[~observed] += torch.fft.ifft2(missing.reshape(-1, self.side, self.side)).real
        drawn[observed] = truth[observed]
        return drawn


class SliceDenoiser:
    """E[x0 | x, observed rows] of one slice of a field: an exact `Denoiser`.

    It knows one slice alone, as a network does that was trained on images.

    Parameters
    ----------
    field
        What the slices are cut from; a tile must show a whole slice of it.
    observed
        (rows,) bool: the rows that every call must have observed.
    """

    def __init__(self, field: GaussianField, observed: Tensor) -> None:
        self._observed, self._side = observed, field.side
        half = field.slice_spectrum[:, : field.side // 2 + 1]
        gain, spread = _conditional(half, observed)
        values, vectors = torch.linalg.eigh(spread)
        self._gain, self._vectors = gain.to(torch.complex128), vectors.to(torch.complex128)
        self._values = values.clamp(min=0)[:, :, None]

    def __call__(self, x: Tensor, sigma: float, clean: Tensor, observed: Tensor) -> Tensor:
        """Return x0 of slices (N, C, rows, columns), in the dtype of ``x``."""
        if not torch.equal(observed, self._observed) or x.shape[-1] != self._side:
            raise ValueError("a tile must show a whole slice, with the rows that were promised")
        waves, known = (
            torch.fft.rfft(image.double(), norm="ortho").flatten(0, 1).permute(2, 1, 0)
            for image in (x, clean)
        )
        mean = self._gain @ known[:, self._observed]
        rest = self._vectors.mT @ (waves[:, ~self._observed] - mean)
        shrunk = self._values / (self._values + sigma**2) * rest
        found = known.clone()
        found[:, ~self._observed] = mean + self._vectors @ shrunk
        images = torch.fft.irfft(found.permute(2, 1, 0), n=self._side, norm="ortho")
        return torch.where(observed[:, None], clean, images.reshape(x.shape).to(x.dtype))


def _conditional(spectrum: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    """Return what observed places say about the others, for each of many periodic lines.

    Parameters
    ----------
    spectrum
        (n, lines): the power of each line's n frequencies.
    observed
        (n,) bool.

    Returns
    -------
    tuple of Tensor
        Gain K_uo·K_oo⁻¹ (lines, u, o) and covariance K_uu − K_uo·K_oo⁻¹·K_ou (lines, u, u).
    """
    n = len(spectrum)
    places = torch.arange(n)
    lags = (places[:, None] - places[None]) % n
    covariance = torch.fft.ifft(spectrum, dim=0).real[lags].permute(2, 0, 1)
    within = covariance[:, observed][:, :, observed]
    between = covariance[:, ~observed][:, :, observed]
    ridge = RIDGE * torch.eye(within.shape[-1], dtype=torch.float64)
    gain = torch.linalg.solve(within + ridge, between.mT).mT
    spread = covariance[:, ~observed][:, :, ~observed] - gain @ between.mT
    return gain, (spread + spread.mT) / 2


def frechet_by_plane(field: GaussianField, volumes: Tensor) -> dict[str, float]:
    """Return the relative Fréchet distance of volumes' slices from the field's, ×10³.

    Slices of a stationary Gaussian field are determined by their spectrum P, so the distance of
    Fréchet has a closed form: Σ (√P_found − √P)² / Σ P, with P_found the mean periodogram of all
    slices of one orientation. It is what FID is, without a feature network.

    Parameters
    ----------
    field
        The law that slices should follow.
    volumes
        (volumes, z, y, x) float64. Few volumes leave a distance of their own: compare with what
        the exact posterior scores.

    Returns
    -------
    dict
        ``XY``, ``XZ``, ``YZ`` and their ``mean``.
    """
    wanted = field.slice_spectrum.sqrt()
    distances = {}
    for plane, across in (("XY", 1), ("XZ", 2), ("YZ", 3)):
        within = [axis for axis in (1, 2, 3) if axis != across]
        power = torch.fft.fft2(volumes, dim=within, norm="ortho").abs() ** 2
        found = power.mean(dim=(0, across)).sqrt()
        step = (found - wanted).square().sum() / wanted.square().sum()
        distances[plane] = 1e3 * float(step)
    return {**distances, "mean": sum(distances.values()) / 3}
