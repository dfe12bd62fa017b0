"""The two recipes of the image agree with each other and with the project.

The images themselves are built where Docker is to be had (.github/workflows/ci.yml). What their
build stage does is done without it by `make container-check`.
"""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
DOCKERFILE = REPOSITORY / "container/Dockerfile"
DEFINITION = REPOSITORY / "container/msdsr.def"
INSTALL = REPOSITORY / "container/install.sh"


def copied():
    """Return what the Dockerfile copies from the repository."""
    lines = re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE.read_text(), flags=re.MULTILINE)
    return {name.rstrip("/") for line in lines for name in shlex.split(line)[:-1]}


def section(name):
    """Return the lines of a section of the Apptainer definition."""
    text = re.split(r"^%(\w+)$", DEFINITION.read_text(), flags=re.MULTILINE)
    body = dict(zip(text[1::2], text[2::2], strict=True))[name]
    return [line.strip() for line in body.splitlines() if line.strip()]


def test_hadolint_has_nothing_to_say():
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_both_recipes_start_from_one_pinned_image():
    (image,) = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", DOCKERFILE.read_text(), flags=re.MULTILINE)
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+", image)
    assert f"\nFrom: {image}\n" in DEFINITION.read_text()
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE.read_text(), flags=re.MULTILINE)) == {
        "${PYTHON_IMAGE}"
    }


def test_both_recipes_take_the_same_files_and_no_others_reach_them():
    files = {line.split()[0] for line in section("files")}
    assert files == copied()
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    assert {line[1:] for line in lines if line.startswith("!")} == copied()
    assert all((REPOSITORY / name).exists() for name in copied())


def test_both_recipes_run_the_same_installation():
    dockerfile = re.findall(r"^RUN .*install.sh (\w+)$", DOCKERFILE.read_text(), re.MULTILINE)
    definition = [line.split()[-1] for line in section("post") if "install.sh" in line]
    assert dockerfile == definition == ["dependencies", "package"]


def test_both_recipes_set_the_same_environment():
    wanted = {line.removeprefix("export ") for line in section("environment")}
    text = DOCKERFILE.read_text()
    assert all(line in text for line in wanted)


def test_the_image_names_the_version_of_the_project():
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    assert f"ARG VERSION={version}\n" in DOCKERFILE.read_text()
    assert f"org.opencontainers.image.version {version}" in section("labels")


def test_the_image_is_not_run_by_root_and_takes_whole_commands():
    text = DOCKERFILE.read_text()
    final = text[text.rindex("FROM ") :]
    assert re.search(r"^USER [1-9]\d*$", final, flags=re.MULTILINE)
    # Snakemake runs `sh -c ...` in it: an entry point would stand in the way.
    assert "ENTRYPOINT" not in final


@pytest.fixture
def recorded(tmp_path):
    """Run the installation with a Python that only notes what it is asked."""
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin/python"
    python.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\n')
    python.chmod(0o755)

    def run(step, **environment):
        done = subprocess.run(
            ["sh", INSTALL, step],
            env={"PATH": "/usr/bin:/bin", "PREFIX": str(tmp_path), "PYTHON": str(python)}
            | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        asked = tmp_path / "asked"
        return done, asked.read_text().splitlines() if asked.exists() else []

    return run


@pytest.mark.parametrize(
    ("environment", "index"),
    [
        ({"VARIANT": "cpu"}, "https://download.pytorch.org/whl/cpu"),
        ({"VARIANT": "cuda"}, None),
        ({"VARIANT": "cuda", "TORCH_INDEX": "https://example.org/old"}, "https://example.org/old"),
        ({"VARIANT": "cpu", "TORCH_INDEX": ""}, None),
    ],
)
def test_torch_alone_comes_from_another_index(recorded, environment, index):
    done, asked = recorded("dependencies", **environment)
    assert done.returncode == 0, done.stderr
    torch, rest = (line for line in asked if "pip install" in line)
    assert torch.endswith("torch")
    assert "--no-deps" in torch
    assert ("--index-url" in torch) == (index is not None)
    assert index is None or f"--index-url {index} torch" in torch
    assert "index-url" not in rest
    assert all("--constraint constraints.txt" in line for line in (torch, rest))


def test_an_unknown_variant_is_one_clear_line(recorded):
    done, asked = recorded("dependencies", VARIANT="rocm")
    assert done.returncode == 2
    assert done.stderr == "install.sh: VARIANT=rocm; expected cpu or cuda\n"
    assert asked == []


def test_ci_runs_what_developers_run_and_builds_both_variants():
    text = (REPOSITORY / ".github/workflows/ci.yml").read_text()
    jobs = yaml.safe_load(text)["jobs"]
    assert any(".ci/run" in step.get("run", "") for step in jobs["tests"]["steps"])
    assert jobs["images"]["strategy"]["matrix"]["variant"] == ["cpu", "cuda"]
    assert "push:" not in text.split("jobs:")[1]
