"""What there is to export under a path: stores, files, and what is no product."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from msdsr.errors import UserError
from msdsr.manifest import fingerprint
from msdsr.volume.store import open_group

ZARR_V2 = (".zarray", ".zgroup", ".zattrs", ".zmetadata")
ROOTS = ("zarr.json", ".zgroup", ".zarray")
UNFINISHED = (".partial", ".tmp", ".stale", ".lock")


class Kind(StrEnum):
    """How a thing under the source is dealt with."""

    IMAGE = "image"
    ZARR = "zarr"
    FILE = "file"


@dataclass(frozen=True)
class Item:
    """One thing to export: a store as a whole, or a file.

    Attributes
    ----------
    path
        Where it is.
    name
        Its path below the source, with slashes; of a source that is a store itself, its name.
    kind
        An OME-Zarr image, another Zarr store, or a plain file.
    """

    path: Path
    name: str
    kind: Kind

    @cached_property
    def files(self) -> list[tuple[str, Path]]:
        """Every file of it, by its name below ``path`` (the file's own name for a file)."""
        if self.kind is Kind.FILE:
            return [(self.path.name, self.path)]
        return list(store_files(self.path))

    @cached_property
    def bytes(self) -> int:
        """Bytes on the disk."""
        return sum(path.stat().st_size for _, path in self.files)

    def state(self) -> str:
        """Return a fingerprint of names, sizes and times: equal while nobody touched it."""
        found: dict[str, Any] = {}
        for name, path in self.files:
            status = path.stat()
            found[name] = [status.st_size, status.st_mtime_ns]
        return fingerprint(found)

    def outline(self) -> str:
        """Return a fingerprint of names and sizes, which a copy on another disk has too."""
        return fingerprint({name: path.stat().st_size for name, path in self.files})


def is_store(path: Path) -> bool:
    """Return whether a folder is the root of a Zarr hierarchy."""
    return path.is_dir() and any((path / root).is_file() for root in ROOTS)


def is_image(path: Path) -> bool:
    """Return whether a store is an OME-Zarr image."""
    try:
        open_group(path)
    except UserError:
        return False
    return True


def store_files(store: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of a store by name, without time stamps and what killed writes left."""
    for folder, folders, names in os.walk(store, followlinks=True):
        folders[:] = sorted(name for name in folders if not _passing(name))
        for name in sorted(names):
            path = Path(folder, name)
            if not _passing(name) or name in ZARR_V2:
                yield path.relative_to(store).as_posix(), path


def _passing(name: str) -> bool:
    return name.startswith(".") or name.endswith(UNFINISHED)


def find_items(source: Path) -> list[Item]:
    """Return what there is to export under a path, in the order of names.

    Parameters
    ----------
    source
        A store, or a folder of products: a slide's or a cohort's. Hidden files, work folders and
        locks in it are no products.

    Raises
    ------
    UserError
        When there is nothing there, or no OME-Zarr image.
    """
    if not source.exists():
        raise UserError(source, "no such folder", "a store, or the folder of a slide or a cohort")
    if not source.is_dir():
        raise UserError(source, "a file", "a store, or the folder of a slide or a cohort")
    if is_store(source):
        open_group(source)
        return [Item(source, source.resolve().name, Kind.IMAGE)]
    items = sorted(_walk(source, source), key=lambda item: item.name)
    if not any(item.kind is Kind.IMAGE for item in items):
        raise UserError(source, "no OME-Zarr image in it", "the folder of a slide or of a cohort")
    return items


def _walk(folder: Path, source: Path) -> Iterator[Item]:
    for path in sorted(folder.iterdir()):
        if _passing(path.name):
            continue
        name = path.relative_to(source).as_posix()
        if is_store(path):
            yield Item(path, name, Kind.IMAGE if is_image(path) else Kind.ZARR)
        elif path.is_dir() and not path.is_symlink():
            yield from _walk(path, source)
        elif path.is_file():
            yield Item(path, name, Kind.FILE)
