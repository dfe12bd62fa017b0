"""The released model: averaged weights, their transform, and a card that says what they are for."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from msdsr.diffusion.network import Model, build_network, save_model
from msdsr.train.card import model_card
from msdsr.train.checkpoint import Progress, read_state
from msdsr.train.data import open_trainset, transform_of
from msdsr.train.loop import Job
from msdsr.train.metrics import FILE, read_metrics
from msdsr.train.tracking import FOLDER


def release(
    job: Job, state: Path, trainset_identity: str
) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """Write the model of a finished training into the work folder.

    Returns
    -------
    Path, dict, dict
        The folder, the manifest's counts (what any run of this training gives) and its
        measurements.
    """
    trainset = open_trainset(job.trainset)
    transform = transform_of(trainset, job.model.objective)
    network = build_network(job.model, len(transform.model_channels))
    saved = read_state(state, torch.device("cpu"))
    network.load_state_dict(saved["ema"])
    at = Progress(**saved["progress"])
    records = read_metrics(job.work / FILE)
    last = {record["kind"]: record for record in records}
    speeds = [r["images_per_s"] for r in records if r["kind"] == "train"]
    summary = {
        "trainset": trainset_identity,
        "images_seen": at.images,
        "seed": job.seed,
        "validation": _untimed(last.get("validation")),
        "restored": _untimed(last.get("restored")),
        "optimiser": job.model.optimiser.model_dump(mode="json"),
    }
    folder = job.work / "release"
    shutil.rmtree(folder, ignore_errors=True)
    model = Model(network, transform, job.model.objective, training=summary, kind=job.model.kind)
    sha256 = save_model(folder, model)
    shutil.copyfile(job.work / FILE, folder / FILE)
    if (job.work / FOLDER).exists():
        shutil.copytree(job.work / FOLDER, folder / FOLDER, symlinks=True)
    counts = {
        "images_seen": at.images,
        "parameters": sum(p.numel() for p in network.parameters()),
        "nonfinite_batches": at.nonfinite,
        "weights_sha256": sha256,
    }
    card = model_card(job.model, trainset.manifest, summary, counts)
    (folder / "README.md").write_text(card, encoding="utf-8")
    measured = {
        "images_per_s": round(sum(speeds) / len(speeds), 2) if speeds else None,
        "validation": last.get("validation"),
        "restored": last.get("restored"),
        "validation_seconds": round(sum(r.get("seconds", 0.0) for r in records), 1),
    }
    return folder, counts, measured


def _untimed(record: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a record of the diary without what differs from run to run."""
    return record and {name: value for name, value in record.items() if name != "seconds"}
