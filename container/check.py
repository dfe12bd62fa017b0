"""Does what the Dockerfile's build stage does, without Docker: `make container-check`.

The stage's COPY and RUN lines are read from the Dockerfile and carried out in an empty folder, with
a new virtual environment for a prefix. So the files that reach the image are enough, the versions
install together, and what was installed runs: one synthetic slide, from somewhere else.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Return a Dockerfile's instructions with their arguments, continued lines joined."""
    text = dockerfile.read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1].strip()) for line in lines]


def build_stage(dockerfile: Path) -> list[tuple[str, str]]:
    """Return the COPY and RUN instructions of the stage named `build`."""
    found: list[tuple[str, str]] = []
    inside = False
    for name, rest in instructions(dockerfile):
        if name == "FROM":
            inside = rest.endswith(" AS build")
        elif inside and name in ("COPY", "RUN"):
            found.append((name, rest))
    return found


def copy(rest: str, source: Path) -> None:
    """Carry out a COPY: files into a folder, or a folder's content into one of that name."""
    *names, target = shlex.split(rest)
    for name in names:
        origin, folder = REPOSITORY / name, source / target
        folder.mkdir(parents=True, exist_ok=True)
        if origin.is_dir():
            skip = shutil.ignore_patterns("__pycache__")
            shutil.copytree(origin, folder, symlinks=True, ignore=skip, dirs_exist_ok=True)
        else:
            shutil.copy(origin, folder)


def main() -> None:
    """Build, and run one command of what was built."""
    with tempfile.TemporaryDirectory(prefix="msdsr-container-") as scratch:
        root = Path(scratch).resolve()
        source, prefix, elsewhere = root / "src", root / "prefix", root / "elsewhere"
        source.mkdir()
        elsewhere.mkdir()
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        environment = inherited | {
            "PREFIX": str(prefix),
            "PYTHON": sys.executable,
            "VARIANT": "cpu",
            "PYTHONNOUSERSITE": "1",
        }
        for name, rest in build_stage(REPOSITORY / "container/Dockerfile"):
            print(f"container-check: {name} {rest}", flush=True)
            if name == "COPY":
                copy(rest, source)
            else:
                subprocess.run(["sh", "-c", rest], cwd=source, env=environment, check=True)
        shutil.rmtree(source)  # the image's second stage does not have it
        run_installed(prefix, elsewhere, environment)
    print("container-check: the Dockerfile's build stage installs and runs")


def run_installed(prefix: Path, folder: Path, environment: dict[str, str]) -> None:
    """Make one synthetic slide, and find the model that the package carries."""
    settings = json.dumps({"size": 32, "planes": 4})
    slide = ["phantom", "slide", "--cohort", "demo", "--slide", "P01-S1", "--settings", settings]
    command = [str(prefix / "bin/msdsr"), *slide, "--raw", "raw.tif"]
    subprocess.run(command, cwd=folder, env=environment, check=True)
    find = (
        "from pathlib import Path; from msdsr.shipped import model_folder;"
        "assert Path(model_folder('resources/models/phantom-tiny')).is_absolute()"
    )
    subprocess.run(
        [str(prefix / "bin/python"), "-c", find], cwd=folder, env=environment, check=True
    )
    if not (folder / "raw.tif").is_file():
        raise SystemExit("container-check: no slide was made")


if __name__ == "__main__":
    main()
