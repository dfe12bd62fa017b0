"""Table 1: rows of real XY crops are hidden, filled, and compared with what they were."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from msdsr.arguments import SlideFiles
from msdsr.config import SuperresolveConfig
from msdsr.diffusion.baselines import RowFiller
from msdsr.diffusion.denoiser import NetworkDenoiser, noise_levels
from msdsr.diffusion.device import choose_device
from msdsr.diffusion.inference import choose_batch, choose_precision
from msdsr.diffusion.masks import stride_mask
from msdsr.diffusion.network import Model, load_model
from msdsr.diffusion.noise import NoiseField
from msdsr.diffusion.sampler import restore_slices
from msdsr.errors import UserError
from msdsr.evaluate.reference import Reference
from msdsr.evaluate.slices import picture, spread_crops
from msdsr.evaluate.sources import Stored
from msdsr.metrics.equalise import equalise
from msdsr.metrics.features import FeatureSet
from msdsr.metrics.fid import fid, fid_notes
from msdsr.metrics.inception import Inception
from msdsr.metrics.similarity import psnr, ssim
from msdsr.progress import Bar, progress
from msdsr.tables.layout import Table
from msdsr.tables.source import Protocol, TableSource
from msdsr.volume import open_volume
from msdsr.volume.colour import colours, to_rgb8
from msdsr.volume.interpolate import interpolate, to_dtype
from msdsr.volume.tissue import tissue_mask

SIDE = 48
FACTORS = (2, 4, 8)
"""24, 36 and 42 of 48 rows are hidden (paper, section 4.3)."""

INTERPOLATIONS = ("nearest", "linear", "cubic")
Fill = Callable[[NDArray[Any], int], NDArray[Any]]
"""``fill(crops, factor)``: (N, c, 48, 48) raw, of which every factor-th row may be looked at."""


def paired_slices(source: TableSource) -> Table:
    """Return Table 1 of a cohort: FID, SSIM and PSNR of restored XY crops of the val patients.

    Parameters
    ----------
    source
        The cohort. Methods are the three interpolations, and MS-UNet and MSDSR where it has models
        for them; E2E UNet draws planes between planes and has no answer to rows.

    Raises
    ------
    UserError
        When volumes, models or the reference are missing, or no crop fits.
    """
    crops = draw_crops(source.slides("val"), source.images, source.config.seed)
    fills = _fills(source)
    network = Inception(source.inception, source.device)
    seen = _Seen(network, source.real, source.protocol)
    peaks = np.asarray(source.real.peaks)
    rows: list[dict[str, Any]] = []
    with progress("table 1", len(crops) * len(fills) * len(FACTORS), "crops") as bar:
        truth = FeatureSet.of(seen(crops))
        for factor in FACTORS:
            for method, fill in fills.items():
                restored = _filled(fill, crops, factor, bar)
                values = {
                    "FID": fid(truth, FeatureSet.of(seen(restored))),
                    "SSIM": np.mean([ssim(a, b, peaks) for a, b in _pairs(restored, crops)]),
                    "PSNR": np.mean([psnr(a, b, peaks) for a, b in _pairs(restored, crops)]),
                }
                rows += [
                    {"row": method, "group": f"{factor}×", "column": k, "value": v, "n": len(crops)}
                    for k, v in values.items()
                ]
    notes = [
        f"{len(crops)} XY crops of {SIDE} × {SIDE} pixels of the val patients; "
        + ", ".join(f"{SIDE - SIDE // f} rows hidden at {f}×" for f in FACTORS)
        + "; all rows are compared, the visible ones as they are.",
        f"protocol {source.protocol}: Inception sees "
        + ("each patch equalised." if source.protocol == "paper" else "one fixed window.")
        + " FID is from the same crops as they were; SSIM and PSNR are of raw intensities, crop by "
        "crop.",
        "E2E UNet is left out: it draws planes between planes.",
        *fid_notes(len(crops)),
    ]
    return Table(1, "paired 2D restoration", pd.DataFrame(rows), notes)


def draw_crops(slides: list[SlideFiles], count: int, seed: int) -> NDArray[Any]:
    """Return crops of acquired XY planes, evenly spread over slides and tissue, (N, c, 48, 48).

    Raises
    ------
    UserError
        When fewer than two fit.
    """
    share = -(-count // len(slides))
    found: list[NDArray[Any]] = []
    for files in slides:
        stored = Stored(open_volume(files.volume).data)
        mask = tissue_mask(files.patches, stored.shape_zyx[1:])
        places = spread_crops(
            "XY", stored.shape_zyx, SIDE, share, seed=seed, name=files.slide, tissue=mask
        )
        found += [picture(stored.read(region), "XY") for region in places]
    if len(found) < 2:
        raise UserError(
            "table 1", f"{len(found)} crops of {SIDE} × {SIDE} pixels", "tissue for at least two"
        )
    return np.stack(found[:count])


def by_interpolation(method: Any) -> Fill:
    """Return a fill that interpolates; rows beyond the last visible one repeat it."""

    def fill(crops: NDArray[Any], factor: int) -> NDArray[Any]:
        rows = np.moveaxis(crops[:, :, ::factor], 0, 2)  # (c, rows, N, columns): rows as planes
        filled = np.moveaxis(interpolate(rows, factor, method), 2, 0)
        missing = crops.shape[2] - filled.shape[2]
        return np.concatenate([filled, np.repeat(filled[:, :, -1:], missing, axis=2)], axis=2)

    return fill


@dataclass(frozen=True)
class ByNetwork:
    """A fill by a model; its noise depends on the seed and the number of the crop alone."""

    model: Model
    settings: SuperresolveConfig
    seed: int

    def __call__(self, crops: NDArray[Any], factor: int) -> NDArray[Any]:
        """Return the crops with their hidden rows filled, in their dtype."""
        model, device = self.model, self.model.device
        observed = stride_mask(crops.shape[2], factor).to(device)
        batch = choose_batch(self.settings.batch, device)
        parts = []
        for first in range(0, len(crops), batch):
            raw = torch.from_numpy(crops[first : first + batch].astype(np.float32)).to(device)
            x0 = self._restore(model.transform.forward(raw), observed, first)
            parts.append(to_dtype(model.transform.inverse(x0).cpu().numpy(), crops.dtype))
        restored = np.concatenate(parts)
        restored[:, :, ::factor] = crops[:, :, ::factor]
        return restored

    def _restore(self, clean: Tensor, observed: Tensor, first: int) -> Tensor:
        count, channels, height, width = clean.shape
        field = NoiseField(self.seed)
        precision = choose_precision(self.settings.precision, clean.device)

        def noise(step: int) -> Tensor:
            region = (first, first + count, 0, height, 0, width)
            return field.normal(step, channels, region, clean.device).transpose(0, 1)

        if self.model.kind == "ms_unet":
            return RowFiller(self.model, precision)(noise(0), clean, observed)
        schedule = self.settings.schedule
        denoiser = NetworkDenoiser(
            self.model, precision, integer_timesteps=schedule != "log_snr", fast=True
        )
        sigmas = noise_levels(self.model, schedule, self.settings.steps)
        eta, order = self.settings.eta, self.settings.order
        with torch.no_grad():
            return restore_slices(denoiser, clean, observed, noise, sigmas, eta, order)


class _Seen:
    """Features of crops, shown to Inception as the protocol has it."""

    def __init__(self, network: Inception, real: Reference, protocol: Protocol) -> None:
        self.network, self.real, self.protocol = network, real, protocol

    def __call__(self, crops: NDArray[Any]) -> NDArray[np.float32]:
        channels, window = self.real.channels, self.real.window
        if self.protocol == "paper":
            return self.network(np.stack([equalise(colours(crop, channels)) for crop in crops]))
        return self.network(np.stack([to_rgb8(crop, channels, window) for crop in crops]))


def _fills(source: TableSource) -> dict[str, Fill]:
    """Return the methods of the table, in its order."""
    fills: dict[str, Fill] = {name: by_interpolation(name) for name in INTERPOLATIONS}
    device = choose_device(source.device)
    for kind in ("ms_unet", "msdsr"):
        folder = source.model(kind)
        if folder is None:
            continue
        model = load_model(folder, device, kind="ms_unet" if kind == "ms_unet" else "msdsr")
        if model.image_size != SIDE:
            raise UserError(
                folder, f"tiles of {model.image_size} pixels", f"{SIDE}, as in the paper's table"
            )
        fills[kind] = ByNetwork(model, source.config.superresolve, source.config.seed)
    return fills


def _filled(fill: Fill, crops: NDArray[Any], factor: int, bar: Bar) -> NDArray[Any]:
    """Return all crops restored; a fill is given nothing of the hidden rows."""
    hidden = crops.copy()
    hidden[:, :, np.arange(SIDE) % factor != 0] = 0
    restored = fill(hidden, factor)
    bar.advance(len(crops))
    return restored


def _pairs(a: NDArray[Any], b: NDArray[Any]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    return list(zip(a, b, strict=True))
