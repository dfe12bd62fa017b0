"""Volumes as pictures that a browser can read back voxel for voxel."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from msdsr.report.pages import data_uri

CHANNELS_PER_SHEET = 3
LONGEST = 16383
"""Longest side that WebP knows (pixels)."""


@dataclass(frozen=True)
class Sprites:
    """A volume as sheets of its planes.

    Parameters
    ----------
    planes
        How many planes there are, from left to right and then down.
    across
        How many stand in one row of a sheet.
    sheets
        WebP files without loss; the red, green and blue of a sheet are three channels, in order.
    """

    planes: int
    across: int
    sheets: tuple[bytes, ...]

    def as_json(self) -> dict[str, Any]:
        """Return what the viewer reads."""
        sheets = [data_uri("image/webp", sheet) for sheet in self.sheets]
        return {"planes": self.planes, "across": self.across, "sheets": sheets}


def quantise(raw_CZYX: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> NDArray[np.uint8]:
    """Return intensities in 8 bits.

    Parameters
    ----------
    raw_CZYX
        A volume.
    low, high
        For each channel, what becomes 0 and 255; what lies outside is clipped.

    Returns
    -------
    numpy.ndarray
        uint8, the nearest of 256 even steps.
    """
    out = np.empty(raw_CZYX.shape, np.uint8)
    for channel, (a, b) in enumerate(zip(low, high, strict=True)):
        scaled = (raw_CZYX[channel].astype(np.float32) - np.float32(a)) * np.float32(255 / (b - a))
        out[channel] = np.rint(np.clip(scaled, 0, 255))
    return out


def make_sprites(levels_CZYX: NDArray[np.uint8]) -> Sprites:
    """Lay the planes of a volume out on sheets.

    Parameters
    ----------
    levels_CZYX
        uint8; a sheet's sides stay under the 16,383 pixels that WebP knows.
    """
    channels, planes, rows, columns = levels_CZYX.shape
    across = min(planes, max(1, math.ceil(math.sqrt(planes * rows / columns))))
    down = math.ceil(planes / across)
    if max(across * columns, down * rows) > LONGEST:
        raise ValueError(f"{planes} planes of {rows} × {columns} do not fit a sheet")
    sheets = []
    for first in range(0, channels, CHANNELS_PER_SHEET):
        part = levels_CZYX[first : first + CHANNELS_PER_SHEET]
        sheet = np.zeros((down * rows, across * columns, CHANNELS_PER_SHEET), np.uint8)
        for plane in range(planes):
            row, column = divmod(plane, across)
            at = (
                slice(row * rows, (row + 1) * rows),
                slice(column * columns, (column + 1) * columns),
            )
            sheet[at][..., : len(part)] = np.moveaxis(part[:, plane], 0, -1)
        with io.BytesIO() as buffer:
            Image.fromarray(sheet).save(buffer, format="WEBP", lossless=True, method=2, quality=40)
            sheets.append(buffer.getvalue())
    return Sprites(planes, across, tuple(sheets))
