"""The stage: a training set and a recipe in, a released model out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from msdsr.config import ModelConfig
from msdsr.diffusion.device import choose_device, process_count
from msdsr.errors import Stopped, UserError, require_file
from msdsr.manifest import Manifest, fingerprint, identity
from msdsr.train.checkpoint import newest_state
from msdsr.train.clerk import STATES
from msdsr.train.distributed import StopRequest, joined
from msdsr.train.launch import launch
from msdsr.train.loop import Job, run
from msdsr.train.release import release
from msdsr.volume import Work

ALGORITHM = 2

FETCH = "`msdsr fetch inception` fetches it; without --inception there is no FID"

NOT_PLANNED = (
    *("micro_batch", "compile", "checkpoint_minutes", "keep_checkpoints", "tracking"),
    *("validate_every", "validate_restored_every", "restored_crops", "restored_steps"),
)
"""Settings that change how a training runs and is watched, not what it is: they may change on a
resume."""


def train(
    trainset: str | Path,
    out: str | Path,
    work: str | Path,
    *,
    model: ModelConfig,
    seed: int,
    device: str = "auto",
    gpus: int = 0,
    inception: str | Path | None = None,
    budget_seconds: float | None = None,
) -> Manifest:
    """Train a model, or go on with the training that an earlier call left.

    Parameters
    ----------
    trainset
        A store that the trainset stage published.
    out
        Folder of the released model: ``config.json`` and safetensors (which
        ``diffusers.UNet2DModel.from_pretrained`` reads too), ``msdsr.json``, ``README.md`` (the
        model card), ``metrics.jsonl`` and the curves in ``tracking/``. Its manifest stands beside
        it.
    work
        Work folder with the resume states, on the same file system as ``out``.
    model
        The recipe.
    seed
        Decides the first weights, crops, masks, steps and noise.
    device
        ``auto``, ``cpu`` or ``cuda``.
    gpus
        GPUs of this machine to train on, one process each (with ``cpu``: that many processes); 0
        is one process. It may change from one attempt to the next.
    inception
        TorchScript file of the Inception network: restored validation crops then get their FID.
    budget_seconds
        Wall-clock time of this attempt; before it ends all is saved and `Stopped` raised.

    Raises
    ------
    Stopped
        After SIGTERM or at the end of the budget; call again to go on.
    UserError
        When the training set or the recipe cannot be used, or the training diverges.
    """
    deadline = None if budget_seconds is None else time.monotonic() + budget_seconds
    if model.path is not None:
        raise UserError(
            "model.path", str(model.path), "a recipe to train", "a path is never trained"
        )
    kind = choose_device(device)
    ranks = process_count(kind, gpus)
    inputs = {"trainset": identity(trainset)}
    plan = _plan(inputs, model, seed)
    with Work(work, plan) as at:
        network = None if inception is None else require_file(inception, FETCH)
        job = Job(Path(trainset), at.path, model, seed, network, fingerprint(plan))
        if ranks == 1:
            with StopRequest(deadline).listening() as stop, joined(kind) as alone:
                finished = run(job, alone, stop)
        else:
            finished = launch(job, kind, ranks, deadline)
        state, _ = newest_state(at.path / STATES)
        if not finished or state is None:
            raise Stopped(f"{work}: training stopped, saved; run again to go on")
        folder, counts, measured = release(job, state, inputs["trainset"])
        manifest = Manifest(
            stage="train",
            algorithm=ALGORITHM,
            inputs=inputs,
            settings=model.model_dump(mode="json"),
            seed=seed,
            device=_device_name(kind),
            counts=counts,
            measured=measured,
        )
        return at.publish_product(folder, Path(out), manifest)


def _plan(inputs: dict[str, str], model: ModelConfig, seed: int) -> dict[str, Any]:
    settings = model.model_dump(mode="json", include={"kind", "network", "objective", "optimiser"})
    for name in NOT_PLANNED:
        del settings["optimiser"][name]
    return {
        "stage": "train",
        "algorithm": ALGORITHM,
        "inputs": inputs,
        "settings": settings,
        "seed": seed,
    }


def _device_name(kind: torch.device) -> str:
    return torch.cuda.get_device_name() if kind.type == "cuda" else "cpu"
