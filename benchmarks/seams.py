"""Whether one can see where blocks and tiles meet, and how wide a block's halo must be.

A phantom slide is restored as one block, and in blocks of 48 pixels with halos of several widths.
Told is the mean absolute step between neighbouring pixels of generated planes, across the borders
of blocks over elsewhere (and the same for the tiles of the last step); that ratio for the whole
slide, where nothing is at these places, is what chance gives. And how far blocks are from the
whole, over the spread that another seed makes.

    python benchmarks/seams.py

Writes benchmarks/results/seams.json.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from msdsr.config import PhantomConfig, SuperresolveConfig
from msdsr.diffusion.network import load_model
from msdsr.phantom.cohort import microscope, slides
from msdsr.superresolve import diffused
from msdsr.superresolve.plan import plan_task
from msdsr.superresolve.tiles import layout
from msdsr.superresolve.watch import Stop, Watch
from msdsr.volume import Region, VoxelSize, write_volume

REPOSITORY = Path(__file__).parents[1]
OUT = REPOSITORY / "benchmarks/results/seams.json"
PLANES, ROWS, COLUMNS, SIDE, FACTOR = 6, 48, 192, 48, 4
HALOS = (0.0, 0.5, 1.0)
TARGET = 1.05
STAGE_HALO = diffused.HALO
"""What the stage takes (tiles)."""


def write_slide(path: Path) -> None:
    """Write one phantom slide, 1 µm between planes and 0.5 µm between pixels."""
    settings = PhantomConfig(planes=PLANES, size=max(ROWS, COLUMNS))
    plan = next(slide for slide in slides(settings) if slide.planes > 1)
    scope = microscope(plan, settings, "seams", 7)
    voxels = np.asarray(scope.acquire(PLANES, np.arange(ROWS), np.arange(COLUMNS)))
    write_volume(path, voxels, VoxelSize(2.0, 0.5, 0.5), ("CH2", "CH3"), name="seams")


def ratio(voxels: NDArray[Any], places: list[int]) -> float:
    """Return the mean absolute step along x onto these columns, over that onto all others.

    Parameters
    ----------
    voxels
        (c, z, y, x): generated planes.
    places
        Columns whose step from the one before is looked at.
    """
    steps = np.abs(np.diff(voxels.astype(np.float64), axis=3)).mean(axis=(0, 1, 2))
    at = np.zeros(len(steps), bool)
    at[[place - 1 for place in places if 0 < place <= len(steps)]] = True
    return float(steps[at].mean() / steps[~at].mean())


def restore(filler: diffused.Diffused, side: int, shape: tuple[int, ...]) -> NDArray[Any]:
    """Restore a slide in blocks of one side."""
    _, planes, rows, columns = shape
    watch = Watch(torch.device("cpu"), lambda n: None, lambda n: None, Stop())
    out = np.empty(shape, filler.task.target.dtype)
    for y in range(0, rows, side):
        for x in range(0, columns, side):
            region = Region(0, planes, y, min(y + side, rows), x, min(x + side, columns))
            out[(slice(None), *region.slices)] = filler.restore(region, watch)
    return out


def measure(settings: SuperresolveConfig, store: Path) -> list[dict[str, Any]]:
    """Return a row for the whole slide, and one for each width of the halo."""
    model = load_model(REPOSITORY / "resources/models/phantom-tiny")
    tasks = [plan_task(store, "msdsr", FACTOR, settings, seed, model) for seed in (0, 1)]
    shape = tasks[0].target.shape
    generated = np.delete(np.arange(shape[1]), tasks[0].target.provenance["acquired_planes"])
    filler = diffused.Diffused(tasks[0], model)
    whole = restore(filler, max(shape), shape)[:, generated]
    spread = rms(
        whole, restore(diffused.Diffused(tasks[1], model), max(shape), shape)[:, generated]
    )
    borders = list(range(SIDE, COLUMNS, SIDE))
    last = layout(
        Region(0, 48, 0, ROWS, 0, COLUMNS),
        ROWS,
        COLUMNS,
        "xz",
        filler.tiling,
        0,
        settings.steps - 1,
    )
    tiles = [edge for start in last.along for edge in (start, start + filler.tiling.size)]
    rows = []
    for halo in (None, *HALOS):
        start = time.monotonic()
        if halo is not None:
            diffused.HALO = halo
        voxels = whole if halo is None else restore(filler, SIDE, shape)[:, generated]
        diffused.HALO = STAGE_HALO
        rows.append(
            {
                "mode": settings.mode,
                "steps": settings.steps,
                "halo_tiles": halo,
                "step_across_blocks": round(ratio(voxels, borders), 4),
                "step_across_tiles": round(ratio(voxels, tiles), 4),
                "off_the_whole": round(rms(voxels, whole) / spread, 4),
                "seconds": round(time.monotonic() - start, 1),
            }
        )
        print(rows[-1], flush=True)
    return rows


def figures(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return steps across borders over those of the whole slide at the same places."""
    whole = {row["mode"]: row for row in rows if row["halo_tiles"] is None}
    return [
        {
            "what": f"{row['mode']}, {row['steps']} steps, blocks of {SIDE} pixels with a halo of "
            f"{row['halo_tiles']:g} tiles: step across {place}; off the whole slide by "
            f"{row['off_the_whole']:.3f} of what another seed is",
            "value": round(
                row[f"step_across_{place}"] / whole[row["mode"]][f"step_across_{place}"], 3
            ),
            "target": f"≤ {TARGET}" if row["halo_tiles"] == diffused.HALO else "",
            "machine": f"{os.cpu_count()} CPU cores",
        }
        for row in rows
        if row["halo_tiles"] is not None
        for place in ("blocks", "tiles")
    ]


def rms(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the root mean square difference."""
    return float(np.sqrt(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)))


def main() -> None:
    """Measure all modes and note the figures."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "slide.ome.zarr"
        write_slide(store)
        for mode, steps in (("alternate", 20), ("average", 12)):
            settings = SuperresolveConfig(mode=mode, steps=steps)
            rows += measure(settings, store)
    record = {
        "claim": f"a step across a border of blocks or tiles is at most {TARGET} of one elsewhere",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {"cores": os.cpu_count(), "processor": platform.machine()},
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "slide": {"planes": PLANES, "rows": ROWS, "columns": COLUMNS, "factor": FACTOR},
        "block": SIDE,
        "figures": figures(rows),
        "rows": rows,
    }
    OUT.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
