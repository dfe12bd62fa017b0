"""The superresolve stage: from a store with sparse planes to an isotropic one."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any, Literal, cast, get_args

from msdsr.config import Interpolation, SuperresolveConfig
from msdsr.diffusion.device import choose_device
from msdsr.diffusion.network import Model, load_model
from msdsr.errors import UserError
from msdsr.manifest import Manifest, identity
from msdsr.superresolve.diffused import Diffused
from msdsr.superresolve.filler import Filler
from msdsr.superresolve.interpolated import Interpolated
from msdsr.superresolve.plan import ALGORITHM, Task, plan_task, warnings_of
from msdsr.superresolve.run import fill
from msdsr.volume import Work, auto_factor, create_store, read_spec
from msdsr.volume.store import volume_counts

INTERPOLATIONS = get_args(Interpolation)
NETWORK_METHODS = ("msdsr",)
METHODS = (*NETWORK_METHODS, *INTERPOLATIONS)


def superresolve(
    volume: str | Path,
    out: str | Path,
    work: str | Path,
    *,
    method: str,
    factor: int | Literal["auto"],
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
        ``msdsr``, ``nearest``, ``linear`` or ``cubic``.
    factor
        s, 2 to 8, or ``auto``: what makes the voxels as near to cubes as a whole number can.
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
    network = _network(method, model, device)
    if factor == "auto":
        factor = auto_factor(read_spec(volume).voxel, volume)
    task = plan_task(volume, method, factor, settings, seed, network)
    inputs = {"volume": identity(volume)}
    if network is not None:
        inputs["weights"] = network.weights_sha256
    values = {**settings.model_dump(mode="json"), "method": method, "factor": factor}
    plan = {"stage": "superresolve", "algorithm": ALGORITHM, "inputs": inputs,
            "settings": values, "seed": seed}  # fmt: skip
    warnings = warnings_of(task, network)
    filler = filler_of(task, network)
    with Work(work, plan) as job:
        writer = create_store(job.path / out.name, task.target, resume=True)
        units = fill(task, filler, writer, job)
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
                counts={**volume_counts(task.target), **task.counts()},
                measured=_measured(filler, units, seconds),
                warnings=warnings,
            ),
        )


def _network(method: str, model: str | Path | None, device: str) -> Model | None:
    """Return the model of a method that needs one."""
    if method not in METHODS:
        raise UserError("--method", repr(method), ", ".join(METHODS))
    if method not in NETWORK_METHODS:
        return None
    if model is None:
        raise UserError("--model", "missing", "the folder of a model", f"method {method} needs one")
    return load_model(model, choose_device(device))


def filler_of(task: Task, network: Model | None) -> Filler:
    """Return what fills the planes of a task by its method."""
    if network is not None:
        return Diffused(task, network)
    return Interpolated(task, cast("Interpolation", task.method))


def _measured(filler: Filler, units: int, seconds: float) -> dict[str, Any]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    measured: dict[str, Any] = {"tiles": units if filler.unit == "tiles" else 0}
    measured["peak_host_mb"] = round(peak)
    if measured["tiles"]:
        measured["tiles_per_second"] = round(units / max(seconds, 1e-9), 1)
    return measured
