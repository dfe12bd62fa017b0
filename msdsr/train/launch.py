"""Several ranks on one machine: torchrun starts them, a file tells how it went.

torchrun's own exit code says only that some rank failed, so every rank writes what became of it
into ``status/<rank>.json``, and `launch` reads it from there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from msdsr.errors import UserError
from msdsr.manifest import write_text_atomically
from msdsr.signals import on_sigterm
from msdsr.train.loop import Job
from msdsr.train.torchrun import PARENT

SHUTDOWN_SECONDS = 60
"""After one rank failed, torchrun kills the others this long after it asked them to end."""

JOB, STATUS, STOP = "job.json", "status", "stop"
"""In the work folder: what to train, what became of each rank, and the wish to stop."""


def launch(job: Job, kind: torch.device, ranks: int, deadline: float | None) -> bool:
    """Train with several ranks under torchrun.

    Parameters
    ----------
    job
        What to train.
    kind
        ``cuda`` (nccl, one GPU a rank) or ``cpu`` (gloo).
    ranks
        How many.
    deadline
        Moment of `time.monotonic` at which all must be saved, or None.

    Returns
    -------
    bool
        Whether the training came to its end; False when it was stopped and saved.

    Raises
    ------
    UserError
        Whatever a rank raised; or when a rank died without a word.
    """
    shutil.rmtree(job.work / STATUS, ignore_errors=True)
    (job.work / STATUS).mkdir()
    (job.work / STOP).unlink(missing_ok=True)
    description = {
        "trainset": str(job.trainset),
        "work": str(job.work),
        "model": job.model.model_dump(mode="json"),
        "seed": job.seed,
        "inception": str(job.inception) if job.inception else None,
        "plan": job.plan,
        "device": kind.type,
        "deadline": deadline,
    }
    write_text_atomically(job.work / JOB, json.dumps(description, indent=2) + "\n")
    command = [
        sys.executable, "-m", "msdsr.train.torchrun", "--standalone",
        f"--nproc-per-node={ranks}", f"--shutdown-timeout={SHUTDOWN_SECONDS}",
        "-m", "msdsr.train.worker", str(job.work / JOB),
    ]  # fmt: skip
    threads = max(1, len(os.sched_getaffinity(0)) // ranks)
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ, PARENT: str(os.getpid())}
    # SIGTERM may reach us alone: leave the file that the ranks look for.
    with on_sigterm((job.work / STOP).touch):
        code = subprocess.run(command, env=environment, check=False).returncode
    return _outcome(job.work, ranks, code)


def _outcome(work: Path, ranks: int, code: int) -> bool:
    """Read what became of the ranks; a user's mistake on any of them comes before all else."""
    found: list[dict[str, Any]] = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((work / STATUS).glob("*.json"))
    ]
    for status in found:
        if "user_error" in status:
            raise UserError(*status["user_error"])
    if len(found) < ranks:
        raise UserError(
            work,
            f"{ranks - len(found)} of {ranks} ranks died (torchrun's exit code {code})",
            "all ranks to come to an end",
            "read the log above; run again to go on from the last state",
        )
    return all(status["finished"] for status in found)
