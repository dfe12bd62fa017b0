"""OME-TIFF: one BigTIFF with a pyramid, for readers that know no Zarr."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray

from msdsr.export.formats import BLOCK_BYTES, Tick
from msdsr.export.levels import level_paths, level_spacing
from msdsr.volume.pyramid import block_mean
from msdsr.volume.store import VolumeSpec, open_group, read_spec

TILE = 256
Z_BLOCK = 64
"""Planes read together at most: the chunks of a store cover that many."""


def write_tiff(store: Path, target: Path, level: int, tick: Tick) -> None:
    """Write a volume as a tiled OME-TIFF with its spacing and its channels' names and colours.

    Planes are compressed without loss (Deflate). A TIFF's coarser levels have as many planes as the
    finest, so they are means over rows and columns alone, made here and not taken from the store.

    Parameters
    ----------
    store
        An OME-Zarr image with the axes c, z, y, x. Its labels have no place in the file.
    target
        The file to write: a temporary name.
    level
        The level of the store that becomes the file's finest.
    tick
        Told of every block of voxels, in bytes.
    """
    spec = read_spec(store)  # refuses other axes
    group = open_group(store)
    ome: dict[str, Any] = dict(group.attrs)
    ome = ome.get("ome", ome)
    array = group[level_paths(ome, level, store)[0]]
    if not isinstance(array, zarr.Array):
        raise TypeError(f"{store} is not an image")
    steps = tiff_steps(array.shape[2], array.shape[3])
    options: dict[str, Any] = {
        "dtype": array.dtype,
        "tile": (TILE, TILE),
        "photometric": "minisblack",
        "compression": "adobe_deflate",
        # Horizontal differences; many readers do not know the one for floating point.
        "predictor": array.dtype.kind == "u",
    }
    with tifffile.TiffWriter(target, bigtiff=True, ome=True) as writer:
        for step in steps:
            shape = (*array.shape[:2], array.shape[2] // step, array.shape[3] // step)
            first = step == 1
            writer.write(
                tiles(array, step, tick if first else lambda _: None),
                shape=shape,
                subifds=len(steps) - 1 if first else None,
                subfiletype=0 if first else 1,
                metadata=_metadata(spec, ome, level) if first else None,
                **options,
            )


def tiff_steps(rows: int, columns: int) -> list[int]:
    """Return how many rows and columns of the finest level one of each level spans."""
    steps = [1]
    while max(rows, columns) // steps[-1] > TILE and min(rows, columns) // steps[-1] >= 2:
        steps.append(2 * steps[-1])
    return steps


def tiles(array: zarr.Array[Any], step: int, tick: Tick) -> Iterator[NDArray[Any]]:
    """Yield the tiles of one level, plane by plane, each as the rows of tiles go.

    Parameters
    ----------
    array
        Voxels (c, z, y, x).
    step
        How many rows and columns one of the level spans.
    tick
        Told of every block that was read, in bytes.

    Yields
    ------
    ndarray
        (rows, columns) of at most 256 × 256.
    """
    channels, planes, rows, columns = array.shape
    plane_bytes = rows * columns * array.dtype.itemsize
    together = min(Z_BLOCK, BLOCK_BYTES // plane_bytes)
    # Planes that are too large are read by rows of tiles instead, each plane for itself.
    deep, high = (together, rows) if together else (1, TILE * step)
    for channel in range(channels):
        for z in range(0, planes, deep):
            for y in range(0, rows // step * step, high):
                fine = np.asarray(
                    array[
                        channel : channel + 1,
                        z : z + deep,
                        y : min(y + high, rows // step * step),
                        : columns // step * step,
                    ]
                )
                tick(fine.nbytes)
                level = block_mean(fine, (1, step, step)) if step > 1 else fine
                for plane in level[0]:
                    yield from _cut(plane)


def _cut(plane_YX: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for y in range(0, plane_YX.shape[0], TILE):
        for x in range(0, plane_YX.shape[1], TILE):
            yield np.ascontiguousarray(plane_YX[y : y + TILE, x : x + TILE])


def _metadata(spec: VolumeSpec, ome: dict[str, Any], level: int) -> dict[str, Any]:
    shown = ome.get("omero", {}).get("channels", [])
    channel: dict[str, Any] = {"Name": list(spec.channels)}
    if len(shown) == len(spec.channels):
        channel["Color"] = [_colour(str(entry.get("color", "FFFFFF"))) for entry in shown]
    sizes = dict(zip("ZYX", level_spacing(ome, level)[1:], strict=True))
    return {
        "axes": "CZYX",
        "Name": spec.name,
        **{f"PhysicalSize{axis}": size for axis, size in sizes.items()},
        **{f"PhysicalSize{axis}Unit": "µm" for axis in sizes},
        "Channel": channel,
    }


def _colour(rgb: str) -> int:
    """Return RRGGBB as OME-XML holds it: RGBA in a signed number of 32 bits."""
    value = int(rgb, 16) << 8 | 0xFF
    return value - (1 << 32) if value >= 1 << 31 else value
