"""Single-file OME-Zarr (NGFF RFC-9), and the same files as a folder.

RFC-9 asks for: the hierarchy's root at the root of the archive; ZIP64 whatever the size; no
compression by ZIP, since chunks are compressed; shards, so that entries are few; every
``zarr.json`` first, the root's before all, then breadth first, in the file and in the central
directory; a comment in JSON that says so; the ending ``.ozx``.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from msdsr.export.formats import Tick
from msdsr.export.members import Member

COPY_BYTES = 1 << 22
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every entry: the same voxels give the same archive, byte for byte."""

COMMENT = {"ome": {"version": "0.5", "zipFile": {"centralDirectory": {"jsonFirst": True}}}}


def write_zip(members: Sequence[Member], target: Path, tick: Tick, *, ome: bool) -> None:
    """Write files into one archive, uncompressed, in their order.

    Parameters
    ----------
    members
        The files, metadata first (`members.store_members`).
    target
        The archive to write: a temporary name.
    tick
        Told of every block of bytes that was read.
    ome
        Whether it is an OME-Zarr image, and the comment may say so.
    """
    with target.open("wb") as handle:
        with zipfile.ZipFile(handle, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for member in members:
                entry = zipfile.ZipInfo(member.name, EPOCH)
                entry.create_system = 3  # Unix, wherever it is written
                entry.external_attr = 0o644 << 16
                # ZIP64 needs 4.5; Python 3.11.2 does not say so by itself.
                entry.extract_version = entry.create_version = zipfile.ZIP64_VERSION
                with archive.open(entry, "w", force_zip64=True) as out:
                    _copy(member, out, tick)  # type: ignore[arg-type]
            if ome:
                archive.comment = json.dumps(COMMENT, separators=(",", ":")).encode()
        handle.flush()
        os.fsync(handle.fileno())


def write_folder(members: Sequence[Member], target: Path, tick: Tick) -> None:
    """Write the same files as a folder, at a temporary name."""
    for member in members:
        path = target / member.name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as out:
            _copy(member, out, tick)


def copy_file(source: Path, target: Path, tick: Tick) -> None:
    """Copy a file's bytes and its time, to a temporary name."""
    with target.open("wb") as out:
        _copy(Member(source.name, source), out, tick)
        out.flush()
        os.fsync(out.fileno())
    shutil.copystat(source, target)


def _copy(member: Member, out: BinaryIO, tick: Tick) -> None:
    if isinstance(member.source, bytes):
        out.write(member.source)
        return
    with member.source.open("rb") as source:
        while block := source.read(COPY_BYTES):
            out.write(block)
            tick(len(block))
