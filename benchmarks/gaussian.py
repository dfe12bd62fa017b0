"""What coupling alone does: every mode with the exact denoiser of a Gaussian field.

    python benchmarks/gaussian.py

Writes benchmarks/results/gaussian.json and .csv: relative Fréchet distances of slices ×10³, the
variance (truth 1) and the step across XZ and YZ slices over the truth's, beside the figures of the
test bed on which the method was designed (another implementation, two to four fields, ±3; the
covariance behind its «smooth» is not on record, so at 8× they agree in order, not in size).
"""

from __future__ import annotations

import csv
import datetime
import json
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from msdsr.diffusion.schedule import CosineSchedule
from msdsr.metrics.spectra import lag_one
from msdsr.phantom.gaussian import GaussianField, SliceDenoiser, Texture, frechet_by_plane
from msdsr.superresolve.engine import Block, Mode, Tiling, Walk, restore
from msdsr.volume import Region

RESULTS = Path(__file__).parent / "results"
SIDE, FIELDS = 48, 4
TILING = Tiling(SIDE, SIDE, 64)


@dataclass(frozen=True)
class Bed:
    """One kind of field at one factor."""

    texture: Texture
    length: float
    factor: int

    @property
    def name(self) -> str:
        """As in a table's head."""
        return f"{self.texture} {self.factor}×"


BEDS = (Bed("smooth", 4, 4), Bed("smooth", 4, 8), Bed("rough", 3, 4))
WAYS: tuple[tuple[Mode, int, float], ...] = (
    ("xz", 60, 0.0),
    ("average", 60, 0.0),
    ("joint", 60, 0.0),
    ("joint", 20, 0.0),
    ("alternate", 200, 0.0),
    ("alternate", 60, 0.0),
    ("alternate", 20, 0.0),
    ("alternate", 12, 0.0),
    ("alternate", 8, 0.0),
    ("alternate", 60, 0.5),
    ("alternate", 20, 0.5),
    ("alternate", 12, 0.5),
    ("alternate", 8, 0.5),
)
DESIGN = {
    ("smooth 4×", "posterior"): 8.7, ("smooth 8×", "posterior"): 14.8,
    ("rough 4×", "posterior"): 6.4,
    ("smooth 4×", "xz 60"): 27, ("smooth 8×", "xz 60"): 115, ("rough 4×", "xz 60"): 36,
    ("smooth 4×", "average 60"): 16.3, ("smooth 8×", "average 60"): 61,
    ("rough 4×", "average 60"): 31,
    ("smooth 4×", "alternate 60"): 12.1, ("smooth 8×", "alternate 60"): 35,
    ("rough 4×", "alternate 60"): 15.3,
    ("smooth 4×", "alternate 20"): 13.3, ("smooth 8×", "alternate 20"): 39,
    ("rough 4×", "alternate 20"): 17.3,
    ("smooth 4×", "alternate 20 k=0.5"): 9.6, ("smooth 8×", "alternate 20 k=0.5"): 16.5,
    ("rough 4×", "alternate 20 k=0.5"): 16.2,
    ("smooth 8×", "alternate 8 k=0.5"): 31, ("rough 4×", "alternate 8 k=0.5"): 26,
}  # fmt: skip


def rows(bed: Bed) -> list[dict[str, object]]:
    """Restore all fields of a bed in every way."""
    field = GaussianField(SIDE, bed.length, bed.texture)
    observed = torch.arange(SIDE) % bed.factor == 0
    generator = torch.Generator().manual_seed(0)
    truths = torch.stack([field.sample(generator) for _ in range(FIELDS)])
    denoiser = SliceDenoiser(field, observed)
    exact = torch.stack([field.posterior(truth, observed, generator) for truth in truths])
    region = Region(0, SIDE, 0, SIDE, 0, SIDE)
    found = [_row(bed, field, "truth", 0, truths, truths, 0.0)]
    found.append(_row(bed, field, "posterior", 0, exact, truths, 0.0))
    for mode, steps, strength in WAYS:
        start = time.monotonic()
        sigmas = CosineSchedule().sigma_grid(steps, 80.0, 0.01)
        volumes = [
            restore(
                denoiser,
                Block(truth[None].float(), observed, region, SIDE, SIDE),
                mode,
                Walk(sigmas, 1.0, seed, 2.0, strength),
                TILING,
            )[0]
            for seed, truth in enumerate(truths)
        ]
        evaluations = steps * (2 if mode in ("average", "joint") else 1)
        name = f"{mode} {steps}" + (f" k={strength:g}" if strength else "")
        seconds = time.monotonic() - start
        restored = torch.stack(volumes).double()
        found.append(_row(bed, field, name, evaluations, restored, truths, seconds))
    return found


def _row(
    bed: Bed,
    field: GaussianField,
    name: str,
    evaluations: int,
    volumes: torch.Tensor,
    truths: torch.Tensor,
    seconds: float,
) -> dict[str, object]:
    distances = frechet_by_plane(field, volumes)
    lag = np.mean(
        [float(lag_one(volumes.numpy(), a)[0] / lag_one(truths.numpy(), a)[0]) for a in ("y", "x")]
    )
    print(f"{bed.name:10s} {name:20s} {distances['mean']:6.1f}", flush=True)
    return {
        "bed": bed.name, "way": name, "evaluations": evaluations,
        **{plane: round(value, 2) for plane, value in distances.items()},
        "variance": round(float(volumes.var()), 3), "lag": round(float(lag), 3),
        "design": DESIGN.get((bed.name, name)), "seconds": round(seconds, 1),
    }  # fmt: skip


def figures(table: list[dict[str, object]]) -> list[dict[str, str]]:
    """Return the turns beside the mean of two volumes, by bed."""
    cell = {(row["bed"], row["way"]): row["mean"] for row in table}
    return [
        {
            "what": f"{bed.name}: distance ×10³ of `{way}` ({nfe} evaluations); of `average 60` "
            f"(120): {cell[bed.name, 'average 60']}; of the exact posterior: "
            f"{cell[bed.name, 'posterior']}",
            "value": str(cell[bed.name, way]),
            "target": f"< {cell[bed.name, 'average 60']}",
        }
        for bed in BEDS
        for way, nfe in (("alternate 60", 60), ("alternate 12 k=0.5", 12))
    ]


def main() -> None:
    """Restore every bed and write the table."""
    torch.set_num_threads(1)
    table = [row for bed in BEDS for row in rows(bed)]
    record = {
        "claim": "slices that take turns on one volume come nearer the truth than the mean of two "
        "volumes, with half of the evaluations or fewer",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {"cores": os.cpu_count(), "processor": platform.machine()},
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "fields": FIELDS,
        "side": SIDE,
        "beds": {bed.name: {"texture": bed.texture, "length": bed.length} for bed in BEDS},
        "figures": figures(table),
        "rows": table,
    }
    (RESULTS / "gaussian.json").write_text(json.dumps(record, indent=2) + "\n")
    with (RESULTS / "gaussian.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)


if __name__ == "__main__":
    main()
