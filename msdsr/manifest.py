"""The provenance record that stands beside every product."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from msdsr import __version__
from msdsr.errors import UserError

TRACKED = ("numpy", "zarr", "torch", "diffusers", "dask", "tifffile", "snakemake")
CHUNK_BYTES = 1 << 22


class Manifest(BaseModel):
    """How one product came to be: stage, inputs, settings, software, counts and time."""

    model_config = ConfigDict(extra="forbid")

    stage: str = Field(description="The stage that made the product.")
    algorithm: int = Field(description="Bumped by hand whenever the stage's results would change.")
    product: str = Field(
        default="", description="File name of the product this record stands beside."
    )
    inputs: dict[str, str] = Field(
        default_factory=dict, description="Name of each input, and its SHA-256 or fingerprint."
    )
    settings: dict[str, Any] = Field(
        default_factory=dict, description="The resolved configuration section."
    )
    seed: int | None = Field(default=None, description="Seed of all randomness, if there is any.")
    device: str = Field(default="cpu", description="Where the arithmetic ran.")
    counts: dict[str, Any] = Field(
        default_factory=dict,
        description="What was counted; the same in any run.",
    )
    measured: dict[str, Any] = Field(
        default_factory=dict, description="What was measured in this run: rates, peak memory."
    )
    seconds: float = Field(default=0.0, description="Wall-clock seconds, all attempts together.")
    warnings: list[str] = Field(default_factory=list, description="What the user should know.")
    versions: dict[str, str] = Field(default_factory=dict, description="Software versions.")
    created: str = Field(default="", description="UTC time of publication, ISO 8601.")


def software_versions() -> dict[str, str]:
    """Return the versions of MSDSR, Python and the packages whose change may change a result."""
    found = {"msdsr": __version__, "python": platform.python_version()}
    for name in TRACKED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def manifest_path(product: str | Path) -> Path:
    """Return where the manifest of a product stands.

    ``raw.ome.zarr`` → ``raw.json``; ``patches.parquet`` → ``patches.json``; a folder without a
    suffix, such as ``model`` → ``model.json``.
    """
    product = Path(product)
    return product.with_name(product.name.split(".")[0] + ".json")


def write_text_atomically(path: str | Path, text: str) -> None:
    """Write a text file so that a reader sees either the old file or the whole new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)


def write_manifest(product: str | Path, manifest: Manifest, path: str | Path | None = None) -> Path:
    """Stamp a manifest with versions and time; publish it beside its product, or at ``path``."""
    stamped = manifest.model_copy(
        update={
            "product": manifest.product or Path(product).name,
            "versions": software_versions(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(manifest.seconds, 3),
        }
    )
    path = manifest_path(product) if path is None else Path(path)
    write_text_atomically(path, stamped.model_dump_json(indent=2) + "\n")
    return path


def read_manifest(path: str | Path) -> Manifest:
    """Read a manifest, given its own path or its product's.

    Raises
    ------
    UserError
        When there is none, or it does not hold what a manifest holds.
    """
    path = Path(path)
    if path.suffix != ".json":
        path = manifest_path(path)
    try:
        return Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            path, "no manifest", "the record its stage wrote", "run that stage again"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            path,
            f"not a manifest ({'.'.join(map(str, first['loc']))}: {first['msg']})",
            "the record its stage wrote",
            "run that stage again",
        ) from None


def sha256_file(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as handle:
        while block := handle.read(CHUNK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def fingerprint(values: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a mapping's canonical JSON."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


IDENTITY = ("stage", "algorithm", "inputs", "settings", "seed", "counts")


def identity(product: str | Path) -> str:
    """Return the fingerprint of what a product is, whenever and wherever it was made.

    A product is a function of its inputs, settings, seed and algorithm, so those stand for its
    content; the time, the device and the software versions do not enter.
    """
    manifest = read_manifest(product)
    return fingerprint({key: getattr(manifest, key) for key in IDENTITY})


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def seconds(self) -> float:
        """Return the seconds that have passed."""
        return time.monotonic() - self._start


def command_line() -> str:
    """Return the command as typed, without the folder of the executable."""
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
