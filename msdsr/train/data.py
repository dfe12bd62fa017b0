"""Random crops of training images: where they lie is drawn first, then one gather reads them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import psutil
import torch
import zarr
from numpy.typing import NDArray
from torch import Tensor

from msdsr.config import ObjectiveConfig
from msdsr.diffusion.transform import ChannelStatistics, DataTransform, build_transform
from msdsr.errors import UserError, require_file
from msdsr.manifest import Manifest, read_manifest
from msdsr.train.distributed import Ranks

RESIDENT_FRACTION = 0.6
"""Part of a device's memory that the images may take; beyond it they stay on the disk."""

BLOCK_BYTES = 256e6


@dataclass(frozen=True)
class Trainset:
    """An opened training set: its store, its index and its manifest."""

    path: Path
    images: zarr.Array[Any]
    index: pd.DataFrame
    manifest: Manifest

    @property
    def channels(self) -> list[str]:
        """Names of the channels."""
        return list(self.manifest.counts["channels"])

    @property
    def statistics(self) -> dict[str, dict[str, Any]]:
        """Mean, σ and percentiles by channel (training split)."""
        return dict(self.manifest.counts["statistics"])

    def rows(self, split: str, crop: int) -> pd.DataFrame:
        """Return the images of a split that hold a crop of ``crop`` × ``crop`` pixels."""
        index = self.index
        holds = (index["height"] >= crop) & (index["width"] >= crop)
        return index[(index["split"] == split) & holds]


def open_trainset(path: str | Path) -> Trainset:
    """Open a training set that the trainset stage published.

    Raises
    ------
    UserError
        When the store, its index or its manifest is missing or does not belong together.
    """
    path = Path(path)
    again = "run the trainset stage again"
    require_file(path, again)
    table = require_file(path.with_suffix(".parquet"), again)
    manifest = read_manifest(path)
    index = pd.read_parquet(table)
    group = zarr.open_group(path, mode="r")
    images = group.get("images")
    if manifest.stage != "trainset":
        raise UserError(path, f"made by the stage {manifest.stage!r}", "a training set", again)
    expected = sum(manifest.counts["images"].values())
    if not isinstance(images, zarr.Array) or len(index) != expected:
        raise UserError(path, "store and index disagree", f"{expected} images", again)
    return Trainset(path, images, index, manifest)


def transform_of(trainset: Trainset, objective: ObjectiveConfig) -> DataTransform:
    """Return the transform that the statistics of the training split give."""
    channels = trainset.channels
    statistics = [ChannelStatistics.from_summary(trainset.statistics[name]) for name in channels]
    return build_transform(channels, statistics, objective, str(trainset.images.dtype))


@dataclass(frozen=True)
class Crops:
    """Where a batch of crops lies; all members are int64 tensors of shape (B,).

    ``image`` counts the images of the split; ``y`` and ``x`` are the corner; ``turned``,
    ``flip_y`` and ``flip_x`` (0 or 1) together name one of the 8 symmetries of the square.
    """

    image: Tensor
    y: Tensor
    x: Tensor
    turned: Tensor
    flip_y: Tensor
    flip_x: Tensor

    def part(self, start: int, stop: int) -> Crops:
        """Return some of the crops."""
        return Crops(*(getattr(self, f.name)[start:stop] for f in fields(self)))

    def to(self, device: torch.device) -> Crops:
        """Return the crops on a device."""
        return Crops(*(getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)))


class CropSampler:
    """Draws crops inside the valid extents of the images of one split.

    Parameters
    ----------
    rows
        Index rows of the images.
    size
        Side of a crop (pixels).
    balance
        ``pixel``: an image is drawn as often as it has pixels; ``slide``, ``patient``, ``class``:
        so, but every slide (of every cohort), patient or class gets the same share.
    usable
        Which of the images are drawn, bool (N,); all when None.

    Raises
    ------
    UserError
        When classes shall be balanced and not one image has any.
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        size: int,
        balance: str = "pixel",
        usable: NDArray[np.bool_] | None = None,
    ) -> None:
        weight = (rows["height"] * rows["width"]).astype(float)
        if usable is not None:
            weight = weight * usable
        if balance != "pixel":
            shares = weight.groupby(_groups(rows, balance)).transform("sum")
            weight = (weight / shares).fillna(0.0)
        edges = np.cumsum(weight.to_numpy())
        self.size = size
        self._edges = torch.from_numpy(edges / edges[-1])
        self._height = torch.tensor(rows["height"].to_numpy())
        self._width = torch.tensor(rows["width"].to_numpy())

    def draw(self, count: int, generator: torch.Generator) -> Crops:
        """Draw ``count`` crops with replacement; a function of the generator's state."""
        u = torch.rand((3, count), dtype=torch.float64, generator=generator)
        image = torch.searchsorted(self._edges, u[0], right=True).clamp(max=len(self._edges) - 1)
        y = (u[1] * (self._height[image] - self.size + 1)).long()
        x = (u[2] * (self._width[image] - self.size + 1)).long()
        symmetry = torch.randint(0, 2, (3, count), generator=generator)
        return Crops(image, y, x, symmetry[0], symmetry[1], symmetry[2])


