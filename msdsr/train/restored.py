"""What the averaged weights are for: crops of validation patients, restored as inference does."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from msdsr.config import ModelConfig
from msdsr.diffusion.baselines import RowFiller
from msdsr.diffusion.denoiser import NetworkDenoiser
from msdsr.diffusion.masks import stride_mask
from msdsr.diffusion.network import Model
from msdsr.diffusion.noise import NoiseField
from msdsr.diffusion.sampler import restore_slices
from msdsr.metrics.features import FeatureSet
from msdsr.metrics.fid import fid
from msdsr.metrics.similarity import SSIM_SIDE, ssim_rows
from msdsr.presets import Kind
from msdsr.train.data import Crops, CropSampler, Trainset, gather, read_images
from msdsr.train.randomness import RESTORED, generator
from msdsr.volume.colour import Window, colours, to_rgb8

FACTORS = (2, 4, 8)

Restore = Callable[[Tensor, Tensor, int], Tensor]
"""``restore(clean, observed, first)`` fills the hidden rows of crops from number ``first`` on."""

Features = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Pictures (N, 3, h, w) in, features (N, D) out: `msdsr.metrics.inception.Inception`."""


class FewSteps:
    """The sampler of inference with few steps; its noise depends on the crop and the seed alone.

    Parameters
    ----------
    model
        The network, in evaluation mode, and what gives its numbers a meaning.
    settings
        Recipe: precision, and the number of steps.
    seed
        Of the training.
    """

    def __init__(self, model: Model, settings: ModelConfig, seed: int) -> None:
        self._denoiser = NetworkDenoiser(model, settings.optimiser.precision)
        self._sigmas = model.sigma_grid(settings.optimiser.restored_steps)
        self._field = NoiseField(seed)

    def __call__(self, clean: Tensor, observed: Tensor, first: int) -> Tensor:
        """Return (N, C, H, W) in model units; observed rows as they are."""
        count, channels, height, width = clean.shape
        region = (first, first + count, 0, height, 0, width)

        def noise(step: int) -> Tensor:
            return self._field.normal(step, channels, region, clean.device).transpose(0, 1)

        return restore_slices(self._denoiser, clean, observed, noise, self._sigmas)


class OnePass:
    """The one pass of MS-UNet; parameters and noise as those of :class:`FewSteps`."""

    def __init__(self, model: Model, settings: ModelConfig, seed: int) -> None:
        self._filler = RowFiller(model, settings.optimiser.precision)
        self._field = NoiseField(seed)

    def __call__(self, clean: Tensor, observed: Tensor, first: int) -> Tensor:
        """Return (N, C, H, W) in model units; observed rows as they are."""
        count, channels, height, width = clean.shape
        region = (first, first + count, 0, height, 0, width)
        noise = self._field.normal(0, channels, region, clean.device).transpose(0, 1)
        return self._filler(noise, clean, observed)


RESTORERS: dict[Kind, Callable[[Model, ModelConfig, int], Restore]] = {
    "msdsr": FewSteps,
    "ms_unet": OnePass,
}
"""How the kinds fill rows that do."""


