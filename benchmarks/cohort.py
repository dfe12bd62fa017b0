"""What a large cohort costs beside its own work: planning, jobs on a cluster, and their overhead.

Run from the repository: `.venv/bin/python benchmarks/cohort.py plan [SLIDES ...]` and
`… cohort.py run [SLIDES]` (needs Debian's Slurm, as `make cluster` installs it). Each writes its
part of benchmarks/results/cohort.json.

`plan`: a sheet of so many slides (60 % train, 10 % val, 30 % infer, one factor, a model of its
own), planned by `snakemake --dry-run` with nothing made, and again with everything made and
recorded, as it is before a cohort gets its next slides. `run`: so many phantom slides, tiny and
restored by `nearest`, through `profiles/slurm` on a private Slurm, with a job for each stage and
with `fused=true`.
"""

from __future__ import annotations

import csv
import datetime
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import snakemake
import yaml

REPOSITORY = Path(__file__).parents[1]
RESULT = REPOSITORY / "benchmarks/results/cohort.json"
TARGETS = {1129: 30, 10000: 120}
"""Seconds that a plan of so many slides may take."""

HEAD = "slide\tpatient\tpath\tsplit\tz_um\ty_um\tx_um\tchannels\tnotes\n"
SNAKEFILE = ("--snakefile", str(REPOSITORY / "workflow/Snakefile"))
SIDE, PLANES = 64, 6


# --- planning -----------------------------------------------------------------------------------


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


def measured(folder: Path, *arguments: str) -> tuple[dict[str, float], str]:
    """Run Snakemake in a folder; return what it took, and all it said."""
    command = [sys.executable, "-m", "snakemake", *SNAKEFILE, *arguments]
    command += ["--profile", str(REPOSITORY / "profiles/slurm")]
    with Path(folder, "out.txt").open("w") as out:
        start = time.monotonic()
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
    text = Path(folder, "out.txt").read_text()
    if status != 0:
        raise SystemExit(text[-3000:])
    found = {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_memory_mib": round(usage.ru_maxrss / 1024),  # Linux counts in KiB
    }
    return found, text


def make_outputs(folder: Path, text: str) -> None:
    """Make something at each output that a dry run names."""
    for line in re.findall(r"^ *output: (.*)$", text, flags=re.M):
        for name in line.split(", "):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix in (".zarr", "") and not path.exists():
                path.mkdir()
                (path / "zarr.json").write_text("{}\n")
            elif not path.exists():
                path.write_text("{}\n")


def plan(slides: int) -> dict[str, Any]:
    """Plan a cohort with nothing made, with everything made, and fused."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_cohort(folder, slides)
        record: dict[str, Any] = {"slides": slides}
        record["nothing_made"], text = measured(folder, "--dry-run")
        record["jobs"] = int(re.findall(r"^total +(\d+)$", text, flags=re.M)[-1])
        print(record, flush=True)
        record["fused"], _ = measured(folder, "--dry-run", "--config", "fused=true")
        print(record["fused"], flush=True)
        make_outputs(folder, text)
        measured(folder, "--touch", "--cores", "1")  # records params and code, as a run does
        record["all_made"], text = measured(folder, "--dry-run")
        record["all_made"]["jobs"] = 0 if "Nothing to be done" in text else "some"
        print(record["all_made"], flush=True)
    return record


# --- running ------------------------------------------------------------------------------------


def furnish(folder: Path, slides: int) -> None:
    """Write a cohort of copies of one phantom slide, its configuration, and a tiny Inception."""
    import torch
    from lab import StandIn  # type: ignore[import-not-found]

    from msdsr.config import PhantomConfig
    from msdsr.phantom.cohort import make_slide

    (folder / "config/cohorts").mkdir(parents=True)
    (folder / "raw").mkdir()
    settings = PhantomConfig(
        train_patients=1, val_patients=1, infer_patients=1, size=SIDE, planes=PLANES, images_2d=0
    )
    make_slide("P01-S1", settings, "bench", 1, folder / "raw/one.tif", None)
    rows = []
    for i in range(slides + 1):
        split = "val" if i == slides else "infer"
        shutil.copy(folder / "raw/one.tif", folder / f"raw/S{i:03}.tif")
        rows.append(f"S{i:03}\tP{i:03}\traw/S{i:03}.tif\t{split}\t1\t0.5\t0.5\tCH2,CH3\t\n")
    (folder / "config/cohorts/bench.tsv").write_text(HEAD + "".join(rows))
    torch.jit.script(StandIn()).save(str(folder / "standin.pt"))
    config = {
        "cohorts": {"bench": {"sheet": "config/cohorts/bench.tsv", "model": "demo"}},
        "models": {"demo": {"path": "resources/models/phantom-tiny"}},
        "patch": {"size": 32},
        "superresolve": {"factors": [2], "methods": ["nearest"]},
        "evaluate": {
            "baselines": ["linear"],
            "crop": 8,
            "max_images": 12,
            "max_reference_images": 20,
            "inception": "standin.pt",
        },
    }
    (folder / "config/config.yaml").write_text(yaml.safe_dump(config))


def stage_seconds(folder: Path) -> float:
    """Return the seconds of all stages, from Snakemake's benchmark files."""
    total = 0.0
    for path in (folder / "results/benchmarks").rglob("*.tsv"):
        with path.open() as handle:
            total += sum(float(row["s"]) for row in csv.DictReader(handle, delimiter="\t"))
    return total


def digests(folder: Path) -> dict[str, str]:
    """Return a hash of every array's bytes and of every table of metrics."""
    wanted = [p for p in (folder / "results/bench").rglob("*") if p.is_file()]
    kept = [p for p in wanted if "/c/" in p.as_posix() or p.suffix == ".csv"]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in kept}


