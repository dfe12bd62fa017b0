"""From the rows of benchmarks/consistency.py to a table with intervals: .json and .csv.

python benchmarks/consistency_write.py [--results results]
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
import platform
from pathlib import Path
from typing import Any

import beds
import bootstrap
import numpy as np
import scoring
import torch
from consistency import CACHE, SEED

from msdsr.diffusion.network import load_model
from msdsr.evaluate.slices import PLANES

OUT = beds.REPOSITORY / "benchmarks/results"
AGAINST = {"phantom": "average-200", "blastocyst": "average-200", "tuning": "alternate-12-k0.5l2"}
DEFAULT = "alternate-20"
MODES = ("truth", "nearest", "linear", "cubic", "xz", "yz", "average", "joint", "alternate")
DIGITS = 5


def rows_of(bed: beds.Bed) -> list[dict[str, Any]]:
    """Return the finished rows of a bed in the order of the table."""
    lines = (CACHE / bed.name / "rows.jsonl").read_text().splitlines()
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return sorted(
        rows,
        key=lambda r: (r["factor"], MODES.index(r["mode"]), r["noise_strength"], -r["steps"]),
    )


def real_features(bed: beds.Bed, inception: Path) -> beds.Real:
    """Return the features of the real crops, computed once."""
    kept = CACHE / bed.name / "real.npy"
    if not kept.exists():
        real = beds.real_images(bed, scoring.Seer(scoring.HalfInception(inception)))
        np.save(kept, real.features)
    features = np.load(kept)
    return beds.real_images(bed, lambda pictures: features)


def with_intervals(bed: beds.Bed, rows: list[dict[str, Any]], real: beds.Real) -> None:
    """Add each row's difference from the mean of two volumes at 200 steps."""
    for factor in {row["factor"] for row in rows}:
        here = [row for row in rows if row["factor"] == factor]
        ways = {}
        for row in here:
            with np.load(CACHE / bed.name / "features" / f"{factor}x-{row['way']}.npz") as file:
                ways[row["way"]] = {plane: file[plane] for plane in PLANES}
        against = AGAINST[bed.name]
        if against not in ways:
            continue
        found = bootstrap.differences(ways, against, real.features, len(bed.specimens))
        for row in here:
            row |= dict(zip(("relative", "low", "high"), found[row["way"]], strict=True))


def figures(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return what the default, and the best of 20 evaluations or fewer, score against the mean."""
    found = []
    for bed, factor in dict.fromkeys((r["bed"], r["factor"]) for r in rows if r["bed"] != "tuning"):
        here = [r for r in rows if (r["bed"], r["factor"]) == (bed, factor) and "relative" in r]
        few = [r for r in here if 0 < r["evaluations"] <= 20]
        default = [r for r in few if r["way"] == DEFAULT]
        for label, row in [("the default", r) for r in default] + [
            (f"{r['way']}, the best", r) for r in sorted(few, key=lambda r: r["SliceFID"])[:1]
        ]:
            parts = [100 * row[key] for key in ("relative", "low", "high")]
            found.append(
                {
                    "what": f"{bed} {factor}×: SliceFID of {label} ({row['evaluations']} "
                    "evaluations) against `average` at 200 + 200",
                    "value": "{:+.1f} % ({:+.1f} … {:+.1f})".format(*parts),
                    "target": "≤ 0 %" if factor == 2 else "≤ −20 %",
                    "machine": "CPU, bfloat16",
                }
            )
    return found


def main() -> None:
    """Write what there is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=beds.REPOSITORY / "results")
    results = parser.parse_args().results
    torch.set_num_threads(1)
    table: list[dict[str, Any]] = []
    about = {}
    for name in ("phantom", "blastocyst", "tuning"):
        if not (CACHE / name / "rows.jsonl").exists():
            continue
        bed = beds.named(name, results)
        rows = rows_of(bed)
        with_intervals(bed, rows, real_features(bed, results / "resources/inception.pt"))
        table += rows
        model = load_model(bed.model)
        about[bed.name] = {
            "volumes": bed.about,
            "weights_sha256": model.weights_sha256,
            "training": model.training,
        }
    shown = [
        {k: round(v, DIGITS) if isinstance(v, float) else v for k, v in row.items()}
        for row in table
    ]
    record = {
        "claim": "at 20 evaluations a voxel or fewer, SliceFID no worse than the mean of XZ and YZ "
        "at 200 + 200 at every factor, and 20 % better at 4× and 8×",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {"cores": os.cpu_count(), "processor": platform.machine()},
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "seed": SEED,
        "precision": "bfloat16 under autocast",
        "inception": "bfloat16",
        "crops": f"{scoring.CROPS} of {beds.CROP}×{beds.CROP} an orientation, "
        f"against {beds.REFERENCE_CROPS} real ones",
        "seconds": "of the network, all volumes of the bed, one thread of a machine that had other "
        "work to do: an upper bound",
        "figures": figures(table),
        "beds": about,
        "rows": shown,
    }
    (OUT / "consistency.json").write_text(json.dumps(record, indent=1) + "\n")
    names = list(dict.fromkeys(key for row in shown for key in row))
    with (OUT / "consistency.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(shown)


if __name__ == "__main__":
    main()
