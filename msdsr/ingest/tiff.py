"""TIFF, ImageJ TIFF and OME-TIFF stacks, read with tifffile."""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from msdsr.errors import UserError, require_file
from msdsr.volume import VoxelSize

SUFFIXES = (".tif", ".tiff")
UNNAMED = "IQ"
MICROMETRES = {"µm": 1.0, "um": 1.0, "micron": 1.0, "\\u00B5m": 1.0, "nm": 1e-3, "mm": 1e3}
UNREADABLE = (tifffile.TiffFileError, ValueError, zlib.error, struct.error, OSError, IndexError)
RELATIVE_TOLERANCE = 0.01


@dataclass(frozen=True)
class Stack:
    """What a file holds: where the axes c, z, y, x are, and the spacing it claims to have."""

    path: Path
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    claimed_um: dict[str, float]

    @property
    def shape_czyx(self) -> tuple[int, int, int, int]:
        """Channels, planes, rows, columns; an axis that is not there counts 1."""
        sizes = dict(zip(self.axes, self.shape, strict=True))
        return (sizes.get("C", 1), sizes.get("Z", 1), sizes["Y"], sizes["X"])


def inspect(path: str | Path, channels: int) -> Stack:
    """Read what a stack holds, without its voxels.

    Parameters
    ----------
    path
        A TIFF file; its first series is the stack.
    channels
        How many channels the sample sheet names: it settles which of two unnamed axes is which.

    Raises
    ------
    UserError
        When the file is none, is cut short, or its axes cannot be told apart.
    """
    path = require_file(path, "check `path` in the sample sheet")
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(
            path, f"suffix {path.suffix!r}", " or ".join(SUFFIXES), "convert it to TIFF"
        )
    try:
        with _complaints() as complaints, tifffile.TiffFile(path) as tiff:
            series = tiff.series[0]
            _refuse_truncated(path, tiff)
            axes = _name_axes(path, series.axes, series.shape, channels)
            stack = Stack(path, axes, tuple(series.shape), np.dtype(series.dtype), _claimed(tiff))
    except UNREADABLE as error:
        raise _unreadable(path, error) from None
    if complaints:
        # A chain of pages that breaks off reads as a shorter stack, without an exception.
        raise _unreadable(path, complaints[0])
    found = stack.shape_czyx[0]
    if found != channels:
        raise UserError(
            path,
            f"{found} channels (axes {axes}, shape {stack.shape})",
            f"the {channels} that the sample sheet names",
            "correct `channels`",
        )
    return stack


def read(stack: Stack, scratch: Path | None = None) -> NDArray[Any]:
    """Decode a stack, by way of a memory-mapped scratch file where one is given.

    Returns
    -------
    numpy.ndarray
        The voxels (c, z, y, x), a view of the mapped file, in the file's dtype.
    """
    try:
        with _complaints() as complaints:
            out = str(scratch) if scratch else None
            voxels = tifffile.imread(stack.path, series=0, out=out)
    except UNREADABLE as error:
        raise _unreadable(stack.path, error) from None
    if complaints:
        raise _unreadable(stack.path, complaints[0])
    voxels = np.asarray(voxels).reshape(stack.shape)
    squeezed = "".join(a for a in stack.axes if a in "CZYX")
    keep = tuple(slice(None) if a in "CZYX" else 0 for a in stack.axes)
    voxels = voxels[keep]
    for axis in "CZ":
        if axis not in squeezed:
            voxels, squeezed = voxels[np.newaxis], axis + squeezed
    return voxels.transpose([squeezed.index(a) for a in "CZYX"])


class _Collector(logging.Handler):
    """Keeps what tifffile logs as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one message."""
        self.messages.append(record.getMessage())


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """Collect the errors that tifffile logs instead of raising."""
    collector, logger = _Collector(), logging.getLogger("tifffile")
    logger.addHandler(collector)
    try:
        yield collector.messages
    finally:
        logger.removeHandler(collector)


