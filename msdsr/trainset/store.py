"""How training images lie on the disk: one image a chunk, so many a shard, one slide a shard."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, BloscShuffle

from msdsr.config import TrainsetConfig
from msdsr.errors import UserError
from msdsr.trainset.statistics import Histogram

IMAGES = "images"
HISTOGRAM = ("counts", "total", "square")
AXES = ("image", "c", "y", "x")


def create_images(
    store: Path, length: int, channels: int, dtype: np.dtype[Any], settings: TrainsetConfig
) -> zarr.Array[Any]:
    """Make an empty store with the array ``images`` (length, channels, size, size)."""
    shutil.rmtree(store, ignore_errors=True)
    group = zarr.create_group(store, zarr_format=3)
    size = settings.size
    return group.create_array(
        IMAGES,
        shape=(length, channels, size, size),
        chunks=(1, channels, size, size),
        shards=(settings.shard_images, channels, size, size),
        dtype=dtype,
        fill_value=0,
        compressors=BloscCodec(cname="zstd", clevel=3, shuffle=BloscShuffle.bitshuffle),
        dimension_names=AXES,
    )


def open_images(store: Path, mode: str = "r") -> zarr.Array[Any]:
    """Open the array ``images`` of a store."""
    array = _open(store, mode).get(IMAGES)
    if not isinstance(array, zarr.Array):
        raise UserError(store, "no images", "a store of the trainset stage", "remove it")
    return array


def _open(store: Path, mode: str) -> zarr.Group:
    with warnings.catch_warnings():
        # Snakemake leaves its time stamp inside every directory it tracks.
        warnings.filterwarnings("ignore", message=".*snakemake_timestamp.*")
        return zarr.open_group(store, mode="r+" if mode == "r+" else "r")


def save_histogram(store: Path, histogram: Histogram) -> None:
    """Write a histogram into a store, beside its images."""
    group = _open(store, "r+")
    for name in HISTOGRAM:
        group.create_array(name, data=getattr(histogram, name), overwrite=True)


def load_histogram(store: Path, dtype: np.dtype[Any]) -> Histogram:
    """Read the histogram of a store."""
    group = _open(store, "r")
    found = [np.asarray(group[name][...]) for name in HISTOGRAM]  # type: ignore[index]
    return Histogram(dtype, *found)


def shard_files(store: Path) -> Iterator[tuple[int, Path]]:
    """Yield number and file of each shard; one of nothing but zeros has no file."""
    for path in (store / IMAGES / "c").glob("*/0/0/0"):
        yield int(path.parts[-4]), path


def link_shards(source: Path, target: Path, first: int) -> None:
    """Give a store all shards of another, from number ``first`` on, without writing them anew.

    They are hard links where the file system has them, else copies; byte for byte the same.
    """
    for number, path in shard_files(source):
        place = target / IMAGES / "c" / str(first + number) / "0/0/0"
        place.parent.mkdir(parents=True)
        try:
            os.link(path, place)
        except OSError:
            shutil.copy2(path, place)
