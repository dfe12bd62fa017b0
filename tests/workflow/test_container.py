"""`--sdm apptainer`, with a stand-in for Apptainer that notes its image and runs the command."""

import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

APPTAINER = """#!{python}
import os, sys

arguments = sys.argv[1:]
if "--version" in arguments or "version" in arguments:
    print("apptainer version 1.3.4")
    raise SystemExit
image = next(a for a in arguments if a.endswith(".sif"))
flags = arguments[:arguments.index(image)]
with open({log!r}, "a") as log:
    print(image, "--nv" in flags, file=log)
command = arguments[arguments.index(image) + 1:]
os.execvp(command[0], command)
"""


@pytest.fixture
def contained(project):
    project.use_standin()
    log = project.folder / "images"
    binary = project.folder / "bin/apptainer"
    binary.write_text(APPTAINER.format(python=sys.executable, log=str(log)))
    binary.chmod(0o755)
    rows = [("A", "PA", "infer", "raw files/A.tif", "")]
    project.sheet("ours", rows)
    (project.folder / "raw files").mkdir()
    (project.folder / "raw files/A.tif").touch()
    project.frozen_model("ours")
    project.config(
        {
            "cohorts": {"ours": {"sheet": "config/cohorts/ours.tsv", "model": "ours"}},
            "models": {"ours": {"path": "resources/models/ours"}},
        }
    )
    return project, log


RAW = "results/ours/slides/A/raw.json"


def test_commands_run_in_the_image_only_when_asked(contained, monkeypatch):
    project, log = contained
    project.run(RAW)
    assert not log.exists()
    monkeypatch.setenv("MSDSR_CONTAINER", "/images/ours.sif")
    project.run(RAW, "--forceall", "--sdm", "apptainer", "--apptainer-args=--nv")
    assert log.read_text() == "/images/ours.sif True\n"
    assert len(project.commands()) == 2


def test_the_image_is_looked_for_in_the_working_directory():
    text = (REPOSITORY / "workflow/Snakefile").read_text()
    assert 'container: os.environ.get("MSDSR_CONTAINER", "msdsr.sif")' in text
    assert (
        "apptainer build --build-arg variant=$(VARIANT) msdsr.sif"
        in (REPOSITORY / "Makefile").read_text()
    )
