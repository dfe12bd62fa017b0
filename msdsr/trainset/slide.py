"""The training images of one slide, decoded once: every set that holds the slide links to them."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
import zarr
from numpy.typing import NDArray

from msdsr.config import TrainsetConfig
from msdsr.errors import UserError
from msdsr.manifest import Manifest, identity, manifest_path, read_manifest, write_manifest
from msdsr.progress import progress
from msdsr.trainset.select import PLACE, Selection, select_images
from msdsr.trainset.statistics import Histogram
from msdsr.trainset.store import create_images, open_images, save_histogram
from msdsr.volume import VolumeSpec, Work, open_volume, read_spec

ALGORITHM = 1
STAGE = "images"
NOT_THERE = "not there"
PLANES = 64
"""Planes are read so many at a time: the chunks of a volume hold no more."""


def gather_slide(
    volume: str | Path,
    patches: str | Path,
    out: str | Path,
    work: str | Path,
    *,
    channels: Sequence[str] | None = None,
    settings: TrainsetConfig,
) -> Manifest:
    """Decode the training images of a slide.

    Parameters
    ----------
    volume
        The denoised store: a z-stack, a single plane, or listed 2D images.
    patches
        The patch table; its manifest names the flagged planes.
    out
        The store to publish, ``….zarr`` (Zarr v3): array ``images`` (N, C, size, size) in the
        slide's own dtype, zero where an image is smaller than ``size``; and the histogram of its
        pixels (arrays ``counts``, ``total``, ``square``). The index ``….parquet`` (see
        `Selection`) and the manifest ``….json`` stand beside it.
    work
        Work folder, on the same file system as ``out``.
    channels
        Names of the channels to keep, in this order; all when left out.
    settings
        Section ``trainset`` of the configuration.

    Returns
    -------
    Manifest
        Its ``counts`` hold ``images``, ``channels``, ``dtype``, ``stacked`` and, by reason, the
        images that were left out.

    Raises
    ------
    UserError
        See `select_images`; a channel is missing; pixels are not finite; or another process is at
        it.
    """
    volume, patches, out = Path(volume), Path(patches), Path(out)
    spec = read_spec(volume)
    names = list(channels or spec.channels)
    refuse_missing_channels(volume, spec, names)
    inputs = slide_inputs(volume, patches)
    values = settings.model_dump(mode="json")
    plan = {
        "stage": STAGE,
        "algorithm": ALGORITHM,
        "inputs": inputs,
        "channels": names,
        "settings": values,
    }
    with Work(work, plan) as at:
        selection = select_images(volume, patches, settings)
        store = at.path / out.name
        _write_shards(at, store, volume, spec, selection, names, settings)
        manifest = Manifest(
            stage=STAGE,
            algorithm=ALGORITHM,
            inputs=inputs,
            settings=values,
            counts={
                "images": len(selection.index),
                "channels": names,
                "dtype": str(spec.dtype),
                "stacked": spec.stacked,
                "left_out": dict(sorted(selection.left_out.items())),
            },
            seconds=at.seconds(),
        )
        table = at.path / f"{out.stem}.parquet"
        selection.index.to_parquet(table, index=False)
        record = write_manifest(store, manifest)
        at.publish(
            {
                store: out,
                table: out.with_suffix(".parquet"),
                record: manifest_path(out),
            }
        )
    return manifest


def slide_inputs(volume: Path, patches: Path) -> dict[str, str]:
    """Return the fingerprints of what a slide's images are made from."""
    return {"volume": identity(volume), "patches": identity(patches)}


def outdated(
    store: Path, inputs: dict[str, str], channels: Sequence[str], settings: TrainsetConfig
) -> str:
    """Return why a slide's images must be decoded (again); empty when they need not be.

    Parameters
    ----------
    store
        Where the images should be.
    inputs
        See `slide_inputs`.
    channels, settings
        What they should have been made with.
    """
    files = (store, store.with_suffix(".parquet"), manifest_path(store))
    if not all(path.exists() for path in files):
        return NOT_THERE
    found = read_manifest(store)
    if found.stage != STAGE or found.algorithm != ALGORITHM:
        return "another version made its images"
    if found.settings != settings.model_dump(mode="json"):
        return "the settings of the training set have changed"
    if found.counts["channels"] != list(channels):
        return "other channels are wanted"
    changed = [name for name in inputs if found.inputs.get(name) != inputs[name]]
    return f"changed: {', '.join(changed)}" if changed else ""


