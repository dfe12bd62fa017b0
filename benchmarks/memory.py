"""How much memory `superresolve` takes, and that it does not grow with the slide.

Slides of 20 planes are written to the disk from a repeated texture, and restored at 2× on the CPU
by the real stage in a process of its own, whose peak the kernel counts: engine, blocks, noise,
store and pyramid are all there. Only the network is put in the place of, by arithmetic on each
voxel that costs nothing: its memory is a matter of the model and the batch, not of the slide.

    python benchmarks/memory.py [SIDE ...]

Writes benchmarks/results/memory.json.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr

from msdsr.manifest import Manifest, write_manifest
from msdsr.volume import VolumeSpec, VoxelSize, create_store

REPOSITORY = Path(__file__).parents[1]
OUT = REPOSITORY / "benchmarks/results/memory.json"
SIDES, PLANES = (1000, 2000, 4000), 20
TARGET_GB = 4.0

RESTORE = """
import sys
from pathlib import Path
import torch
from msdsr.config import SuperresolveConfig
from msdsr.diffusion.denoiser import NetworkDenoiser
from msdsr.superresolve import superresolve

def shrink(self, x, sigma, clean, observed):
    return torch.where(observed[:, None], clean, x / (1 + sigma**2))

NetworkDenoiser.__call__ = shrink
folder, model, mode = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
settings = SuperresolveConfig(mode=mode, steps=1, stride=48, batch=512)
superresolve(
    folder / "slide.ome.zarr", folder / "restored.ome.zarr", folder / "work", method="msdsr",
    factor=2, model=model, device="cpu", settings=settings,
)
"""


def write_slide(path: Path, side: int) -> None:
    """Write a slide of two channels, 0.5 µm pixels and 1 µm planes, shard by shard."""
    spec = VolumeSpec(
        (2, PLANES, side, side), np.dtype(np.uint16), VoxelSize(1.0, 0.5, 0.5), ("CH2", "CH3")
    )
    writer = create_store(path, spec)
    texture = np.random.default_rng(0).integers(9000, 17000, (2, PLANES, 64, 64), np.uint16)
    for region in writer.grid:
        _, rows, columns = region.shape
        repeated = np.tile(texture, (1, 1, -(-rows // 64), -(-columns // 64)))
        writer.write(region, repeated[:, :, :rows, :columns])
    writer.finish()
    write_manifest(path, Manifest(stage="denoise", algorithm=1))


def measure(side: int, mode: str) -> dict[str, Any]:
    """Restore one slide, and return what that took."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_slide(folder / "slide.ome.zarr", side)
        model = REPOSITORY / "resources/models/phantom-tiny"
        start = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-c", RESTORE, str(folder), str(model), mode],
            cwd=REPOSITORY,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            raise SystemExit(f"superresolve ended with {status}")
        record = json.loads((folder / "restored.json").read_text())
    row = {
        "rows": side,
        "columns": side,
        "planes": PLANES,
        "mode": mode,
        "block": record["settings"]["block"],
        "blocks": record["measured"]["blocks"],
        "peak_gb": round(usage.ru_maxrss * 1024 / 1e9, 2),  # Linux counts in KiB
        "seconds": round(time.monotonic() - start, 1),
    }
    print(row, flush=True)
    return row


def main() -> None:
    """Measure the sides named on the command line and note the figures."""
    sides = [int(argument) for argument in sys.argv[1:]] or SIDES
    rows = [measure(side, "xz") for side in sides]
    record = {
        "claim": f"a slide of 4000 × 4000 × 20 is restored on a CPU in under {TARGET_GB:.0f} GB "
        "and the network",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {"cores": os.cpu_count(), "processor": platform.machine()},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "zarr": zarr.__version__,
        },
        "target_gb": TARGET_GB,
        "rows": rows,
        "figures": [
            {
                "what": f"peak memory, slide of {row['rows']} × {row['columns']} × {PLANES} at 2×, "
                "network aside (GB)",
                "value": row["peak_gb"],
                "target": f"< {TARGET_GB:.0f}",
                "machine": f"{os.cpu_count()} CPU cores",
            }
            for row in rows
        ],
    }
    OUT.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
