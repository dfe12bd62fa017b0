"""The package as it is installed: a wheel holds all that the code reads beside itself."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGED = ("msdsr", "resources", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel from a copy, so that the working tree stays as it is."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in PACKAGED:
        source = REPOSITORY / name
        if source.is_dir():
            skip = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, folder / "source" / name, symlinks=True, ignore=skip)
        else:
            shutil.copy(source, folder / "source" / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [*command, *offline, "--wheel-dir", folder, folder / "source"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (file,) = folder.glob("msdsr-*-py3-none-any.whl")
    with zipfile.ZipFile(file) as archive:
        yield archive


def test_a_wheel_holds_every_file_of_the_package(wheel):
    package = REPOSITORY / "msdsr"
    wanted = {
        file.relative_to(REPOSITORY).as_posix()
        for file in package.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    # Templates, scripts, styles and the marker of types are what is easily forgotten.
    assert {Path(name).suffix for name in wanted} >= {".py", ".typed", ".j2", ".js"}
    assert wanted <= set(wheel.namelist())


def test_a_wheel_carries_the_shipped_models_as_files(wheel):
    model = REPOSITORY / "resources/models/phantom-tiny"
    for file in model.iterdir():
        assert wheel.read(f"msdsr/resources/models/phantom-tiny/{file.name}") == file.read_bytes()


def test_a_wheel_holds_nothing_else(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert tops == {"msdsr", next(top for top in tops if top.endswith(".dist-info"))}
