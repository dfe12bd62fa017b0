"""What a stage's job needs on a cluster, by the size of its slide: memory and time.

A need is asked for before anything of the slide is opened: its size comes from the manifest that
ingest left, or is estimated from the raw file. What is asked for is on the safe side; a job that
needs more all the same gets more at its next attempt.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

TYPICAL_MB = 80.0
"""A slide of 1000 × 1000 × 20 voxels in two channels of 16 bits: where nothing is known."""

NESTED_MB = 250
"""The two Snakemakes inside a job of the Slurm plug-in (measured with Snakemake 9.27)."""

LONGEST_MINUTES = 1440
"""No more is ever asked for, so that jobs fit the queues of most clusters: what takes longer goes
on in the next attempt."""


@dataclass(frozen=True)
class Need:
    """Memory and time as straight lines over the megabytes of a volume.

    Attributes
    ----------
    mb, mb_each
        Memory: of any slide, and of each megabyte (10⁶ bytes, uncompressed).
    minutes, minutes_each
        Time alike.
    most_mb
        Memory ends to grow here, because volumes are worked on in blocks.
    """

    mb: float
    mb_each: float
    minutes: float
    minutes_each: float
    most_mb: float = math.inf


# Measured on one core, slides of 1000 and 2000 pixels a side, 20 planes, two channels of 16 bits
# (80 and 320 MB): peak memory in MB, and seconds, network file systems not among them.
#   ingest       484 and 964      6 and 9 s
#   patch        309 and 444      9 and 12 s
#   denoise      334 and 444      5 and 2 s      (mode none)
#   images       404 and 444      6 and 6 s
#   superresolve 875 and 954      16 and 18 s    (linear, 2×)
# Memory asked for is half as much again; time a hundred times as much, because it costs nothing.
# superresolve with a network: 1.2 to 1.5 GB from 1000 to 4000 pixels a side without the network
# (benchmarks/results/memory.json), whose blocks are larger on a GPU: up to four float32 volumes of
# three channels. Network and CUDA's own share are counted with 6 GB. Of evaluate only small slides
# were measured (1.3 GB, Inception included), of mode rscd and of GPUs nothing.
NEEDS: Mapping[str, Need] = {
    "ingest": Need(500, 3.0, 20, 0.05),
    "patch": Need(400, 1.0, 20, 0.05),
    "denoise": Need(500, 1.0, 20, 0.05),
    "rscd": Need(8000, 12.0, 60, 6.0, most_mb=32_000),
    "images": Need(600, 0.5, 20, 0.05),
    "superresolve": Need(8000, 12.0, 60, 3.0, most_mb=32_000),
    "evaluate": Need(6000, 12.0, 60, 1.0, most_mb=64_000),
}
"""By stage; for superresolve and evaluate, the megabytes are those of the restored volume."""


def volume_mb(counts: Mapping[str, Any]) -> float:
    """Return the size of a volume (10⁶ bytes, uncompressed), from its manifest's counts."""
    voxels = math.prod(int(counts[n]) for n in ("channels", "planes", "rows", "columns"))
    return float(voxels * np.dtype(counts["dtype"]).itemsize) / 1e6


def recorded_mb(manifest: str | Path) -> float | None:
    """Return the size of a volume that has been ingested; None before that."""
    try:
        return volume_mb(json.loads(Path(manifest).read_text(encoding="utf-8"))["counts"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def estimated_mb(raw: str | Path) -> float:
    """Return what a raw file will come to: its own size; a typical slide's where that says nothing.

    That is so when the file is not there yet, or is a list of images.
    """
    try:
        size = Path(raw).stat().st_size / 1e6
    except OSError:
        return TYPICAL_MB
    return TYPICAL_MB if Path(raw).suffix == ".tsv" else size


def memory_mb(stage: str, megabytes: float, attempt: int = 1) -> int:
    """Return the memory of a job (MB, full hundreds), the Snakemakes around it among it."""
    need = NEEDS[stage]
    amount = min(need.mb + need.mb_each * megabytes, need.most_mb) * attempt + NESTED_MB
    return 100 * math.ceil(amount / 100)


def minutes(stage: str, megabytes: float, attempt: int = 1) -> int:
    """Return the time limit of a job (min)."""
    need = NEEDS[stage]
    amount = (need.minutes + need.minutes_each * megabytes) * attempt
    return min(math.ceil(amount), LONGEST_MINUTES)
