"""OME-Zarr 0.4: Zarr v2, a file for every chunk, for readers that know no shards."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs import Blosc  # type: ignore[import-untyped]

from msdsr.export.formats import BLOCK_BYTES, Tick
from msdsr.export.levels import (
    image_attributes_04,
    label_attributes_04,
    level_paths,
    ome_of,
    read_document,
)
from msdsr.volume.store import open_group, read_spec


def write_04(store: Path, target: Path, level: int, tick: Tick) -> None:
    """Write a store as OME-Zarr 0.4, voxel for voxel, labels included.

    Parameters
    ----------
    store
        An OME-Zarr 0.5 image with the axes c, z, y, x.
    target
        The folder to write: a temporary name.
    level
        The finest level to keep; it becomes level 0.
    tick
        Told of every block of voxels, in bytes.

    Raises
    ------
    UserError
        When the store is of another version, or has no such level.
    """
    read_spec(store)  # refuses other axes
    document = read_document(store)
    ome = ome_of(document, store)
    source = open_group(store)
    group = zarr.create_group(target, zarr_format=2)
    _copy_levels(source, group, level_paths(ome, level, store), tick)
    others = {key: value for key, value in document["attributes"].items() if key != "ome"}
    group.update_attributes({**image_attributes_04(ome, level), **others})
    if "labels" in source:
        _write_labels(store, group, level, tick)


def _write_labels(store: Path, group: zarr.Group, level: int, tick: Tick) -> None:
    folder = store / "labels"
    names = [str(name) for name in ome_of(read_document(folder), folder)["labels"]]
    labels = group.create_group("labels")
    labels.update_attributes({"labels": names})
    for name in names:
        ome = ome_of(read_document(folder / name), folder / name)
        image = labels.create_group(name)
        source = zarr.open_group(folder / name, mode="r")
        _copy_levels(source, image, level_paths(ome, level, folder / name), tick)
        image.update_attributes(label_attributes_04(ome, level))


def _copy_levels(source: zarr.Group, group: zarr.Group, paths: list[str], tick: Tick) -> None:
    for number, path in enumerate(paths):
        array = source[path]
        if not isinstance(array, zarr.Array):
            raise TypeError(f"{path} is not an array")
        # 0.4 wants slashes between the numbers of a chunk.
        copy = group.create_array(
            str(number),
            shape=array.shape,
            chunks=array.chunks,
            dtype=array.dtype,
            fill_value=0,
            compressors=Blosc(cname="zstd", clevel=3, shuffle=Blosc.BITSHUFFLE),
            chunk_key_encoding={"name": "v2", "separator": "/"},
        )
        for block in blocks(array.shape, array.chunks, array.dtype.itemsize):
            voxels = np.asarray(array[block])
            copy[block] = voxels
            tick(voxels.nbytes)


def blocks(
    shape: tuple[int, ...], chunks: tuple[int, ...], itemsize: int, most: int = BLOCK_BYTES
) -> Iterator[tuple[slice, ...]]:
    """Yield blocks of whole chunks that cover an array: as many along the last axis as fit."""
    span = max(1, most // (int(np.prod(chunks)) * itemsize)) * chunks[-1]
    steps = (*chunks[:-1], span)
    starts: list[Any] = [range(0, size, step) for size, step in zip(shape, steps, strict=True)]
    for corner in itertools.product(*starts):
        yield tuple(
            slice(start, min(start + step, size))
            for start, step, size in zip(corner, steps, shape, strict=True)
        )
