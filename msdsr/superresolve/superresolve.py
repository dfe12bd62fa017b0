"""The superresolve stage: from a store with sparse planes to an isotropic one."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from msdsr.config import SuperresolveConfig
from msdsr.diffusion.denoiser import NetworkDenoiser
from msdsr.diffusion.device import choose_device
from msdsr.diffusion.network import Model, load_model
from msdsr.errors import UserError
from msdsr.manifest import Manifest, identity
from msdsr.progress import Bar, progress
from msdsr.superresolve.engine import (
    PLANES,
    Block,
    Tiling,
    Walk,
    count_tiles,
    planes_of_step,
    restore,
)
from msdsr.volume import (
    Region,
    StoreWriter,
    VolumeSpec,
    VoxelSize,
    Work,
    acquired_rows,
    create_store,
    keep_every,
    open_volume,
    output_planes,
    read_spec,
)
from msdsr.volume.interpolate import interpolate
from msdsr.volume.store import volume_counts

ALGORITHM = 1
Method = Literal["nearest", "linear", "msdsr"]
ANISOTROPY_TOLERANCE = 0.05
PLAUSIBLE_SIGMA = (0.3, 3.0)
PLAUSIBLE_MEAN = 2.0


@dataclass(frozen=True)
class Task:
    """What one call has to do, worked out before anything is written."""

    acquired: xr.DataArray
    target: VolumeSpec
    factor: int
    settings: SuperresolveConfig
    seed: int


def superresolve(
    volume: str | Path,
    out: str | Path,
    work: str | Path,
    *,
    method: str,
    factor: int,
    settings: SuperresolveConfig,
    model: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
) -> Manifest:
    """Fill the missing planes of a volume and publish the result as a store.

    Parameters
    ----------
    volume
        Store of ℓ acquired planes.
    out
        The store to publish, of (ℓ′ − 1)·s + 1 planes, where ℓ′ counts every m-th of the ℓ planes
        (`keep_every`); dtype as the input's. Its provenance lists the acquired planes.
    work
        Work folder, on the file system of ``out``.
    method
        ``msdsr``, ``nearest`` or ``linear``.
    factor
        s, 2 to 8.
    settings
        Mode, steps, tiles.
    model
        Folder of a released model; needed by ``msdsr``.
    seed
        The result is a function of it.
    device
        ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    UserError
        When the volume has too few planes, its channels are not the model's, or a choice is
        unknown.
    """
    volume, out = Path(volume), Path(out)
    if method not in get_args(Method):
        raise UserError("--method", repr(method), ", ".join(get_args(Method)))
    network = _load(model, device) if method == "msdsr" else None
    task = _plan_task(volume, out, method, factor, settings, seed, network)
    inputs = {"volume": identity(volume)}
    if network is not None:
        inputs["weights"] = network.weights_sha256
    values = {**settings.model_dump(mode="json"), "method": method, "factor": factor}
    plan = {"stage": "superresolve", "algorithm": ALGORITHM, "inputs": inputs,
            "settings": values, "seed": seed}  # fmt: skip
    warnings = _warnings(task, network)
    with Work(work, plan) as job:
        writer = create_store(job.path / out.name, task.target, resume=True)
        tiles = _run(task, writer, job, method, network)
        writer.finish()
        seconds = job.seconds()
        return job.publish_product(
            job.path / out.name,
            out,
            Manifest(
                stage="superresolve",
                algorithm=ALGORITHM,
                inputs=inputs,
                settings=values,
                seed=seed,
                device=str(network.device) if network else "cpu",
                counts={**volume_counts(task.target), **_acquired_counts(task)},
                measured=_measured(tiles, seconds),
                warnings=warnings,
            ),
        )


def _load(model: str | Path | None, device: str) -> Model:
    if model is None:
        raise UserError("--model", "missing", "the folder of a model", "method msdsr needs one")
    return load_model(model, choose_device(device))


def _plan_task(
    volume: Path,
    out: Path,
    method: str,
    factor: int,
    settings: SuperresolveConfig,
    seed: int,
    network: Model | None,
) -> Task:
    spec = read_spec(volume)
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
    rows = [int(row) for row in acquired_rows(planes, factor)]
    provenance = {
        **{k: v for k, v in spec.provenance.items() if k in ("slide", "patient", "denoiser")},
        "stage": "superresolve",
        "algorithm": ALGORITHM,
        "method": method,
        "factor": factor,
        "keep_every": every,
        "seed": seed,
        "acquired_planes": rows,
        "note": "planes that are not in acquired_planes were not imaged",
    }
    if network is not None:
        provenance |= {"mode": settings.mode, "weights_sha256": network.weights_sha256}
    target = VolumeSpec(
        (spec.shape[0], output_planes(planes, factor), *spec.shape[2:]),
        spec.dtype,
        VoxelSize(spec.voxel.z * every / factor, spec.voxel.y, spec.voxel.x),
        spec.channels,
        spec.name,
        provenance,
    )
    return Task(open_volume(volume)[:, ::every], target, factor, settings, seed)


def _run(task: Task, writer: StoreWriter, job: Work, method: str, network: Model | None) -> int:
    """Fill the blocks that the ledger does not have; return the tiles denoised in this run."""
    done = job.done()
    left = [b for b in writer.grid.blocks(task.settings.block) if b.key not in done]
    engine = _Engine(task, network) if network is not None else None
    total = engine.tiles(left) if engine else len(left)
    with progress(
        f"superresolve {task.target.name}", total, "tiles" if engine else "blocks"
    ) as bar:
        for region in left:
            if engine:
                voxels = engine.restore(region, bar)
            else:
                acquired = _read(task.acquired, region)
                how = cast("Literal['nearest', 'linear']", method)
                voxels = interpolate(acquired, task.factor, how)
                bar.advance()
            writer.write(region, voxels)
            job.record(region.key)
    return total if engine else 0


def _read(acquired: xr.DataArray, region: Region) -> NDArray[Any]:
    block: NDArray[Any] = acquired[:, :, region.y0 : region.y1, region.x0 : region.x1].values
    return block


class _Engine:
    """Restores regions of one volume with one model."""

    def __init__(self, task: Task, model: Model) -> None:
        self.task, self.model = task, model
        settings = task.settings
        precision = "bfloat16" if model.device.type == "cuda" else "float32"
        self.denoiser = NetworkDenoiser(model, cast("Any", precision))
        self.tiling = Tiling(
            model.image_size, min(settings.stride, model.image_size), settings.batch
        )
        self.walk = Walk(
            model.sigma_grid(settings.steps),
            settings.eta,
            task.seed,
            settings.noise_length,
            settings.noise_strength,
        )

    def tiles(self, regions: list[Region]) -> int:
        """Return how many tiles the network will denoise for some regions."""
        _, _, rows, columns = self.task.target.shape
        padded = [self._padded(self._halo(region)) for region in regions]
        each = {
            plane: sum(count_tiles(r, rows, columns, plane, self.tiling) for r in padded)
            for plane in PLANES
        }
        return sum(
            each[plane]
            for step in range(len(self.walk.sigmas) - 1)
            for plane in planes_of_step(self.task.settings.mode, step, self.task.seed)
        )

    def restore(self, region: Region, bar: Bar) -> NDArray[Any]:
        """Return all planes of a region in the volume's dtype, acquired ones bit for bit."""
        outer = self._halo(region)
        acquired = _read(self.task.acquired, outer)
        block = self._block(acquired, outer)
        mode = self.task.settings.mode
        restored = restore(self.denoiser, block, mode, self.walk, self.tiling, bar.advance)
        raw = self.model.transform.inverse(self._crop(restored, outer, region), channel_axis=0)
        voxels = to_dtype(raw.cpu().numpy(), self.task.target.dtype)
        rows = acquired_rows(acquired.shape[1], self.task.factor)
        _, y, x = region.inside(outer)
        voxels[:, rows] = acquired[:, :, y, x]
        return voxels

    def _halo(self, region: Region) -> Region:
        _, _, rows, columns = self.task.target.shape
        return region.with_halo(self.tiling.size, rows, columns)

    def _margins(self, outer: Region) -> tuple[int, int, int]:
        """Return what is missing to one tile in z (above the stack), y and x (after the end)."""
        planes, height, width = (max(0, self.tiling.size - n) for n in outer.shape)
        return planes // 2, height, width

    def _padded(self, outer: Region) -> Region:
        above, below, right = self._margins(outer)
        z1 = max(outer.z1, outer.z0 - above + self.tiling.size)
        return Region(outer.z0 - above, z1, outer.y0, outer.y1 + below, outer.x0, outer.x1 + right)

    def _block(self, acquired: NDArray[Any], outer: Region) -> Block:
        above, below, right = self._margins(outer)
        padded = self._padded(outer)
        device = self.model.device
        raw = np.pad(acquired, ((0, 0), (0, 0), (0, below), (0, right)), mode="symmetric")
        known = self.model.transform.forward(
            torch.from_numpy(raw.astype(np.float32)).to(device), channel_axis=0
        )
        clean = torch.zeros(known.shape[0], *padded.shape, device=device)
        mask = torch.zeros(padded.shape[0], dtype=torch.bool, device=device)
        rows = torch.from_numpy(above + acquired_rows(acquired.shape[1], self.task.factor))
        clean[:, rows] = known
        mask[rows] = True
        _, _, height, width = self.task.target.shape
        return Block(clean, mask, padded, height, width)

    def _crop(self, restored: torch.Tensor, outer: Region, region: Region) -> torch.Tensor:
        above, _, _ = self._margins(outer)
        z, y, x = region.inside(outer)
        return restored[:, above + z.start : above + z.stop, y, x]


def to_dtype(values: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return values in a dtype: rounded and clipped to its range, never wrapped."""
    if dtype.kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)


def _warnings(task: Task, model: Model | None) -> list[str]:
    voxel = task.target.voxel
    found = []
    ratio = voxel.z / ((voxel.y + voxel.x) / 2)
    if abs(ratio - 1) > ANISOTROPY_TOLERANCE:
        found.append(
            f"planes are {voxel.z:.4g} µm apart and pixels {voxel.y:.4g} × {voxel.x:.4g} µm: the "
            f"result is not isotropic (ratio {ratio:.3g})"
        )
    if model is not None:
        found += _unlike_training(task, model)
    return found


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


def _acquired_counts(task: Task) -> dict[str, Any]:
    every = int(task.target.provenance["keep_every"])
    return {"acquired_planes": task.acquired.shape[1], "keep_every": every}


def _measured(tiles: int, seconds: float) -> dict[str, Any]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    measured: dict[str, Any] = {"tiles": tiles, "peak_host_mb": round(peak)}
    if tiles:
        measured["tiles_per_second"] = round(tiles / max(seconds, 1e-9), 1)
    return measured
