"""One item, exported to one product and published by one rename."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msdsr.errors import UserError
from msdsr.export.formats import Format, Tick, image_name
from msdsr.export.members import plain_members, store_members
from msdsr.export.ozx import copy_file, write_folder, write_zip
from msdsr.export.source import Item, Kind
from msdsr.export.tiff import write_tiff
from msdsr.export.zarr2 import write_04
from msdsr.manifest import sha256_file
from msdsr.volume.store import open_group, read_spec, replace_path


@dataclass(frozen=True)
class Wish:
    """What is wanted of every image: its form, and the finest level to keep."""

    how: Format
    level: int = 0

    def name(self, item: Item) -> str | None:
        """Return what an item is called among the products; None when it has no place there."""
        if item.kind is Kind.FILE:
            return item.name
        folder, slash, last = item.name.rpartition("/")
        if item.kind is Kind.IMAGE:
            return folder + slash + image_name(last, self.how)
        if not self.how.keeps_files:
            return None
        return item.name + (".zip" if self.how is Format.OZX else "")

    def work(self, item: Item) -> int:
        """Return the bytes that an item is told to the progress bar with."""
        if item.kind is not Kind.IMAGE or self.how.keeps_files:
            return item.bytes
        spec = read_spec(item.path)
        total = spec.dtype.itemsize
        for size in spec.shape:
            total *= size
        return total


def level_of(item: Item, wish: Wish) -> int:
    """Return the level of an image that is exported: the one wished, or its coarsest."""
    ome: dict[str, Any] = dict(open_group(item.path).attrs)
    ome = ome.get("ome", ome)
    return min(wish.level, len(ome["multiscales"][0]["datasets"]) - 1)


def make_product(
    item: Item,
    wish: Wish,
    target: Path,
    tick: Tick,
    announce: Callable[[dict[str, str]], None] | None = None,
) -> dict[str, str]:
    """Export one item to its final name.

    Parameters
    ----------
    item
        What to export.
    wish
        The form and the level.
    target
        The product. What is there is replaced at the end, by a rename; until then the new one
        grows beside it, and a broken one is started again.
    tick
        Told of every block of bytes.
    announce
        Called with what is returned, when all is written and before the rename.

    Returns
    -------
    dict
        The SHA-256 of every file of the product, by its name below the product's folder (of the
        product itself, where it is one file).
    """
    growing = target.with_name(f".{target.name}.exporting")
    _remove(growing)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        _write(item, wish, growing, tick)
        sums = _sums(growing, target.name)
        if announce is not None:
            announce(sums)
        replace_path(growing, target)
    except BaseException:
        _remove(growing)
        raise
    return sums


def _write(item: Item, wish: Wish, growing: Path, tick: Tick) -> None:
    if item.kind is Kind.FILE:
        copy_file(item.path, growing, tick)
    elif wish.how.keeps_files:
        image = item.kind is Kind.IMAGE
        members = store_members(item.path, wish.level) if image else plain_members(item.path)
        if wish.how is Format.OZX:
            write_zip(members, growing, tick, ome=image)
        else:
            write_folder(members, growing, tick)
    elif wish.how is Format.TIFF:
        write_tiff(item.path, growing, wish.level, tick)
    else:
        write_04(item.path, growing, wish.level, tick)


def _sums(product: Path, name: str) -> dict[str, str]:
    """Return the SHA-256 of a product's files, read back from the disk."""
    if product.is_file():
        return {name: sha256_file(product)}
    files = sorted(Path(folder, f) for folder, _, names in os.walk(product) for f in names)
    return {f"{name}/{f.relative_to(product).as_posix()}": sha256_file(f) for f in files}


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def refuse_overlap(source: Path, target: Path) -> None:
    """Refuse to export a folder into itself, or over itself.

    Raises
    ------
    UserError
        When one of the two lies in the other.
    """
    here, there = source.resolve(), target.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise UserError(target, f"lies in {source}, or holds it", "a place outside of it")
