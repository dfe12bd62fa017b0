"""pyproject.toml, constraints.txt, environment.yml and the workflow's own environment agree."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]

CONDA_NAMES = {
    "dask": "dask-core",
    "matplotlib": "matplotlib-base",
    "snakemake": "snakemake-minimal",
    "torch": "pytorch",
}
"""Packages that conda knows by another name than the package index."""


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(extra=None):
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    lines = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return [normal(re.match(r"[\w.-]+", line)[0]) for line in lines]


def constraints():
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {normal(name): version for name, version in pins}


def conda_packages(path):
    environment = yaml.safe_load((REPOSITORY / path).read_text())
    packages = {}
    for line in environment["dependencies"]:
        name, _, version = line.partition(" =")
        packages[name] = version
    return environment["channels"], packages


def test_conda_has_the_versions_of_constraints():
    _, packages = conda_packages("environment.yml")
    pins = constraints()
    wanted = {CONDA_NAMES.get(name, name): pins[name] for name in requirements()}
    assert packages == {"python": "3.11", **wanted, "pip": ""}


def test_the_rules_have_the_same_environment():
    assert conda_packages("workflow/envs/msdsr.yaml") == conda_packages("environment.yml")


@pytest.mark.parametrize("extra", [None, "dev", "docs", "view"])
def test_every_requirement_is_pinned(extra):
    assert set(requirements(extra)) <= set(constraints())


def test_torch_is_pinned_without_a_build():
    assert constraints()["torch"] == "2.13.0"
    assert "torchvision" not in constraints()


def make(*arguments, folder):
    """Run make as from a shell, also when make is what runs the tests."""
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k != "MFLAGS"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_makefile_works_where_paths_have_spaces(tmp_path):
    # `make -n` in a copy: nothing may expand the folder's own path outside quotes.
    folder = tmp_path / "a lab's clone"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (folder / name).write_text((REPOSITORY / name).read_text())
    for target in ("demo", "test", "example", "browser", "lint", "docs"):
        done = make("-n", target, folder=folder)
        assert done.returncode == 0, done.stderr
        assert str(folder) not in done.stdout


def test_without_a_usable_python_make_says_so(tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text((REPOSITORY / name).read_text())
    done = make("test", "PYTHONS=python-that-is-not-there", folder=tmp_path)
    assert done.returncode == 2
    assert "expected 3.11 or newer" in done.stderr
    assert not (tmp_path / ".venv").exists()