def _unreadable(path: Path, error: Exception | str) -> UserError:
    return UserError(
        path,
        f"unreadable or cut short ({error})",
        "a whole TIFF file",
        "copy it again from the microscope",
    )


def _refuse_truncated(path: Path, tiff: tifffile.TiffFile) -> None:
    size = path.stat().st_size
    for index, page in enumerate(tiff.pages):
        ends = [o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=False)]
        if ends and max(ends) > size:
            raise UserError(
                path,
                f"cut short: page {index} ends at byte {max(ends)} of a file of {size}",
                "a whole TIFF file",
                "copy it again from the microscope",
            )


def _name_axes(path: Path, axes: str, shape: tuple[int, ...], channels: int) -> str:
    named = axes.replace("S", "C") if "C" not in axes else axes
    free = [i for i, axis in enumerate(named) if axis in UNNAMED]
    names = [axis for axis in "ZC" if axis not in named]
    letters = list(named)
    if len(free) == 1 and names:
        # A lone unnamed axis is z, unless the sheet names as many channels as it is long.
        is_channels = "C" in names and channels > 1 and shape[free[0]] == channels
        letters[free[0]] = "C" if is_channels or "Z" not in names else "Z"
    elif len(free) == 2 and len(names) == 2:
        fits = [i for i in free if shape[i] == channels]
        if len(fits) != 1:
            raise UserError(
                path,
                f"axes without names, of {shape[free[0]]} and {shape[free[1]]}",
                f"just one of them to be the {channels} channels",
                "save it as OME-TIFF or ImageJ TIFF with named axes",
            )
        for i in free:
            letters[i] = "C" if i in fits else "Z"
    elif free:
        raise UserError(path, f"axes {axes}, shape {shape}", "c, z, y, x", "save it as OME-TIFF")
    for axis, length in zip(letters, shape, strict=True):
        if axis not in "CZYX" and length != 1:
            raise UserError(
                path,
                f"axis {axis} has {length} entries",
                "a single z-stack with the axes c, z, y, x",
                "save each stack in a file of its own, with its planes on axis Z",
            )
    return "".join(letters)


def _claimed(tiff: tifffile.TiffFile) -> dict[str, float]:
    """Return the spacings that the file's metadata state (µm), where they do."""
    claimed: dict[str, float] = {}
    if tiff.is_ome and tiff.ome_metadata:
        image = tifffile.xml2dict(tiff.ome_metadata).get("OME", {}).get("Image", {})
        pixels = (image[0] if isinstance(image, list) else image).get("Pixels", {})
        for axis in "XYZ":
            unit = MICROMETRES.get(str(pixels.get(f"PhysicalSize{axis}Unit", "µm")))
            if unit and pixels.get(f"PhysicalSize{axis}"):
                claimed[axis.lower()] = float(pixels[f"PhysicalSize{axis}"]) * unit
    elif tiff.is_imagej and tiff.imagej_metadata:
        unit = MICROMETRES.get(str(tiff.imagej_metadata.get("unit", "")))
        if unit and tiff.imagej_metadata.get("spacing"):
            claimed["z"] = float(tiff.imagej_metadata["spacing"]) * unit
        for axis, tag in (("x", "XResolution"), ("y", "YResolution")):
            resolution = tiff.pages.first.tags.get(tag)
            if unit and resolution and resolution.value[0]:
                claimed[axis] = resolution.value[1] / resolution.value[0] * unit
    return claimed


def spacing_warnings(stack: Stack, voxel: VoxelSize) -> list[str]:
    """Tell where the file's own spacing is not the sample sheet's, by more than 1 %."""
    return [
        f"{axis}: the file says {stack.claimed_um[axis]:.4g} µm, the sample sheet {stated:.4g} µm; "
        "the sample sheet was used"
        for axis, stated in zip("zyx", voxel.zyx, strict=True)
        if axis in stack.claimed_um
        and abs(stack.claimed_um[axis] - stated) > RELATIVE_TOLERANCE * stated
    ]