@dataclass(frozen=True)
class RestoredCrops:
    """Fixed crops whose rows are thinned out, restored and compared with what they were.

    Attributes
    ----------
    x0
        (N, C, H, W) in model units, on the device of the network.
    model
        Whose transform leads back to raw intensities; its network is the one that is judged.
    restore
        Fills the unobserved rows.
    dtype
        Of the stored images, which restored values are rounded to.
    peaks
        Range of each channel (raw): 0.1st to 99.9th percentile of the training split.
    batch
        Crops restored at a time.
    features
        The Inception network for FID, or None.
    """

    x0: Tensor
    model: Model
    restore: Restore
    dtype: np.dtype[Any]
    peaks: NDArray[np.float64]
    batch: int
    features: Features | None = None

    @classmethod
    def draw(
        cls,
        trainset: Trainset,
        settings: ModelConfig,
        model: Model,
        seed: int,
        features: Features | None,
    ) -> Self | None:
        """Draw the crops from the split ``val``; None when there is nothing to draw or to judge.

        Crops are drawn with equal shares for the patients; they depend on the seed alone.
        """
        size, count = settings.network.image_size, settings.optimiser.restored_crops
        rows = trainset.rows("val", size)
        restorer = RESTORERS.get(model.kind)
        if restorer is None or rows.empty or settings.optimiser.validate_restored_every == 0:
            return None
        drawn = CropSampler(rows, size, "patient").draw(count, generator(seed, 0, RESTORED, "cpu"))
        images, where = np.unique(drawn.image.numpy(), return_inverse=True)
        stored = read_images(trainset, rows["image"].to_numpy()[images])
        local = Crops(
            torch.from_numpy(where), drawn.y, drawn.x, drawn.turned, drawn.flip_y, drawn.flip_x
        )
        x0 = model.transform.forward(gather(stored, local, size)).to(model.device)
        percentiles = [trainset.statistics[name]["percentiles"] for name in trainset.channels]
        spread = np.array([float(p["99.9"]) - float(p["0.1"]) for p in percentiles])
        return cls(
            x0,
            model,
            restorer(model, settings, seed),
            np.dtype(trainset.images.dtype),
            np.where(spread > 0, spread, 1.0),
            settings.optimiser.micro_batch,
            features,
        )

    @torch.no_grad()
    def figures(self) -> dict[str, float]:
        """Restore every crop at 2×, 4× and 8×.

        Returns
        -------
        dict
            ``ssim_<s>x``, and with a feature network ``fid_<s>x``, and the means over the factors
            ``ssim``, ``fid``; and ``crops``, their number. SSIM is of the unobserved rows
            (its windows reach into observed ones), mean over crops and channels; FID is the
            distance between the restored crops and the same crops as they were, shown through one
            window. FID of so few pictures is biased upward: it compares validations of one
            training, not trainings with different crops.
        """
        truth, real = self._truth, self._real
        found: dict[str, float] = {}
        for factor in FACTORS:
            observed = self._masks(factor)
            parts = range(0, len(self.x0), self.batch)
            restored = self._raw(torch.cat([self._restored(observed, first) for first in parts]))
            if min(restored.shape[2:]) >= SSIM_SIDE:
                found[f"ssim_{factor}x"] = self._ssim(restored, truth, ~observed.cpu().numpy())
            if self.features is not None and real is not None:
                fake = FeatureSet.of(self.features(self._pictures(restored)))
                found[f"fid_{factor}x"] = fid(real, fake)
        for metric in ("ssim", "fid"):
            values = [v for name, v in found.items() if name.startswith(f"{metric}_")]
            if values:
                found[metric] = sum(values) / len(values)
        return {**found, "crops": len(self.x0)}

    def _restored(self, observed: Tensor, first: int) -> Tensor:
        part = slice(first, first + self.batch)
        return self.restore(self.x0[part], observed[part], first)

    def _masks(self, factor: int) -> Tensor:
        """Return strides whose phase goes round with the crops, bool (N, H)."""
        rows = self.x0.shape[2]
        masks = [stride_mask(rows, factor, n % factor) for n in range(len(self.x0))]
        return torch.stack(masks).to(self.x0.device)

    def _raw(self, x0: Tensor) -> NDArray[Any]:
        """Return raw intensities in the dtype of the images, (N, C, H, W)."""
        raw: NDArray[np.float32] = self.model.transform.inverse(x0).cpu().numpy()
        if self.dtype.kind != "u":
            return raw.astype(self.dtype)
        rounded = np.clip(np.rint(raw), 0, np.iinfo(self.dtype).max)
        return rounded.astype(self.dtype)

    @functools.cached_property
    def _truth(self) -> NDArray[Any]:
        return self._raw(self.x0)

    @functools.cached_property
    def _real(self) -> FeatureSet | None:
        """Features of the crops as they were; worked out once."""
        if self.features is None or len(self.x0) < 2:
            return None
        return FeatureSet.of(self.features(self._pictures(self._truth)))

    def _pictures(self, raw: NDArray[Any]) -> NDArray[np.uint8]:
        """Return crops as RGB (N, 3, H, W), shown through the window of the true crops."""
        names = self.model.channels
        window = Window.from_quantiles(colours(self._truth.swapaxes(0, 1), names))
        return np.ascontiguousarray(to_rgb8(raw.swapaxes(0, 1), names, window).swapaxes(0, 1))

    def _ssim(
        self, restored: NDArray[Any], truth: NDArray[Any], hidden: NDArray[np.bool_]
    ) -> float:
        """Return the mean over crops; one whose hidden rows lie in the border has no SSIM."""
        rows = [
            ssim_rows(mine, true, self.peaks)[unseen]
            for mine, true, unseen in zip(restored, truth, hidden, strict=True)
        ]
        return float(np.mean([np.nanmean(r) for r in rows if np.isfinite(r).any()]))