def elapsed(job: dict[str, str]) -> float:
    """Return the seconds that a job ran, as Slurm counts them."""
    *days, clock = job["RunTime"].split("-")
    hours, minutes, seconds = map(int, clock.split(":"))
    return 86400 * int(days[0] if days else 0) + 3600 * hours + 60 * minutes + seconds


def run(slides: int, others: int, *arguments: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Run a cohort on a private Slurm; return what it took, and the digests of its results.

    `others` are the jobs that are no restored slide's: the cohort's three, and those of its slide
    in `val`.
    """
    from sandbox import Node, SlurmSandbox  # type: ignore[import-not-found]

    partitions = (
        "PartitionName=cpu Nodes=cpu1 Default=YES State=UP\nPartitionName=gpu Nodes=gpu1 State=UP\n"
    )
    nodes = (Node("cpu1", cpus=8), Node("gpu1", cpus=16, gpus=2, model="h100"))
    polling = REPOSITORY / "tests/cluster/polling_snakemake.py"
    with tempfile.TemporaryDirectory(prefix="m-") as name:
        folder, root = Path(name, "lab"), Path(name, "s")
        folder.mkdir(), root.mkdir()
        furnish(folder, slides)
        seen: dict[str, dict[str, str]] = {}
        with SlurmSandbox(root, nodes=nodes, partitions=partitions) as slurm:
            command = [sys.executable, str(polling), *SNAKEFILE]
            command += ["--profile", str(REPOSITORY / "profiles/slurm"), "--latency-wait", "5"]
            start = time.monotonic()
            with (folder / "said.txt").open("w") as out:
                process = subprocess.Popen(
                    [*command, *arguments],
                    cwd=folder,
                    env=slurm.env() | {"OMP_NUM_THREADS": "1"},
                    stdout=out,
                    stderr=subprocess.STDOUT,
                )
                while process.poll() is None:
                    time.sleep(5)  # Slurm forgets jobs after minutes
                    seen |= {job["JobId"]: job for job in slurm.jobs()}
            wall = time.monotonic() - start
            seen |= {job["JobId"]: job for job in slurm.jobs()}
        if process.returncode != 0:
            raise SystemExit((folder / "said.txt").read_text()[-5000:])
        stages = stage_seconds(folder)
        held = sum(elapsed(job) for job in seen.values())
        record = {
            "slides": slides,
            "submitted_jobs": len(seen),
            "jobs_a_slide": round((len(seen) - others) / slides, 2),
            "wall_seconds": round(wall, 1),
            "stage_seconds": round(stages, 1),
            "job_seconds": round(held, 1),
            "overhead_job_seconds_a_slide": round((held - stages) / slides, 1),
            "wall_seconds_a_slide": round(wall / slides, 1),
        }
        print(record, flush=True)
        return record, digests(folder)


# --- the record ---------------------------------------------------------------------------------


def figures(record: dict[str, Any]) -> list[dict[str, str]]:
    """Return the lines of the page of benchmarks."""
    where = f"{os.cpu_count()} cores, busy with other work"
    rows = []
    for one in record.get("plans", []):
        target = TARGETS.get(one["slides"])
        kinds = {
            "nothing_made": "nothing made",
            "fused": "nothing made, fused",
            "all_made": "all made",
        }
        for key, words in kinds.items():
            if key not in one:
                continue
            rows.append(
                {
                    "what": f"plan of {one['slides']:,} slides ({one['jobs']:,} jobs), {words}; "
                    f"{one[key]['cpu_seconds']} s of CPU, {one[key]['peak_memory_mib']} MiB",
                    "value": f"{one[key]['seconds']} s",
                    "target": f"< {target} s" if target else "",
                    "machine": where,
                }
            )
    for name, one in record.get("runs", {}).items():
        words = f"{one['slides']} phantom slides on Slurm, {name}"
        rows.append(
            {
                "what": f"{words}: jobs submitted a slide",
                "value": str(one["jobs_a_slide"]),
                "target": "≤ 2" if name == "fused" else "≤ 6",
                "machine": where,
            }
        )
        rows.append(
            {
                "what": f"{words}: seconds of jobs a slide beyond its stages'",
                "value": str(one["overhead_job_seconds_a_slide"]),
                "machine": where,
            }
        )
    if "same_bytes" in record:
        rows.append(
            {
                "what": f"files of results that are the same, fused and not (of {record['files']})",
                "value": str(record["same_bytes"]),
                "target": str(record["files"]),
                "machine": where,
            }
        )
    return rows


def main() -> None:
    """Measure one part and write the record."""
    what, *rest = sys.argv[1:] or ["plan"]
    record: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    record |= {
        "claim": "a plan of 1,129 slides takes less than 30 s and of 10,000 less than 2 min; a "
        "slide is at most 6 jobs on a cluster, and 2 with fused=true",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {"cores": os.cpu_count(), "processor": platform.machine()},
        "versions": {"python": platform.python_version(), "snakemake": snakemake.__version__},
    }
    if what == "plan":
        record["plans"] = [plan(int(slides)) for slides in rest or TARGETS]
    else:
        sys.path.insert(0, str(REPOSITORY / "tests/cluster"))
        slides = int(rest[0]) if rest else 200
        apart, expected = run(slides, 6)
        fused, found = run(slides, 4, "--config", "fused=true")
        record["runs"] = {"a job a stage": apart, "fused": fused}
        record["files"] = len(expected)
        record["same_bytes"] = sum(found.get(path) == digest for path, digest in expected.items())
    record["figures"] = figures(record)
    RESULT.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
