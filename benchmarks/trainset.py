"""How fast training images are decoded, and that memory does not grow with the set.

Run from the repository: `.venv/bin/python benchmarks/trainset.py [SLIDES ...]`. A slide is a list
of 200 2D images of 2 × 300 × 300 pixels, as OpenSRH has them (smooth noise, no tissue); the slides
of a set all read one and the same store, which therefore lies in the page cache. Each set is built
in a process of its own; then a cohort of two slides is added to the largest. Writes
benchmarks/results/trainset.json.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from scipy.ndimage import gaussian_filter

from msdsr.config import PatchConfig, TrainsetConfig
from msdsr.manifest import Manifest, write_manifest
from msdsr.patch import patch
from msdsr.trainset import TrainSlide, build_trainset
from msdsr.volume import VoxelSize, write_volume

REPOSITORY = Path(__file__).parents[1]
IMAGES, SIDE = 200, 300
ADDED = 2
TARGET = {"growth_of_peak_memory": 1.1}


def write_slide(folder: Path) -> None:
    """Write the store and the patch table that all slides read."""
    rng = np.random.default_rng(0)
    field = gaussian_filter(rng.standard_normal((2, 16, SIDE, SIDE)), (0, 0, 2, 2))
    noise = rng.normal(0, 300, (2, IMAGES, SIDE, SIDE))
    images = np.take(20000 + 40000 * field, np.arange(IMAGES) % 16, axis=1) + noise
    store = folder / "denoised.ome.zarr"
    write_volume(
        store,
        images.clip(0, 65535).astype(np.uint16),
        VoxelSize(1.0, 0.5, 0.5),
        ("CH2", "CH3"),
        name="slide",
        provenance={"kind": "images2d", "image_classes": ["tumor"] * IMAGES},
    )
    write_manifest(store, Manifest(stage="denoise", algorithm=1))
    patch(store, folder / "patches.parquet", settings=PatchConfig(size=SIDE))


def peak_memory_mib() -> int:
    """Return the most memory this program has held (Linux; getrusage would count its parent's)."""
    status = Path("/proc/self/status").read_text()
    return round(int(re.findall(r"VmHWM:\s*(\d+) kB", status)[0]) / 1024)


def build(folder: Path, slides: int) -> dict[str, Any]:
    """Build a set of so many slides in this process, and return what it took."""
    members = [
        TrainSlide(
            f"s{n}",
            f"p{n}",
            "train",
            folder / "denoised.ome.zarr",
            folder / "patches.parquet",
            images=folder / f"s{n}/images.zarr",
        )
        for n in range(slides)
    ]
    before = peak_memory_mib()
    start, cpu = time.monotonic(), time.process_time()
    manifest = build_trainset(
        members,
        folder / "trainset.zarr",
        folder / "work",
        channels=("CH2", "CH3"),
        settings=TrainsetConfig(size=SIDE),
    )
    seconds, cpu = time.monotonic() - start, time.process_time() - cpu
    decoded = manifest.measured["slides_decoded"] * IMAGES * 2 * SIDE * SIDE * 2 / 1e6
    return {
        "slides": slides,
        "images": manifest.counts["images"]["train"],
        "slides_decoded": manifest.measured["slides_decoded"],
        "decoded_mb": round(decoded),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "mb_per_second": round(decoded / seconds, 1),
        "mb_per_cpu_second": round(decoded / cpu, 1),
        "memory_before_mib": before,
        "peak_memory_mib": peak_memory_mib(),
    }


def in_a_process(folder: Path, slides: int) -> dict[str, Any]:
    """Do `build` in a process of its own, so that its peak memory is its own."""
    command = [sys.executable, __file__, "--child", str(folder), str(slides)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr[-2000:])
    print(done.stdout.strip())
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    """Build sets of the sizes named on the command line, add to the last, note the figures."""
    sizes = [int(argument) for argument in sys.argv[1:]] or [3, 12]
    with tempfile.TemporaryDirectory(dir=REPOSITORY) as temporary:
        runs = []
        for slides in sizes:
            folder = Path(temporary, str(slides))
            write_slide(folder)
            runs.append(in_a_process(folder, slides))
        added = in_a_process(Path(temporary, str(sizes[-1])), sizes[-1] + ADDED)
    record = {
        "claim": "peak memory does not grow with the training set, and what is added is decoded "
        "alone",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {
            "cores": os.cpu_count(),
            "processor": platform.machine(),
            "load": round(os.getloadavg()[1], 1),
        },
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "zarr": zarr.__version__,
        },
        "target": TARGET,
        "growth_of_peak_memory": round(runs[-1]["peak_memory_mib"] / runs[0]["peak_memory_mib"], 3),
        "runs": runs,
        "added": added,
    }
    out = REPOSITORY / "benchmarks/results/trainset.json"
    out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(build(Path(sys.argv[2]), int(sys.argv[3]))))
    else:
        main()
