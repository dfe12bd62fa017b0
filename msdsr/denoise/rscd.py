"""The denoiser RSCD at work: XY planes, tile by tile, each from its own noise level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from msdsr.config import DenoiseConfig
from msdsr.diffusion.device import choose_device
from msdsr.diffusion.network import Model, load_model
from msdsr.diffusion.noise import NoiseField
from msdsr.diffusion.rscd import (
    CLEAN,
    NetworkCalibrator,
    NetworkPrior,
    refuse_strangers,
    restore_images,
)
from msdsr.errors import UserError
from msdsr.progress import progress
from msdsr.volume import Region, VolumeSpec, Work, create_store, open_volume, read_spec
from msdsr.volume.interpolate import to_dtype


@dataclass(frozen=True)
class Tile:
    """A square of one plane: its first row and first column."""

    y: int
    x: int


@dataclass(frozen=True)
class Told:
    """What the calibrator told of some tiles: how many, how many clean, and the sum of t̂."""

    tiles: int
    clean: int
    steps: float


class Rscd:
    """Both networks, and how planes are cut for them.

    Parameters
    ----------
    prior, calibrator
        Models of the kinds ``rscd_prior`` and ``rscd_calibrator`` that learnt from the same images.
    settings
        ``overlap`` and ``batch`` are read.
    seed
        The result is a function of it.

    Raises
    ------
    UserError
        When the models do not belong together.
    """

    def __init__(self, prior: Model, calibrator: Model, settings: DenoiseConfig, seed: int) -> None:
        refuse_strangers(prior, calibrator)
        self.prior, self.calibrator = prior, calibrator
        precision = "bfloat16" if prior.device.type == "cuda" else "float32"
        self._prior = NetworkPrior(prior, "bfloat16" if precision == "bfloat16" else "float32")
        # How noisy an image is decides how it is treated: never in low precision.
        self._calibrator = NetworkCalibrator(calibrator)
        self.size, self.batch = prior.image_size, settings.batch
        self.stride = max(1, round(self.size * (1 - settings.overlap)))
        self.seed = seed

    @classmethod
    def load(
        cls,
        prior: str | Path | None,
        calibrator: str | Path | None,
        settings: DenoiseConfig,
        seed: int,
        device: str,
    ) -> Rscd:
        """Read both models.

        Raises
        ------
        UserError
            When one is missing, of another kind, or they do not belong together.
        """
        for option, folder in (("--prior", prior), ("--calibrator", calibrator)):
            if folder is None:
                raise UserError(option, "missing", "the folder of a model", "mode rscd needs both")
        where = choose_device(device)
        return cls(
            load_model(str(prior), where, kind="rscd_prior"),
            load_model(str(calibrator), where, kind="rscd_calibrator"),
            settings,
            seed,
        )

    def tiles(self, region: Region, rows: int, columns: int) -> list[Tile]:
        """Return the tiles of a plane that touch a region; the plane decides where tiles are."""
        return [
            Tile(y, x)
            for y in self._starts(rows)
            if y < region.y1 and y + self.size > region.y0
            for x in self._starts(columns)
            if x < region.x1 and x + self.size > region.x0
        ]

    def _starts(self, length: int) -> list[int]:
        last = max(0, length - self.size)
        return sorted({*range(0, last, self.stride), last})

    def denoise(
        self, volume: xr.DataArray, region: Region, advance: Callable[[int], None]
    ) -> tuple[NDArray[Any], Told]:
        """Denoise all planes of a region.

        Parameters
        ----------
        volume
            (c, z, y, x), all of it; a margin of one tile around the region is read.
        region
            All planes, some rows and columns.
        advance
            Told the number of finished tiles.

        Returns
        -------
        ndarray, Told
            (C, Z, Y, X) in the volume's dtype, and what the calibrator told of the tiles.
        """
        _, _, rows, columns = volume.shape
        tiles = self.tiles(region, rows, columns)
        outer = Region(
            region.z0,
            region.z1,
            min(tile.y for tile in tiles),
            min(rows, max(tile.y for tile in tiles) + self.size),
            min(tile.x for tile in tiles),
            min(columns, max(tile.x for tile in tiles) + self.size),
        )
        z, y, x = outer.slices
        raw = volume[:, z, y, x].values
        below, right = (max(0, self.size - n) for n in outer.shape[1:])
        raw = np.pad(raw, ((0, 0), (0, 0), (0, below), (0, right)), mode="symmetric")
        found = np.empty((volume.shape[0], *region.shape), volume.dtype)
        told = []
        _, inside_y, inside_x = region.inside(outer)
        for plane in range(raw.shape[1]):
            restored, steps = self._plane(raw[:, plane], region.z0 + plane, outer, tiles, advance)
            found[:, plane] = to_dtype(restored[:, inside_y, inside_x], np.dtype(volume.dtype))
            told.append(steps)
        steps = np.concatenate(told)
        return found, Told(len(steps), int((steps < CLEAN).sum()), round(float(steps.sum()), 3))

    def _plane(
        self,
        raw_CYX: NDArray[Any],
        z: int,
        outer: Region,
        tiles: list[Tile],
        advance: Callable[[int], None],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return a plane (raw intensities, float32) blended from its tiles, and their t̂."""
        device, transform = self.prior.device, self.prior.transform
        values = torch.from_numpy(raw_CYX.astype(np.float32)).to(device)
        data = transform.forward(values, channel_axis=0)
        total, weights = torch.zeros_like(data), torch.zeros_like(data[0])
        window = self._window().to(device)
        told = []
        for first in range(0, len(tiles), self.batch):
            part = tiles[first : first + self.batch]
            cuts = [
                (slice(t.y - outer.y0, t.y - outer.y0 + self.size),
                 slice(t.x - outer.x0, t.x - outer.x0 + self.size))
                for t in part
            ]  # fmt: skip
            images = torch.stack([data[:, y, x] for y, x in cuts])
            restored, steps = restore_images(
                self._prior, self._calibrator, images, self._noise(part, z), self.prior.schedule
            )
            for (y, x), image in zip(cuts, restored, strict=True):
                total[:, y, x] += image * window
                weights[y, x] += window
            told.append(steps.cpu().numpy())
            advance(len(part))
        blended = transform.inverse(total / weights, channel_axis=0).cpu().numpy()
        return blended, np.concatenate(told)

    def _noise(self, tiles: list[Tile], z: int) -> Callable[[int], Tensor]:
        """Return the noise of each step: a function of the seed and the absolute voxel."""
        field, channels = NoiseField(self.seed), len(self.prior.channels)

        def noise(step: int) -> Tensor:
            drawn = [
                field.normal(
                    step,
                    channels,
                    (z, z + 1, t.y, t.y + self.size, t.x, t.x + self.size),
                    self.prior.device,
                )[:, 0]
                for t in tiles
            ]
            return torch.stack(drawn)

        return noise

    def _window(self) -> Tensor:
        """Return the weight of a tile in the blend, sin² from rim to rim and nowhere 0."""
        ramp = torch.sin(torch.pi * (torch.arange(self.size) + 0.5) / self.size) ** 2
        return ramp[:, None] * ramp


