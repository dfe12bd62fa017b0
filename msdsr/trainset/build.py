"""Decode the selected planes once, shard by shard, into one store with an index."""

from __future__ import annotations

import itertools
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BloscShuffle

from msdsr.config import TrainsetConfig
from msdsr.errors import UserError
from msdsr.manifest import Manifest, identity, manifest_path, write_manifest
from msdsr.progress import progress
from msdsr.trainset.select import INDEX_COLUMNS, Selection, TrainSlide, select_images
from msdsr.trainset.statistics import Histogram
from msdsr.volume import Work, open_volume

ALGORITHM = 1
IMAGES = "images"
AXES = ("image", "c", "y", "x")


def build_trainset(
    slides: Sequence[TrainSlide],
    out: str | Path,
    work: str | Path,
    *,
    channels: Sequence[str],
    settings: TrainsetConfig,
) -> Manifest:
    """Make a 2D training set from the XY planes of many slides.

    Parameters
    ----------
    slides
        Slides of the splits ``train`` and ``val``, in the order in which they are stored.
    out
        The store to publish, ``….zarr`` (Zarr v3): array ``images`` (N, C, size, size) in the
        slides' own dtype, zero where an image is smaller than ``size``. Its index
        ``….parquet`` (columns `INDEX_COLUMNS`; pixels, half-open from ``y0``, ``x0``) and its
        manifest ``….json`` stand beside it.
    work
        Work folder, on the same file system as ``out``.
    channels
        Names of the channels to keep, in this order.
    settings
        Section ``trainset`` of the configuration.

    Returns
    -------
    Manifest
        Its ``counts`` hold the images and patients of each split, the dtype, the channels, and
        mean, σ and percentiles of each channel over the pixels of the training split.

    Raises
    ------
    UserError
        See `select_images`; or another process is at it.
    """
    out = Path(out)
    inputs = {str(path): identity(path) for s in slides for path in (s.volume, s.patches)}
    selection = select_images(slides, channels, settings)
    plan = {
        "stage": "trainset",
        "algorithm": ALGORITHM,
        "slides": [[s.slide, s.patient, s.split, str(s.volume), str(s.patches)] for s in slides],
        "inputs": inputs,
        "channels": list(channels),
        "settings": settings.model_dump(mode="json"),
    }
    with Work(work, plan) as at:
        store = at.path / out.name
        array = _open_images(store, selection, len(channels), settings)
        _write_shards(at, array, selection, channels)
        manifest = Manifest(
            stage="trainset",
            algorithm=ALGORITHM,
            inputs=inputs,
            settings=settings.model_dump(mode="json"),
            counts=_counts(at.path, selection, channels),
            seconds=at.seconds(),
            warnings=list(selection.warnings),
        )
        table = at.path / f"{out.stem}.parquet"
        selection.index[list(INDEX_COLUMNS)].to_parquet(table, index=False)
        record = write_manifest(store, manifest)
        at.publish(
            {
                store: out,
                table: out.with_suffix(".parquet"),
                record: manifest_path(out),
            }
        )
    return manifest


def _open_images(
    store: Path, selection: Selection, channels: int, settings: TrainsetConfig
) -> zarr.Array[Any]:
    """Make the empty array, or open the one an earlier attempt left."""
    if not (store / IMAGES / "zarr.json").exists():
        shutil.rmtree(store, ignore_errors=True)
        group = zarr.create_group(store, zarr_format=3)
        images = len(selection.index)
        group.create_array(
            IMAGES,
            shape=(images, channels, settings.size, settings.size),
            chunks=(1, channels, settings.size, settings.size),
            shards=(min(settings.shard_images, images), channels, settings.size, settings.size),
            dtype=selection.dtype,
            fill_value=0,
            compressors=BloscCodec(cname="zstd", clevel=3, shuffle=BloscShuffle.bitshuffle),
            dimension_names=AXES,
        )
    array = zarr.open_group(store, mode="r+")[IMAGES]
    if not isinstance(array, zarr.Array):
        raise TypeError(f"{store}/{IMAGES} is not an array")
    return array


