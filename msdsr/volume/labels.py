"""Labels inside a store: for every voxel a small whole number that says something about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BloscShuffle

from msdsr.volume.geometry import Region, ShardGrid
from msdsr.volume.pyramid import AXES, pyramid_steps
from msdsr.volume.store import VolumeSpec

CHUNK_YX, SHARD_MB = 256, 64.0
Rgba = tuple[int, int, int, int]


@dataclass(frozen=True)
class Value:
    """One value of a label: its number, what it means, and its colour in a viewer."""

    number: int
    meaning: str
    rgba: Rgba


@dataclass(frozen=True)
class Label:
    """A label of a volume.

    Attributes
    ----------
    name
        Of its group under ``labels/``.
    values
        All that may occur. A voxel of a coarser level has the greatest value of those it covers,
        so their order should be from harmless to worth knowing.
    fill
        ``fill(region)`` → (z, y, x) uint8 of a region of the volume.
    """

    name: str
    values: Sequence[Value]
    fill: Callable[[Region], NDArray[np.uint8]]


def write_labels(store: str | Path, spec: VolumeSpec, labels: Sequence[Label]) -> None:
    """Write labels into a store that is not published yet (OME-NGFF 0.5, labels).

    Every label is a uint8 image (z, y, x) with the levels of the volume. What an earlier, broken
    attempt left is replaced.

    Parameters
    ----------
    store
        The store, with its metadata.
    spec
        What it holds.
    labels
        What to write.
    """
    # Imported late, as in `StoreWriter.finish`.
    from msdsr.volume.metadata import label_attributes, labels_attributes

    group = zarr.open_group(store, mode="r+").create_group("labels", overwrite=True)
    group.update_attributes({"ome": labels_attributes([label.name for label in labels])})
    steps = pyramid_steps(spec.shape[1:], spec.voxel)
    for label in labels:
        image = group.create_group(label.name)
        for level, step in enumerate(steps):
            _write_level(image, level, label, spec.shape[1:], step)
        image.update_attributes({"ome": label_attributes(label, spec.voxel, steps)})


def _write_level(
    image: zarr.Group,
    level: int,
    label: Label,
    shape_zyx: tuple[int, int, int],
    step: tuple[int, int, int],
) -> None:
    z, y, x = (n // s for n, s in zip(shape_zyx, step, strict=True))
    grid = ShardGrid.plan((1, z, y, x), 1, CHUNK_YX, SHARD_MB)
    array = image.create_array(
        str(level),
        shape=grid.shape[1:],
        chunks=grid.chunk[1:],
        shards=grid.shard[1:],
        dtype="uint8",
        fill_value=0,
        compressors=BloscCodec(cname="zstd", clevel=3, shuffle=BloscShuffle.noshuffle),
        dimension_names=AXES[1:],
    )
    side = max(1, grid.chunk[2] // max(step[1:]))
    for shard in grid:
        out = np.empty(shard.shape, np.uint8)
        for y0 in range(shard.y0, shard.y1, side):
            y1 = min(y0 + side, shard.y1)
            fine = Region(
                0, z * step[0], y0 * step[1], y1 * step[1], shard.x0 * step[2], shard.x1 * step[2]
            )
            out[:, y0 - shard.y0 : y1 - shard.y0] = _greatest(label.fill(fine), step)
        array[shard.slices] = out


def _greatest(values_ZYX: NDArray[np.uint8], step: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return the greatest value in every box of ``step`` voxels."""
    z, y, x = values_ZYX.shape
    fz, fy, fx = step
    boxes = values_ZYX.reshape(z // fz, fz, y // fy, fy, x // fx, fx)
    greatest: NDArray[np.uint8] = boxes.max(axis=(1, 3, 5))
    return greatest


def read_label(store: str | Path, name: str, level: int = 0) -> NDArray[np.uint8]:
    """Return a label of a store as a whole, (z, y, x) uint8."""
    array = zarr.open_group(store, mode="r")[f"labels/{name}/{level}"]
    return np.asarray(array)
