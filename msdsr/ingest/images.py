"""A list of 2D images, one file each, that together are one slide."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from msdsr.errors import UserError
from msdsr.ingest.tiff import inspect, read
from msdsr.manifest import fingerprint, sha256_file
from msdsr.progress import progress

SUFFIX = ".images.tsv"
COLUMNS = ("path", "class")


@dataclass(frozen=True)
class ImageList:
    """The images of one slide, in the order of the list; all are of one size and type.

    Attributes
    ----------
    path
        The list itself.
    images, classes
        The file of each image, and what its tissue is (may be empty).
    dtype, shape_czyx
        Of all images together: each is a plane.
    """

    path: Path
    images: tuple[Path, ...]
    classes: tuple[str, ...]
    dtype: np.dtype[Any]
    shape_czyx: tuple[int, int, int, int]

    def digest(self) -> str:
        """Return the SHA-256 that stands for all files and classes, whatever the files' names."""
        shas = [sha256_file(path) for path in self.images]
        return fingerprint({"images": shas, "classes": list(self.classes)})

    def read(self, scratch: Path) -> NDArray[Any]:
        """Decode all images into a memory-mapped scratch file, as (c, plane, y, x)."""
        voxels = np.memmap(scratch, self.dtype, mode="w+", shape=self.shape_czyx)
        with progress(f"decode {self.path.name}", len(self.images), "images") as bar:
            for plane, path in enumerate(self.images):
                voxels[:, plane] = self._decode(path)
                bar.advance()
        return voxels

    def _decode(self, path: Path) -> NDArray[Any]:
        stack = inspect(path, self.shape_czyx[0])
        expected = (self.shape_czyx[0], 1, *self.shape_czyx[2:])
        if stack.shape_czyx != expected or stack.dtype != self.dtype:
            raise UserError(
                path,
                f"an image of {stack.shape_czyx} voxels (c, z, y, x), {stack.dtype}",
                f"{expected}, {self.dtype}, as the first image of {self.path}",
                "list images of another size or type as a slide of their own",
            )
        return read(stack)[:, 0]


def inspect_images(path: str | Path, channels: int) -> ImageList:
    """Read a list of images, and of the first image its size and type.

    Parameters
    ----------
    path
        A tab-separated file named ``….images.tsv`` with the column ``path`` (relative to the
        working directory, as in a sample sheet) and optionally ``class``.
    channels
        How many channels the sample sheet names.

    Raises
    ------
    UserError
        When the list cannot be read, is empty, names a file twice or one that is not there.
    """
    path = Path(path)
    table = _read_list(path)
    images = tuple(Path(text) for text in table["path"])
    seen: set[Path] = set()
    for line, image in enumerate(images, start=2):
        if image in seen:
            raise UserError(f"{path} line {line}", f"{image} stands twice", "each image once")
        seen.add(image)
        if not image.is_file():
            raise UserError(
                f"{path} line {line}",
                f"{image} does not exist",
                "a file, relative to the working directory",
                "check the path or where the command is run",
            )
    first = inspect(images[0], channels)
    if first.shape_czyx[1] != 1:
        raise UserError(
            images[0],
            f"{first.shape_czyx[1]} planes",
            "a 2D image",
            "a z-stack is a slide of its own in the sample sheet",
        )
    shape = (channels, len(images), *first.shape_czyx[2:])
    return ImageList(path, images, tuple(table["class"]), first.dtype, shape)


def _read_list(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, comment="#")
    except FileNotFoundError:
        raise UserError(
            path, "no such file", "a list of images", "check `path` in the sample sheet"
        ) from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(path, f"unreadable ({error})", "a tab-separated table") from None
    unknown = [name for name in table.columns if name not in COLUMNS]
    if unknown or "path" not in table.columns or table.empty:
        found = f"column {unknown[0]!r}" if unknown else "no image"
        raise UserError(path, found, "the columns path and, if wanted, class; one row an image")
    if "class" not in table.columns:
        table["class"] = ""
    for name, text in table.items():
        table[name] = text.str.strip()
    return table


def list_text(images: list[tuple[str, str]]) -> str:
    """Return a list of (file, class) as text."""
    table = pd.DataFrame(images, columns=list(COLUMNS))
    return table.to_csv(sep="\t", index=False, lineterminator="\n")
