"""How long a job of each stage takes: a committed table, or what earlier runs here have taken."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from msdsr.errors import UserError
from msdsr.manifest import Manifest, read_manifest


@dataclass(frozen=True)
class Rate:
    """Seconds of one job: so many to start, and so many for each million voxels of the slide.

    Attributes
    ----------
    start, each
        Seconds; ``each`` counts the slide's acquired voxels, all channels together.
    source
        Where this comes from.
    """

    start: float
    each: float
    source: str


WHERE = "measured 2026-11-24, one busy core of x86_64"
TABLE = {
    "ingest": Rate(1.0, 0.03, WHERE),
    "patch": Rate(1.0, 0.06, WHERE),
    "denoise": Rate(2.0, 0.001, WHERE),
    "trainset": Rate(1.0, 0.03, WHERE),
    "interpolate": Rate(2.0, 0.13, WHERE),
}
"""CPU seconds of one slide of 1000 × 1000 × 20 voxels in two channels of 16 bits; `interpolate` at
2×; denoising in mode `none`, which links what is there."""

BYTES_EACH = {"raw": 1.15, "denoised": 0.02, "images": 0.9, "restored": 1.0, "std": 2.0}
"""Disk over uncompressed bytes, of the same slide, which was noisy: real ones take less. Denoised
volumes in mode `none` are links; in mode `rscd` they count as raw ones. `std`: float32."""

TILES_EACH = 25_800 / 39
"""Tiles of one step, for each million places (z, y, x) of a restored volume; a slide of
1000 × 1000 × 20 at 2×, from benchmarks/results/superresolve.json."""

CPU_FLOPS = 231 * 5.78e8
"""Of a CPU core with AMX in bfloat16, measured 2026-11-24 with the demo's network (231 tiles a
second of 5.78e8 operations)."""

GPU_FLOPS = 0.3 * 989e12
"""Assumed: 30 % of the peak of an H100 in bfloat16. No GPU has been measured."""

TRAINING_OVER_RESTORING = 3.0
"""Operations of a training step over those of an evaluation: forwards, and twice that backwards."""

INCEPTION_FLOPS = 1.14e10
"""Of one picture of 299 × 299 pixels (arithmetic)."""

INCEPTION_SECONDS = 0.16
"""Of one picture on a CPU core, measured 2026-11-24."""


@dataclass(frozen=True)
class Seen:
    """What a job of an earlier run took: seconds, and of what."""

    stage: str
    seconds: float
    megavoxels: float
    on_gpu: bool
    method: str = ""
    steps: int = 0


def earlier_runs(results: Path) -> list[Seen]:
    """Return what the manifests of all slides below ``results`` say."""
    return [seen for folder in _slides(results) for seen in _of_slide(folder)]


def _slides(results: Path) -> Iterator[Path]:
    yield from sorted(results.glob("*/slides/*"))


def _of_slide(folder: Path) -> Iterator[Seen]:
    try:
        size = _megavoxels(read_manifest(folder / "raw.json"))
    except (UserError, KeyError):
        return
    for path in sorted(folder.glob("*.json")):
        try:
            record = read_manifest(path)
        except UserError:
            continue
        stage, method, steps = record.stage, "", 0
        if path.stem.endswith(("_heldout", "_std", "_calibration")) or not record.seconds:
            continue
        if stage == "superresolve":
            method = path.stem.rpartition("_")[0]
            steps = int(record.settings.get("steps", 0)) * int(record.settings.get("samples", 1))
        yield Seen(stage, record.seconds, size, "cuda" in record.device, method, steps)


def _megavoxels(record: Manifest) -> float:
    counts = record.counts
    return float(counts["channels"] * counts["planes"] * counts["rows"] * counts["columns"]) / 1e6


def seen_rates(runs: Iterable[Seen]) -> dict[tuple[str, str, int, bool], Rate]:
    """Return the median rate of each kind of job: by stage, method, steps, and whether on a GPU."""
    grouped = defaultdict(list)
    for seen in runs:
        key = (seen.stage, seen.method, seen.steps, seen.on_gpu)
        grouped[key].append(seen.seconds / seen.megavoxels)
    return {
        key: Rate(0.0, statistics.median(each), f"measured here, {len(each)} earlier jobs")
        for key, each in grouped.items()
    }
