import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
HEAD = "slide\tpatient\tpath\tsplit\tz_um\ty_um\tx_um\tchannels\tnotes\ttruth\n"


class Project:
    """A working directory of its own, in a path with a space, run by the repository's workflow."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "config/cohorts").mkdir(parents=True)
        self.path = os.environ["PATH"]

    def use_standin(self):
        """Put the stand-in before the real `msdsr`."""
        command = self.folder / "bin/msdsr"
        command.parent.mkdir()
        program = shlex.join([sys.executable, str(Path(__file__).with_name("standin.py"))])
        command.write_text(f'#!/bin/sh\nexec {program} "$@"\n')
        command.chmod(0o755)
        self.path = f"{command.parent}:{self.path}"

    def config(self, values, name="config/config.yaml"):
        (self.folder / name).write_text(yaml.safe_dump(values))

    def sheet(self, cohort, rows):
        """Write a sample sheet of (slide, patient, split, path, truth)."""
        lines = [
            f"{slide}\t{patient}\t{path}\t{split}\t1\t0.5\t0.5\tCH2,CH3\t\t{truth}\n"
            for slide, patient, split, path, truth in rows
        ]
        (self.folder / f"config/cohorts/{cohort}.tsv").write_text(HEAD + "".join(lines))

    def frozen_model(self, name="phantom-tiny"):
        folder = self.folder / "resources/models" / name
        folder.mkdir(parents=True)
        for file in ("config.json", "msdsr.json", "diffusion_pytorch_model.safetensors"):
            (folder / file).write_text("{}")

    def snakemake(self, *arguments, expect=0):
        """Run Snakemake here and return all it says."""
        command = [sys.executable, "-m", "snakemake", "--snakefile"]
        done = subprocess.run(
            [*command, str(REPOSITORY / "workflow/Snakefile"), *map(str, arguments)],
            cwd=self.folder,
            env=os.environ | {"PATH": self.path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == expect, done.stdout
        return done.stdout

    def start(self, *arguments):
        """Start Snakemake here with the local profile, and do not wait for it."""
        command = [sys.executable, "-m", "snakemake", "--snakefile"]
        profile = ("--profile", REPOSITORY / "profiles/local")
        return subprocess.Popen(
            [*command, str(REPOSITORY / "workflow/Snakefile"), *map(str, (*profile, *arguments))],
            cwd=self.folder,
            env=os.environ | {"PATH": self.path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments, expect=0):
        return self.snakemake("--profile", REPOSITORY / "profiles/local", *arguments, expect=expect)

    def plan(self, *arguments, profile="local"):
        return Plan(
            self.snakemake("--dry-run", "--profile", REPOSITORY / "profiles" / profile, *arguments)
        )

    def commands(self):
        """Return every command that the stand-in was given."""
        lines = (self.folder / "commands.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


class Plan:
    """What a dry run says it would do."""

    def __init__(self, text):
        self.text = text
        self.jobs = [
            dict(re.findall(r"^(?:    )?(\w+):? (.*)$", block, flags=re.MULTILINE))
            | {"rule": re.match(r"(?:local)?rule (\S+):", block)[1]}
            for block in re.split(r"\n\[[^\n]*\d{4}\]\n", text)
            if re.match(r"(?:local)?rule (\S+):", block)
        ]

    def rules(self):
        return {job["rule"] for job in self.jobs} - {"all"}

    def count(self, rule):
        return sum(job["rule"] == rule for job in self.jobs)

    def of(self, rule):
        return [job for job in self.jobs if job["rule"] == rule]

    def changed(self):
        """Return the rules that run because their own params changed."""
        return {job["rule"] for job in self.jobs if "Params have changed" in job["reason"]}


@pytest.fixture(scope="session")
def make_project():
    def make(parent):
        folder = parent / "a lab's clone"
        folder.mkdir()
        return Project(folder)

    return make


@pytest.fixture
def project(tmp_path, make_project):
    return make_project(tmp_path)


@pytest.fixture
def demo(project):
    """The repository's own demo configuration, with a model that is there but empty."""
    shutil.copy(REPOSITORY / "config/demo.yaml", project.folder / "config/config.yaml")
    shutil.copy(REPOSITORY / "config/cohorts/demo.tsv", project.folder / "config/cohorts")
    project.frozen_model()
    return project