@dataclass(frozen=True)
class Examples:
    """The images of a split, and which of them make an example.

    Attributes
    ----------
    rows
        Index rows of the images.
    members
        Positions in ``rows`` of the planes of the example whose own plane is each image: itself,
        int64 (N, 1); or the plane before, itself and the plane after, (N, 3), −1 where there is
        none.
    """

    rows: pd.DataFrame
    members: NDArray[np.int64]

    @classmethod
    def of(cls, rows: pd.DataFrame, planes: int) -> Self:
        """Find examples of 1 or 3 planes.

        Unrelated 2D images may stand in one file as if they were planes: only where the column
        ``stacked`` is true, or, without it, on slides of three planes or more, are planes
        neighbours; the others are left out.
        """
        if planes == 1:
            return cls(rows, np.arange(len(rows), dtype=np.int64)[:, None])
        slide = [name for name in ("cohort", "slide") if name in rows]
        if "stacked" in rows:
            rows = rows[rows["stacked"].astype(bool)]
        else:
            rows = rows[rows.groupby(slide)["plane"].transform("nunique") >= planes]
        place = [*slide, "y0", "x0", "height", "width", "plane"]
        keys = list(rows[place].itertuples(index=False, name=None))
        at = {key: number for number, key in enumerate(keys)}
        members = [[at.get((*key[:-1], key[-1] + d), -1) for d in (-1, 0, 1)] for key in keys]
        return cls(rows, np.asarray(members, np.int64).reshape(-1, 3))

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Images whose example is whole; bool (N,)."""
        return np.asarray((self.members >= 0).all(axis=1))


def gather_examples(images_NCYX: Tensor, crops: Crops, size: int, members: Tensor) -> Tensor:
    """Cut, flip and turn all planes of an example alike.

    Parameters
    ----------
    images_NCYX, crops, size
        As for :func:`gather`.
    members
        See `Examples`; int64 (N, 1) or (N, 3).

    Returns
    -------
    Tensor
        (B, C, size, size) or (B, 3, C, size, size), raw values as float32.
    """
    planes = members.to(crops.image.device)[crops.image]
    cut = [gather(images_NCYX, replace(crops, image=image), size) for image in planes.unbind(1)]
    return cut[0] if len(cut) == 1 else torch.stack(cut, dim=1)


def _groups(rows: pd.DataFrame, balance: str) -> list[pd.Series]:
    """Return the columns that say which group an image belongs to."""
    if balance == "class" and not (rows["class"] != "").any():
        raise UserError(
            "optimiser.balance",
            "class, but no image of the training split has one",
            "a class for each slide",
            "fill the column `class` of the sample sheet, or balance by patient",
        )
    # Slides of two cohorts may have one name; a patient is the same person in all of them.
    names = ["cohort", "slide"] if balance == "slide" and "cohort" in rows.columns else [balance]
    return [rows[name] for name in names]


def gather(images_NCYX: Tensor, crops: Crops, size: int) -> Tensor:
    """Cut, flip and turn all crops in one gather.

    Parameters
    ----------
    images_NCYX
        As stored (see `as_stored`), on the device of ``crops``.
    crops
        Where the crops lie.
    size
        Side of a crop (pixels).

    Returns
    -------
    Tensor
        (B, C, size, size), raw values as float32.
    """
    device = images_NCYX.device
    along = torch.arange(size, device=device)
    i, j = along[None, :, None], along[None, None, :]
    turned = crops.turned.bool()[:, None, None]
    row, column = torch.where(turned, j, i), torch.where(turned, i, j)
    row = torch.where(crops.flip_y.bool()[:, None, None], size - 1 - row, row)
    column = torch.where(crops.flip_x.bool()[:, None, None], size - 1 - column, column)
    channel = torch.arange(images_NCYX.shape[1], device=device)[None, :, None, None]
    values = images_NCYX[
        crops.image[:, None, None, None],
        channel,
        (crops.y[:, None, None] + row)[:, None],
        (crops.x[:, None, None] + column)[:, None],
    ]
    return as_float(values)


def as_stored(array: NDArray[Any]) -> Tensor:
    """Return an array as a tensor of a dtype that every device can index (uint16 as int16 bits)."""
    return torch.from_numpy(array.view(np.int16) if array.dtype == np.uint16 else array)


def as_float(values: Tensor) -> Tensor:
    """Return stored values as float32 (int16 bits are uint16 values)."""
    if values.dtype == torch.int16:
        return (values.to(torch.int32) & 0xFFFF).float()
    return values.float()


def load_images(trainset: Trainset, rows: pd.DataFrame, ranks: Ranks, cache: Path) -> Tensor:
    """Bring the images of a split as near to the device as they fit.

    In the device's memory when they take at most 60 % of it; else in a memory-mapped file, decoded
    once, from which the operating system keeps in memory what fits.

    Parameters
    ----------
    trainset, rows
        The set, and the index rows of the split.
    ranks
        Whose device the network is on; rank 0 decodes for all.
    cache
        Path of the memory-mapped file, if one is needed; its ``.done`` sibling says it is whole.

    Returns
    -------
    Tensor
        (N, C, size, size) as stored, on the rank's device or on the CPU.
    """
    shape = (len(rows), *trainset.images.shape[1:])
    dtype = np.dtype(trainset.images.dtype)
    fits = math.prod(shape) * dtype.itemsize <= RESIDENT_FRACTION * _memory(ranks)
    if ranks.agree(fits):
        stored = as_stored(np.empty((1,), dtype)).dtype
        resident = torch.empty(shape, dtype=stored, device=ranks.device)
        for start, block in _blocks(trainset, rows):
            resident[start : start + len(block)] = as_stored(block).to(ranks.device)
        return resident
    if ranks.first:
        _decode(trainset, rows, cache)
    ranks.wait()
    # Copy-on-write: torch warns of arrays that it could not write to.
    return as_stored(np.memmap(cache, dtype, mode="c", shape=shape))


def read_images(trainset: Trainset, images: NDArray[np.int64]) -> Tensor:
    """Read a few images by number; (n, C, size, size) as stored, on the CPU."""
    return as_stored(np.stack([np.asarray(trainset.images[int(i)]) for i in images]))


def _memory(ranks: Ranks) -> float:
    """Return the bytes of a rank's device (on the CPU: its part of what is free now)."""
    if ranks.device.type == "cuda":
        return float(torch.cuda.get_device_properties(ranks.device).total_memory)
    return float(psutil.virtual_memory().available) / ranks.world


def _blocks(trainset: Trainset, rows: pd.DataFrame) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield (start, images) of consecutive images of the split, a bounded number at a time.

    Numbers are left free between slides, so images are read run by run and never the gaps.
    """
    numbers = rows["image"].to_numpy()
    each = math.prod(trainset.images.shape[1:]) * np.dtype(trainset.images.dtype).itemsize
    length = max(1, int(BLOCK_BYTES / each))
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    for run in np.split(np.arange(len(numbers)), breaks):
        for part in np.split(run, range(length, len(run), length)):
            first = int(numbers[part[0]])
            yield int(part[0]), np.asarray(trainset.images[first : first + len(part)])


def _decode(trainset: Trainset, rows: pd.DataFrame, cache: Path) -> None:
    """Write the images of a split into a file that can be mapped, unless it is there and whole."""
    done = cache.with_name(cache.name + ".done")
    if done.exists():
        return
    shape = (len(rows), *trainset.images.shape[1:])
    target = np.memmap(cache, np.dtype(trainset.images.dtype), mode="w+", shape=shape)
    for start, block in _blocks(trainset, rows):
        target[start : start + len(block)] = block
    target.flush()
    with cache.open("rb") as handle:
        os.fsync(handle.fileno())
    done.touch()
