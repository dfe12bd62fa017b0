"""A lab with a cluster: a folder with a cohort of phantoms, and Snakemake that runs it on Slurm."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import yaml
from sandbox import SlurmSandbox, wait_until

from msdsr.config import PhantomConfig
from msdsr.phantom import sheet_rows
from msdsr.sheet import write_sheet

REPOSITORY = Path(__file__).parents[2]
POLLING = Path(__file__).with_name("polling_snakemake.py")
PROFILE = REPOSITORY / "profiles/slurm"

PHANTOM = {
    "train_patients": 1,
    "val_patients": 1,
    "infer_patients": 1,
    "size": 64,
    "planes": 6,
    "images_2d": 0,
}
CONFIG = {
    "cohorts": {
        "tiny": {
            "sheet": "config/cohorts/tiny.tsv",
            "source": "phantom",
            "model": "smallest",
        }
    },
    "models": {
        "smallest": {
            "preset": "tiny",
            "cohorts": ["tiny"],
            "network": {
                "image_size": 16,
                "block_out_channels": [8, 16],
                "attention_levels": [False, False],
                "attention_head_dim": 8,
                "norm_num_groups": 4,
            },
            "optimiser": {
                "images": 4800,  # some seconds, for faults to find it at work
                "batch": 16,
                "micro_batch": 16,
                "validate_every": 1_000_000,
                "validate_restored_every": 0,
                "restored_crops": 4,
                "checkpoint_minutes": 0.02,
                "tracking": [],
            },
        },
    },
    "phantom": PHANTOM,
    "patch": {"size": 32},
    "trainset": {"size": 32, "min_side": 16},
    "superresolve": {
        "factors": [2],
        "methods": ["msdsr"],
        "steps": 6,
        "stride": 12,
        "checkpoint_minutes": 0.0,  # every step is saved
    },
    "evaluate": {
        "baselines": ["linear"],
        "crop": 8,
        "max_images": 12,
        "max_reference_images": 20,
        "inception": "stand-in network.pt",
    },
}


RESTORING = ("superresolve_slide", "superresolve_heldout")
EVALUATING = ("evaluate_reference", "evaluate_slide", "evaluate_cohort")

STARTED: list[subprocess.Popen[str]] = []
"""Each Snakemake of a test, to be ended with it."""

TIMES = ("created", "measured", "seconds", "images_per_s")
"""What manifests and curves say of a run, and not of its result."""


def unhurried(path: Path) -> object:
    """Return what a file holds, without times and rates."""
    if path.suffix == ".json" and path.name != "zarr.json":
        return without_times(json.loads(path.read_text()))
    if path.suffix == ".jsonl":
        return [without_times(json.loads(line)) for line in path.read_text().splitlines()]
    return path.read_bytes()


def without_times(record: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in record.items() if key not in TIMES}


class Lab:
    """A working directory of its own, in a path with a space, on a file system all nodes see."""

    def __init__(self, folder: Path, slurm: SlurmSandbox):
        self.folder = folder
        self.slurm = slurm

    @classmethod
    def furnish(cls, folder: Path, slurm: SlurmSandbox, inception: Path, **changes: object) -> Lab:
        """Write configuration, sample sheet and the stand-in for Inception."""
        (folder / "config/cohorts").mkdir(parents=True)
        write_sheet(
            folder / "config/cohorts/tiny.tsv", sheet_rows(PhantomConfig(**PHANTOM), "tiny")
        )
        (folder / "config/config.yaml").write_text(yaml.safe_dump(CONFIG | changes))
        shutil.copy(inception, folder / "stand-in network.pt")
        return cls(folder, slurm)

    def copy(self, folder: Path, without: tuple[str, ...]) -> Lab:
        """Return a copy of this lab in which some products were never made, and no run is known."""
        shutil.copytree(self.folder, folder, symlinks=True)
        shutil.rmtree(folder / ".snakemake/log")
        for name in without:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return Lab(folder, self.slurm)

    def start(self, *arguments: object, profile: Path = PROFILE) -> subprocess.Popen[str]:
        """Start Snakemake here, and do not wait for it."""
        command = [sys.executable, POLLING, "--snakefile", REPOSITORY / "workflow/Snakefile"]
        # One thread a job: Snakemake tells numerical libraries of a rule's threads, and many
        # threads of a few jobs that share two cores keep each other waiting.
        threads = [f"{rule}=1" for rule in ("train_model", *RESTORING, *EVALUATING)]
        options = ["--profile", profile, "--latency-wait", 5, "--set-threads", *threads]
        with (self.folder / "said.txt").open("w") as said:
            process = subprocess.Popen(
                [str(word) for word in (*command, *arguments, *options)],
                cwd=self.folder,
                env=self.slurm.env() | {"OMP_NUM_THREADS": "1"},
                stdout=said,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        STARTED.append(process)
        return process

    def said(self) -> str:
        """Return what the Snakemake that was started last has said."""
        return (self.folder / "said.txt").read_text()

    def finish(self, process: subprocess.Popen[str], expect: int = 0, timeout: float = 900) -> str:
        """Wait for Snakemake and return all it said."""
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"not done in {timeout:.0f} s\n{self.said()[-4000:]}") from None
        assert process.returncode == expect, f"{self.said()[-4000:]}\n{self.logs()}"
        return self.said()

    def run(self, *arguments: object, expect: int = 0, **options) -> str:
        return self.finish(self.start(*arguments, **options), expect)

    def logs(self) -> str:
        """Return the ends of all logs of this lab, for a test that failed."""
        paths = sorted((self.folder / "results/logs").rglob("*.log"), key=os.path.getmtime)
        return "\n".join(f"--- {p}\n{p.read_text(errors='replace')[-1500:]}" for p in paths[-3:])

    def contents(self, *names: str) -> dict[str, object]:
        """Return what files, and the files in folders, hold: all that is the same in any run."""
        paths = [path for name in names for path in (self.folder / name, *self.within(name))]
        return {
            str(path.relative_to(self.folder)): unhurried(path)
            for path in paths
            if path.is_file() and path.name != ".snakemake_timestamp"
        }

    def within(self, name: str) -> list[Path]:
        return sorted((self.folder / name).rglob("*"))

    # --- what ran ---------------------------------------------------------------------------------

    def jobs(self, run: str | None = None) -> list[dict[str, str]]:
        """Return the jobs that this lab has had on Slurm, of one run or of all, with their rule."""
        mine = [job for job in self.slurm.jobs() if self.is_mine(job)]
        return [
            job | {"Rule": re.match(r"rule_(.*?)(?:_wildcards_.*)?$", job["Comment"])[1]}
            for job in mine
            if run is None or job["JobName"] == run
        ]

    def is_mine(self, job: dict[str, str]) -> bool:
        return job["JobName"] in self.runs()

    def runs(self) -> list[str]:
        """Return the ids of the runs of this lab, the oldest first."""
        logs = sorted((self.folder / ".snakemake/log").glob("*.log"))
        return [r for log in logs for r in re.findall(r"SLURM run ID: (\S+)", log.read_text())]

    def count(self, run: str | None = None) -> Counter[str]:
        """Return how many jobs each rule has had."""
        return Counter(job["Rule"] for job in self.jobs(run))

    def await_job(self, rule: str, state: str = "RUNNING") -> dict[str, str]:
        """Wait until a job of a rule has come to a state, and return it."""

        def found() -> list[dict[str, str]]:
            return [j for j in self.jobs() if j["Rule"] == rule and j["JobState"] == state]

        wait_until(lambda: bool(found()), f"{rule} {state}\n{self.said()}", timeout=180)
        return found()[-1]
