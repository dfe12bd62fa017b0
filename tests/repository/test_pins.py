"""What is pinned is what is installed, for pip and conda, and nothing unwanted comes with it."""

import re
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).parents[2]
CONDA = ("environment.yml", "workflow/envs/msdsr.yaml")
UNWANTED = {"torchvision", "torchaudio", "opencv-python", "opencv-python-headless"}
OWN_CHOICE = {"torch", "pip", "setuptools"}
"""A site may have a torch for its driver, and tools of its Python's age."""


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def constraints():
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert len(pins) == len({normal(name) for name, _ in pins})
    return {normal(name): version for name, version in pins}


def needed(name, extras=()):
    """Return the distributions that are installed because of one, itself included."""
    found = {}
    waiting = [(normal(name), frozenset(extras))]
    while waiting:
        current, wanted = waiting.pop()
        if wanted <= found.get(current, frozenset({"-"})) and current in found:
            continue
        found[current] = found.get(current, frozenset()) | wanted
        for line in metadata.requires(current) or []:
            requirement = Requirement(line)
            contexts = [{"extra": extra} for extra in (*wanted, "")]
            if requirement.marker is None or any(map(requirement.marker.evaluate, contexts)):
                waiting.append((normal(requirement.name), frozenset(requirement.extras)))
    return set(found) - {normal(name)}


def test_all_that_is_installed_for_us_has_its_pinned_version():
    pins = constraints()
    installed = {name: metadata.version(name) for name in needed("msdsr", ["dev"]) - OWN_CHOICE}
    assert {name: pins.get(name) for name in installed} == installed


def test_nothing_unwanted_comes_with_it():
    assert not needed("msdsr", ["dev"]) & UNWANTED
    assert not set(constraints()) & UNWANTED


@pytest.mark.parametrize("path", CONDA)
def test_conda_environments_are_pinned_and_take_no_default_channel(path):
    environment = yaml.safe_load((REPOSITORY / path).read_text())
    assert environment["channels"] == ["conda-forge", "bioconda", "nodefaults"]
    names = []
    for line in environment["dependencies"]:
        match = re.fullmatch(r"([a-z0-9-]+)(?: =([0-9][0-9a-z.]*))?", line)
        assert match, line
        names.append(match[1])
        assert match[2] or match[1] == "pip"
    assert len(names) == len(set(names))
    assert not set(names) & UNWANTED


def test_every_place_has_the_same_python():
    for path in CONDA:
        assert "python =3.11" in yaml.safe_load((REPOSITORY / path).read_text())["dependencies"]
    assert "=python:3.11." in (REPOSITORY / "container/Dockerfile").read_text()
    assert "python3.11" in (REPOSITORY / "Makefile").read_text()
