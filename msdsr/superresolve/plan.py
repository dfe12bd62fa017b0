"""What one call has to do, worked out and checked before anything is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from msdsr.config import SuperresolveConfig
from msdsr.diffusion.network import Model
from msdsr.errors import UserError
from msdsr.volume import (
    VolumeSpec,
    VoxelSize,
    acquired_rows,
    keep_every,
    open_volume,
    output_planes,
    read_spec,
)

ALGORITHM = 2
ANISOTROPY_TOLERANCE = 0.05
NETWORK_METHODS = ("msdsr", "ms_unet", "e2e_unet")
"""Methods that need a model."""
SAMPLED_METHODS = ("msdsr",)
"""Methods that draw from a distribution, so that several samples differ."""
PLAUSIBLE_SIGMA = (0.3, 3.0)
PLAUSIBLE_MEAN = 2.0


@dataclass(frozen=True)
class Task:
    """One volume to fill.

    Attributes
    ----------
    acquired
        The planes that are kept of the input (c, ℓ′, y, x), lazily.
    target
        What is made of them.
    method
        Its name.
    factor
        s: plane i of ``acquired`` is plane i·s of ``target``.
    settings, seed
        What else the result depends on.
    tissue
        (y, x): where there is tissue; the rest may be interpolated. None: tissue everywhere.
    scales
        What the standard deviation of each channel is multiplied by; None: not calibrated.
    """

    acquired: xr.DataArray
    target: VolumeSpec
    method: str
    factor: int
    settings: SuperresolveConfig
    seed: int
    tissue: NDArray[np.bool_] | None = None
    scales: tuple[float, ...] | None = None

    @property
    def samples(self) -> int:
        """How many samples are drawn."""
        return self.settings.samples if self.method in SAMPLED_METHODS else 1

    @property
    def no_scales(self) -> tuple[float, ...]:
        """What stands for `scales` where nothing was calibrated."""
        return (1.0,) * self.target.shape[0]

    def counts(self) -> dict[str, Any]:
        """Return what the manifest counts of acquired planes, and of background."""
        every = int(self.target.provenance["keep_every"])
        found = {"acquired_planes": self.acquired.shape[1], "keep_every": every}
        if self.tissue is not None:
            found["background_pixels"] = int(self.tissue.size - self.tissue.sum())
        return found


def plan_task(
    volume: Path,
    method: str,
    factor: int,
    settings: SuperresolveConfig,
    seed: int,
    network: Model | None,
    tissue: NDArray[np.bool_] | None = None,
) -> Task:
    """Check a request and work out what it makes.

    Raises
    ------
    UserError
        When there are too few planes or they are no stack, or the channels are not the model's.
    """
    spec = read_spec(volume)
    if not spec.stacked:
        raise UserError(
            volume,
            "a list of 2D images",
            "a z-stack",
            "put the slide into `train` or `val` in the sample sheet",
        )
    every = keep_every(factor, spec.voxel)
    planes = len(range(0, spec.shape[1], every))
    if planes < 2:
        raise UserError(
            volume,
            f"{spec.shape[1]} planes, of which a factor of {factor} takes every {every}.",
            "at least two to lie between",
            "choose a smaller factor",
        )
    if network is not None and network.channels != spec.channels:
        raise UserError(
            volume,
            f"channels {','.join(spec.channels)}",
            f"the model's, {','.join(network.channels)}",
            "name them alike in the sample sheet, or use a model of these channels",
        )
    voxel = VoxelSize(spec.voxel.z * every / factor, spec.voxel.y, spec.voxel.x)
    if settings.anisotropy == "refuse" and (message := _anisotropic(voxel)):
        raise UserError(
            volume,
            message,
            f"equal to {ANISOTROPY_TOLERANCE:.0%}, as `superresolve.anisotropy` asks",
            "choose another factor, or `anisotropy: warn`",
        )
    rows = [int(row) for row in acquired_rows(planes, factor)]
    provenance = {
        **{k: v for k, v in spec.provenance.items() if k in ("slide", "patient", "denoiser")},
        "stage": "superresolve",
        "algorithm": ALGORITHM,
        "method": method,
        "factor": factor,
        "keep_every": every,
        "anisotropy": round(voxel.anisotropy, 6),
        "seed": seed,
        "acquired_planes": rows,
        "note": "planes that are not in acquired_planes were not imaged",
    }
    if network is not None:
        provenance |= {"weights_sha256": network.weights_sha256, "blur": settings.blur}
    if method in SAMPLED_METHODS:
        provenance |= {"mode": settings.mode, "samples": settings.samples}
        if settings.samples > 1:
            provenance["estimate"] = settings.estimate
    if tissue is not None:
        provenance["background"] = {
            "fraction": round(1 - float(tissue.mean()), 6),
            "note": "tiles without tissue in the slide's patch table are interpolated linearly",
        }
    target = VolumeSpec(
        (spec.shape[0], output_planes(planes, factor), *spec.shape[2:]),
        spec.dtype,
        voxel,
        spec.channels,
        spec.name,
        provenance,
    )
    return Task(open_volume(volume)[:, ::every], target, method, factor, settings, seed, tissue)


def warnings_of(task: Task, model: Model | None) -> list[str]:
    """Tell when the result is not isotropic, or the data are unlike the model's."""
    message = _anisotropic(task.target.voxel)
    found = [message] if message else []
    if model is not None:
        found += _unlike_training(task, model)
    return found


def _anisotropic(voxel: VoxelSize) -> str | None:
    """Return what to say of voxels that are not cubes."""
    if abs(voxel.anisotropy - 1) <= ANISOTROPY_TOLERANCE:
        return None
    return (
        f"planes are {voxel.z:.4g} µm apart and pixels {voxel.y:.4g} × {voxel.x:.4g} µm: the "
        f"result is not isotropic (ratio {voxel.anisotropy:.3g})"
    )


def _unlike_training(task: Task, model: Model) -> list[str]:
    """Tell which channels look unlike what the model has learnt from."""
    middle = task.acquired[:, task.acquired.shape[1] // 2].values.astype(np.float32)
    data = model.transform.forward(torch.from_numpy(middle), channel_axis=0).cpu()
    found = []
    for name, channel in zip(model.transform.model_channels, data, strict=True):
        mean = (float(channel.mean()) - model.transform.data_mean) / model.data_sigma
        sigma = float(channel.std(correction=0)) / model.data_sigma
        if not PLAUSIBLE_SIGMA[0] < sigma < PLAUSIBLE_SIGMA[1] or abs(mean) > PLAUSIBLE_MEAN:
            found.append(
                f"channel {name} is unlike the model's training data (mean {mean:+.1f} σ, "
                f"contrast × {sigma:.2g}): check intensities, dtype and channel order"
            )
    return found
