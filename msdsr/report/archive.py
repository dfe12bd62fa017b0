"""A report as one file to send."""

from __future__ import annotations

import zipfile
from pathlib import Path

ARCHIVE = "report.zip"
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The oldest date that a ZIP file knows: the time of packing says nothing about the content."""

MODE = 0o644 << 16


def pack(folder: Path, name: str) -> Path:
    """Write all files of a folder into ``report.zip`` in it; the same files give the same bytes.

    Parameters
    ----------
    folder
        What to pack, but for the archive itself.
    name
        Of the folder that it unpacks to.
    """
    archive = folder / ARCHIVE
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p != archive)
    with zipfile.ZipFile(archive, "w") as out:
        for path in files:
            entry = zipfile.ZipInfo(f"{name}/{path.relative_to(folder).as_posix()}", EPOCH)
            entry.external_attr = MODE
            entry.create_system = 3
            # Base64 shrinks by a quarter; a picture file would not shrink at all.
            shrinks = path.suffix not in (".png", ".parquet")
            entry.compress_type = zipfile.ZIP_DEFLATED if shrinks else zipfile.ZIP_STORED
            with path.open("rb") as source, out.open(entry, "w", force_zip64=True) as target:
                while block := source.read(1 << 20):
                    target.write(block)
    return archive