def _write_shards(
    at: Work, array: zarr.Array[Any], selection: Selection, channels: Sequence[str]
) -> None:
    """Write every shard that is not in the ledger; one writer, whole shards."""
    if array.shards is None:
        raise TypeError("the array has no shards")
    length, images = array.shards[0], array.shape[0]
    shards = math.ceil(images / length)
    done = at.done()
    reader = _Reader(selection.volumes, tuple(channels))
    with progress("trainset", total=shards, unit="shards", done=len(done)) as bar:
        for shard in range(shards):
            key = f"shard-{shard:06d}"
            if key in done:
                continue
            first = shard * length
            rows = selection.index.iloc[first : first + length]
            block = np.zeros((len(rows), *array.shape[1:]), selection.dtype)
            histogram = Histogram.empty(len(channels), selection.dtype)
            for place, (image, split) in enumerate(
                zip(reader.images(rows), rows["split"], strict=True)
            ):
                if not np.isfinite(image).all():
                    raise _not_finite(selection, first + place)
                block[place, :, : image.shape[1], : image.shape[2]] = image
                if split == "train":
                    histogram.add(image)
            array[first : first + len(rows)] = block
            _save_histogram(_histogram_path(at.path, key), histogram)
            at.record(key)
            bar.advance()


def _not_finite(selection: Selection, image: int) -> UserError:
    row = selection.index.iloc[image]
    return UserError(
        selection.volumes[row["source"]],
        f"pixels that are not finite in plane {row['plane']} at y {row['y0']}, x {row['x0']}",
        "numbers",
        "mend the raw file, or leave the slide out",
    )


class _Reader:
    """Reads images in the order of the index, each rectangle of voxels once."""

    def __init__(self, volumes: Sequence[Path], channels: tuple[str, ...]) -> None:
        def opened(source: int) -> xr.DataArray:
            return open_volume(volumes[source]).sel(c=list(channels))

        self._volume = lru_cache(maxsize=1)(opened)

    def images(self, rows: pd.DataFrame) -> Iterator[NDArray[Any]]:
        """Yield the image (C, Y, X) of each row."""
        keys = ["source", "y0", "x0", "height", "width", "plane"]
        places = rows[keys].to_numpy(np.int64).tolist()
        for (source, y0, x0, height, width), same in itertools.groupby(places, lambda p: p[:5]):
            planes = [place[5] for place in same]
            voxels = (
                self._volume(source)
                .isel(
                    z=slice(planes[0], planes[-1] + 1),
                    y=slice(y0, y0 + height),
                    x=slice(x0, x0 + width),
                )
                .to_numpy()
            )
            for plane in planes:
                yield voxels[:, plane - planes[0]]


def _histogram_path(folder: Path, key: str) -> Path:
    return folder / "histograms" / f"{key}.npz"


def _save_histogram(path: Path, histogram: Histogram) -> None:
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as handle:
        np.savez_compressed(
            handle, counts=histogram.counts, total=histogram.total, square=histogram.square
        )
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)


def _counts(folder: Path, selection: Selection, channels: Sequence[str]) -> dict[str, Any]:
    whole = Histogram.empty(len(channels), selection.dtype)
    for path in sorted((folder / "histograms").glob("*.npz")):
        with np.load(path) as part:
            whole.merge(Histogram(selection.dtype, part["counts"], part["total"], part["square"]))
    by_split = selection.index.groupby("split")
    return {
        "images": {split: len(rows) for split, rows in by_split},
        "patients": {split: int(rows["patient"].nunique()) for split, rows in by_split},
        "slides": {split: int(rows["source"].nunique()) for split, rows in by_split},
        "dtype": str(selection.dtype),
        "channels": list(channels),
        "statistics": {name: whole.summary(c) for c, name in enumerate(channels)},
    }
