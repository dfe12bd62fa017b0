"""Slurm jobs whose Snakemake is dead: found, cancelled, and the folder unlocked.

A Snakemake that is killed (SIGKILL, a login node that goes down) leaves its jobs in the queue and
its lock in the folder. Started again it would submit the same jobs beside those that still live.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from msdsr.errors import UserError

RUN = re.compile(r"(.*_)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""Names of Snakemake's jobs: a prefix of the profile's, and the run's UUID."""

FIELDS = "%A|%j|%T|%k|%Z"
"""For squeue: id, name, state, comment, working directory."""

PATIENCE_SECONDS = 600.0
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class LeftJob:
    """A job that is pending or running: its id, and what it makes."""

    id: str
    what: str


def left_jobs(folder: Path) -> list[LeftJob]:
    """Return this user's jobs that a Snakemake submitted from a folder and that have not ended.

    Raises
    ------
    UserError
        When Slurm does not answer.
    """
    found = []
    for line in _ask("squeue", "--me", "--noheader", f"--format={FIELDS}").splitlines():
        number, name, _, comment, where = line.split("|", 4)
        if RUN.fullmatch(name) and Path(where).resolve() == folder.resolve():
            found.append(LeftJob(number, comment.removeprefix("rule_").replace("_wildcards_", " ")))
    return found


def living_snakemake(folder: Path) -> int | None:
    """Return the process of a Snakemake that works in a folder on this machine, if there is one.

    The Snakemakes inside jobs (``--target-jobs``) are not meant.
    """
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if (
                any("snakemake" in Path(word).name for word in words[:3])
                and "--target-jobs" not in words
                and Path(process.cwd()) == folder.resolve()
            ):
                return int(process.pid)
        except (psutil.Error, OSError):
            continue
    return None


def recover(folder: Path, patience: float = PATIENCE_SECONDS) -> list[LeftJob]:
    """Make a folder ready for another run: cancel what a killed one left, wait, and unlock.

    A training or a restoration that is cancelled saves first, and goes on from there.

    Parameters
    ----------
    folder
        Where Snakemake was started.
    patience
        Seconds to wait for the jobs to end.

    Returns
    -------
    list of LeftJob
        The jobs that were cancelled.

    Raises
    ------
    UserError
        When a Snakemake works there, Slurm does not answer, or the jobs do not end.
    """
    if not (folder / ".snakemake").is_dir():
        raise UserError(
            folder, "no Snakemake has run here", "the folder where it was started", "go there"
        )
    if (process := living_snakemake(folder)) is not None:
        raise UserError(
            folder,
            f"Snakemake is at work here (process {process})",
            "one that is gone",
            "stop it with Ctrl-C: it then cancels its jobs by itself",
        )
    jobs = left_jobs(folder)
    if jobs:
        _ask("scancel", *(job.id for job in jobs))
    deadline = time.monotonic() + patience
    while left := left_jobs(folder):
        if time.monotonic() > deadline:
            raise UserError(
                "squeue",
                f"{len(left)} jobs have not ended {patience:.0f} s after they were cancelled"
                f" ({', '.join(job.id for job in left)})",
                "none",
                "ask the cluster's administrators, or run this again later",
            )
        time.sleep(POLL_SECONDS)
    shutil.rmtree(folder / ".snakemake/locks", ignore_errors=True)
    return jobs


def _ask(*command: str) -> str:
    """Run one of Slurm's commands and return what it says."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise UserError(
            command[0], "no such command", "Slurm's", "run this where `sbatch` works"
        ) from None
    if done.returncode != 0:
        raise UserError(
            command[0], done.stderr.strip() or f"exit code {done.returncode}", "an answer of Slurm"
        )
    return done.stdout