def refuse_missing_channels(volume: Path, spec: VolumeSpec, names: Sequence[str]) -> None:
    """Raise a `UserError` when the volume lacks one of the channels."""
    missing = [name for name in names if name not in spec.channels]
    if missing:
        raise UserError(
            volume,
            f"channels {', '.join(spec.channels)}",
            f"channel {missing[0]!r} among them, as in the other slides",
            "correct the sample sheet or leave the slide out",
        )


def _write_shards(
    at: Work,
    store: Path,
    volume: Path,
    spec: VolumeSpec,
    selection: Selection,
    channels: Sequence[str],
    settings: TrainsetConfig,
) -> None:
    """Write every shard that is not in the ledger; one writer, whole shards."""
    images, length = len(selection.index), settings.shard_images
    done = at.done()
    if not done:
        create_images(store, images, len(channels), spec.dtype, settings)
    array = open_images(store, "r+")
    shards = math.ceil(images / length)
    opened = open_volume(volume).sel(c=list(channels))
    with progress(f"images {spec.name}", total=shards, unit="shards", done=len(done)) as bar:
        for shard in range(shards):
            key = f"shard-{shard:06d}"
            if key in done:
                continue
            rows = selection.index.iloc[shard * length : (shard + 1) * length]
            histogram = _write_shard(array, shard * length, rows, opened, volume)
            _keep(at.path / "histograms" / f"{key}.npz", histogram)
            at.record(key)
            bar.advance()
    whole = Histogram.empty(len(channels), spec.dtype)
    for path in sorted((at.path / "histograms").glob("*.npz")):
        with np.load(path) as part:
            whole.merge(Histogram(spec.dtype, part["counts"], part["total"], part["square"]))
    save_histogram(store, whole)


def _write_shard(
    array: zarr.Array[Any], first: int, rows: pd.DataFrame, opened: xr.DataArray, volume: Path
) -> Histogram:
    """Write one shard and return the histogram of its images."""
    dtype = np.dtype(opened.dtype)
    block = np.zeros((len(rows), *array.shape[1:]), dtype)
    histogram = Histogram.empty(array.shape[1], dtype)
    for place, image in enumerate(read_images(opened, rows)):
        if image.dtype.kind == "f" and not np.isfinite(image).all():
            row = rows.iloc[place]
            raise UserError(
                volume,
                f"pixels that are not finite in plane {row['plane']} at y {row['y0']}, "
                f"x {row['x0']}",
                "numbers",
                "mend the raw file, or leave the slide out",
            )
        block[place, :, : image.shape[1], : image.shape[2]] = image
        histogram.add(image)
    array[first : first + len(rows)] = block
    return histogram


def read_images(opened: xr.DataArray, rows: pd.DataFrame) -> Iterator[NDArray[Any]]:
    """Yield the image (C, Y, X) of each row; planes of one rectangle are read together.

    Parameters
    ----------
    opened
        The volume, dimensions c, z, y, x.
    rows
        `PLACE` of the images, in the order of `Selection`.
    """
    places = rows[list(PLACE)].to_numpy(np.int64).tolist()
    for (y0, x0, height, width, _), same in itertools.groupby(
        places, lambda place: (*place[1:], place[0] // PLANES)
    ):
        planes = [place[0] for place in same]
        voxels = opened[:, planes[0] : planes[-1] + 1, y0 : y0 + height, x0 : x0 + width].to_numpy()
        for plane in planes:
            yield voxels[:, plane - planes[0]]


def _keep(path: Path, histogram: Histogram) -> None:
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as handle:
        np.savez_compressed(
            handle, counts=histogram.counts, total=histogram.total, square=histogram.square
        )
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)