def denoise_volume(source: Path, target: Path, job: Work, rscd: Rscd) -> dict[str, Any]:
    """Denoise a store shard by shard; shards that the ledger has are not done again.

    Parameters
    ----------
    source, target
        The store that is read, and the one that is made in the work folder.
    job
        The work and its ledger.
    rscd
        The denoiser.

    Returns
    -------
    dict
        ``tiles``, the part of them that was ``clean`` from the start, and ``mean_steps``, the mean
        noise level that the calibrator told.
    """
    spec = read_spec(source)
    if spec.channels != rscd.prior.channels:
        raise UserError(
            source,
            f"channels {','.join(spec.channels)}",
            f"the model's, {','.join(rscd.prior.channels)}",
            "name them alike in the sample sheet, or use models of these channels",
        )
    made = replace(spec, provenance=_provenance(spec, rscd))
    writer = create_store(target, made, resume=True)
    volume, done = open_volume(source), job.done()
    left = [region for region in writer.grid if region.key not in done]
    _, planes, rows, columns = spec.shape
    total = sum(planes * len(rscd.tiles(region, rows, columns)) for region in left)
    with progress(f"denoise {spec.name}", total, "tiles") as bar:
        for region in left:
            voxels, told = rscd.denoise(volume, region, bar.advance)
            writer.write(region, voxels)
            job.record(region.key, tiles=told.tiles, clean=told.clean, steps=told.steps)
    writer.finish()
    notes = [job.done()[region.key] for region in writer.grid]
    tiles = sum(int(note["tiles"]) for note in notes)
    return {
        "tiles": tiles,
        "clean": round(sum(int(note["clean"]) for note in notes) / tiles, 4),
        "mean_steps": round(sum(float(note["steps"]) for note in notes) / tiles, 2),
    }


def _provenance(spec: VolumeSpec, rscd: Rscd) -> dict[str, Any]:
    return {
        **dict(spec.provenance),
        "prior_sha256": rscd.prior.weights_sha256,
        "calibrator_sha256": rscd.calibrator.weights_sha256,
        "seed": rscd.seed,
        "note": "denoised: the values of all planes are estimates, not the values acquired",
    }
