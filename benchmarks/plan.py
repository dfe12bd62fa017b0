"""How long Snakemake plans for a cohort, and how much memory that takes.

Run from the repository: `.venv/bin/python benchmarks/plan.py [SLIDES ...]`. Each cohort is a sheet
of so many slides (60 % train, 10 % val, 30 % infer, one factor) that trains its own model; the plan
is `snakemake -n --profile profiles/local`. Writes benchmarks/results/plan.json.
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

import snakemake
import yaml

REPOSITORY = Path(__file__).parents[1]
TARGET = {"slides": 1129, "seconds": 60}
HEAD = "slide\tpatient\tpath\tsplit\tz_um\ty_um\tx_um\tchannels\tnotes\n"


def write_cohort(folder: Path, slides: int) -> None:
    """Write a configuration, a sheet and empty raw files."""
    (folder / "config/cohorts").mkdir(parents=True)
    (folder / "raw").mkdir()
    rows = []
    for i in range(slides):
        split = "train" if i < 0.6 * slides else "val" if i < 0.7 * slides else "infer"
        (folder / f"raw/S{i:05}.tif").touch()
        rows.append(f"S{i:05}\tP{i:05}\traw/S{i:05}.tif\t{split}\t1\t0.5\t0.5\tCH2,CH3\t\n")
    (folder / "config/cohorts/large.tsv").write_text(HEAD + "".join(rows))
    config = {
        "cohorts": {"large": {"sheet": "config/cohorts/large.tsv", "model": "own"}},
        "models": {"own": {"cohorts": ["large"]}},
    }
    (folder / "config/config.yaml").write_text(yaml.safe_dump(config))


def plan(slides: int) -> dict[str, float | int]:
    """Plan a cohort once, and return what that took."""
    with tempfile.TemporaryDirectory() as folder:
        write_cohort(Path(folder), slides)
        command = [sys.executable, "-m", "snakemake", "--dry-run"]
        command += ["--snakefile", str(REPOSITORY / "workflow/Snakefile")]
        command += ["--profile", str(REPOSITORY / "profiles/local")]
        with Path(folder, "out.txt").open("w") as out:
            start = time.monotonic()
            process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.monotonic() - start
        text = Path(folder, "out.txt").read_text()
    if status != 0:
        raise SystemExit(text[-2000:])
    jobs = int(re.findall(r"^total +(\d+)$", text, flags=re.MULTILINE)[-1])
    memory = usage.ru_maxrss / 1024  # Linux counts in KiB
    print(f"{slides} slides, {jobs} jobs: {seconds:.1f} s, {memory:.0f} MiB")
    return {
        "slides": slides,
        "jobs": jobs,
        "seconds": round(seconds, 1),
        "peak_memory_mib": round(memory),
    }


def main() -> None:
    """Plan the cohorts named on the command line and note the figures."""
    sizes = [int(argument) for argument in sys.argv[1:]] or [100, TARGET["slides"]]
    record: dict[str, Any] = {
        "claim": "planning a cohort of 1,129 slides takes less than 60 s",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {"cores": os.cpu_count(), "processor": platform.machine()},
        "versions": {"python": platform.python_version(), "snakemake": snakemake.__version__},
        "target": TARGET,
        "runs": [plan(slides) for slides in sizes],
    }
    record["figures"] = [
        {
            "what": f"planning {run['slides']} slides ({run['jobs']} jobs)",
            "value": f"{run['seconds']} s",
            "target": f"< {TARGET['seconds']} s" if run["slides"] == TARGET["slides"] else "",
            "machine": f"{os.cpu_count()} cores",
        }
        for run in record["runs"]
    ]
    out = REPOSITORY / "benchmarks/results/plan.json"
    out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
