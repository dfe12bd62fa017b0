"""The files that a store consists of once it is exported without decoding a voxel."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from msdsr.export.levels import level_paths, ome_of, read_document, without_finest
from msdsr.export.source import store_files

METADATA = "zarr.json"


@dataclass(frozen=True)
class Member:
    """One file of an exported store: its name, and where its bytes come from."""

    name: str
    source: Path | bytes

    @property
    def is_metadata(self) -> bool:
        """Whether it describes a group or an array."""
        return self.name.rpartition("/")[2] == METADATA


def breadth_first(member: Member) -> tuple[bool, int, str]:
    """Return the key by which RFC-9 orders: metadata first, from the root down."""
    return (not member.is_metadata, member.name.count("/") * member.is_metadata, member.name)


def store_members(store: Path, level: int = 0) -> list[Member]:
    """Return the files of a store from one level of its pyramid on, metadata first.

    Parameters
    ----------
    store
        An OME-Zarr 0.5 image.
    level
        The finest level to keep. It becomes level 0; labels lose the same levels.

    Raises
    ------
    UserError
        When the store is of another version, or has no such level.
    """
    replaced: dict[str, bytes] = {}
    moved: dict[str, str | None] = {}
    labels = store / "labels"
    for image in [store, *_label_images(labels)] if level or labels.is_dir() else [store]:
        document = read_document(image)
        ome = ome_of(document, image)
        level_paths(ome, level, image)
        if level:
            prefix = "" if image == store else f"{image.relative_to(store).as_posix()}/"
            replaced[prefix + METADATA] = _text(without_finest(document, level))
            for number, name in enumerate(level_paths(ome, 0, image)):
                moved[prefix + name] = f"{prefix}{number - level}" if number >= level else None
    found = []
    for name, path in store_files(store):
        new = _moved(name, moved)
        if new is not None:
            found.append(Member(new, replaced.get(name, path)))
    return sorted(found, key=breadth_first)


def plain_members(store: Path) -> list[Member]:
    """Return the files of any Zarr store, metadata first."""
    return sorted((Member(*entry) for entry in store_files(store)), key=breadth_first)


def _label_images(labels: Path) -> list[Path]:
    if not labels.is_dir():
        return []
    return [labels / str(name) for name in ome_of(read_document(labels), labels)["labels"]]


def _text(document: dict[str, object]) -> bytes:
    return json.dumps(document, indent=2).encode()


def _moved(name: str, moved: dict[str, str | None]) -> str | None:
    """Return the new name of a file below an array that moves; None when the array goes."""
    for old, new in moved.items():
        if name.startswith(f"{old}/"):
            return None if new is None else new + name[len(old) :]
    return name
