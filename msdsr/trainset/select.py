"""Which pieces of which planes become training images, and what must hold between slides."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from msdsr.config import TrainsetConfig
from msdsr.errors import UserError, require_file
from msdsr.volume import VolumeSpec, read_spec

SPLITS = ("train", "val")
PATCH_COLUMNS = ("y0", "x0", "height", "width", "tissue_fraction", "background")
INDEX_COLUMNS = (
    "image",
    "slide",
    "patient",
    "split",
    "plane",
    "y0",
    "x0",
    "height",
    "width",
    "tissue_fraction",
)


@dataclass(frozen=True)
class TrainSlide:
    """A slide that teaches (``train``) or judges (``val``) a model."""

    slide: str
    patient: str
    split: str
    volume: Path
    patches: Path


@dataclass(frozen=True)
class Selection:
    """The training images to be, in the order in which they are stored.

    Attributes
    ----------
    index
        One row an image, columns `INDEX_COLUMNS`; rows of one rectangle of one slide follow each
        other plane by plane, so that its voxels are read once.
    volumes
        The volume of each slide position (the column ``source`` of ``index`` counts them).
    dtype
        Type of the pixels, the same in all slides.
    warnings
        What was left out, and why.
    """

    index: pd.DataFrame
    volumes: tuple[Path, ...]
    dtype: np.dtype[Any]
    warnings: tuple[str, ...]


def select_images(
    slides: Sequence[TrainSlide], channels: Sequence[str], settings: TrainsetConfig
) -> Selection:
    """Lay out every training image of the given slides, without reading a voxel.

    Raises
    ------
    UserError
        When a patient is in both splits, a channel is missing, the types of the pixels differ, or
        nothing is left to train on.
    """
    _refuse_leaks(slides)
    specs = [read_spec(slide.volume) for slide in slides]
    _refuse_differences(slides, specs, channels)
    tables, warnings = [], []
    for source, (slide, spec) in enumerate(zip(slides, specs, strict=True)):
        rectangles, narrow = _rectangles(slide, spec, settings)
        if narrow:
            warnings.append(
                f"{slide.slide}: {narrow} patches narrower than {settings.min_side} pixels "
                "were left out"
            )
        tables.append(_images(source, slide, rectangles, spec.shape[1]))
    index = pd.concat(tables, ignore_index=True)
    _refuse_nothing(slides, index, settings)
    if not (index["split"] == "val").any():
        warnings.append("no validation images: give at least one patient the split `val`")
    index.insert(0, "image", np.arange(len(index), dtype=np.int64))
    return Selection(
        index, tuple(slide.volume for slide in slides), np.dtype(specs[0].dtype), tuple(warnings)
    )


def tiles(length: int, size: int) -> list[tuple[int, int]]:
    """Cut a side into the fewest nearly equal pieces of at most ``size`` (start, length)."""
    pieces = math.ceil(length / size)
    edges = [round(i * length / pieces) for i in range(pieces + 1)]
    return [(a, b - a) for a, b in itertools.pairwise(edges)]


def _rectangles(
    slide: TrainSlide, spec: VolumeSpec, settings: TrainsetConfig
) -> tuple[pd.DataFrame, int]:
    """Return the tissue rectangles of a slide and how many were too narrow for a crop."""
    patches = _read_patches(slide.patches)
    _refuse_outside(slide, patches, spec)
    kept = patches[
        ~patches["background"] & (patches["tissue_fraction"] >= settings.min_tissue_fraction)
    ]
    boxes = kept[["y0", "x0", "height", "width"]].to_numpy(np.int64).tolist()
    rows = [
        (y0 + y, x0 + x, height, width, tissue)
        for (y0, x0, full_height, full_width), tissue in zip(
            boxes, kept["tissue_fraction"], strict=True
        )
        for y, height in tiles(full_height, settings.size)
        for x, width in tiles(full_width, settings.size)
    ]
    table = pd.DataFrame(rows, columns=["y0", "x0", "height", "width", "tissue_fraction"])
    wide = (table["height"] >= settings.min_side) & (table["width"] >= settings.min_side)
    return table[wide], int((~wide).sum())


def _read_patches(path: Path) -> pd.DataFrame:
    require_file(path, "run the patch stage")
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise UserError(
            path, f"unreadable ({error})", "a patch table", "run the patch stage again"
        ) from None
    missing = [column for column in PATCH_COLUMNS if column not in table.columns]
    if missing:
        raise UserError(
            path,
            f"column {missing[0]!r} is missing",
            "a patch table",
            "run the patch stage again",
        )
    return table


def _images(source: int, slide: TrainSlide, rectangles: pd.DataFrame, planes: int) -> pd.DataFrame:
    """Repeat every rectangle for every plane."""
    table = rectangles.loc[rectangles.index.repeat(planes)].reset_index(drop=True)
    table["plane"] = np.tile(np.arange(planes, dtype=np.int64), len(rectangles))
    table["source"] = source
    table["slide"], table["patient"], table["split"] = slide.slide, slide.patient, slide.split
    for column in ("y0", "x0", "height", "width"):
        table[column] = table[column].astype(np.int64)
    table["tissue_fraction"] = table["tissue_fraction"].astype(float)
    return table[[*(c for c in INDEX_COLUMNS if c != "image"), "source"]]


def _refuse_leaks(slides: Sequence[TrainSlide]) -> None:
    if not slides:
        raise UserError("trainset", "no slides", "at least one with the split `train`")
    splits: dict[str, TrainSlide] = {}
    for slide in slides:
        if slide.split not in SPLITS:
            raise UserError(
                slide.volume,
                f"slide {slide.slide!r} has the split {slide.split!r}",
                "train or val",
                "leave it out of the training set",
            )
        first = splits.setdefault(slide.patient, slide)
        if first.split != slide.split:
            raise UserError(
                slide.volume,
                f"patient {slide.patient!r} is in `{slide.split}` here and in `{first.split}` with "
                f"slide {first.slide!r}",
                "one split a patient",
                "move all slides of the patient to one split",
            )


def _refuse_differences(
    slides: Sequence[TrainSlide], specs: Sequence[VolumeSpec], channels: Sequence[str]
) -> None:
    for slide, spec in zip(slides, specs, strict=True):
        missing = [name for name in channels if name not in spec.channels]
        if missing:
            raise UserError(
                slide.volume,
                f"channels {', '.join(spec.channels)}",
                f"channel {missing[0]!r} among them, as in the other slides",
                "correct the sample sheet or leave the slide out",
            )
        if np.dtype(spec.dtype) != np.dtype(specs[0].dtype):
            raise UserError(
                slide.volume,
                f"pixels of type {np.dtype(spec.dtype)}",
                f"{np.dtype(specs[0].dtype)} as in {slides[0].volume}",
                "train on slides of one type",
            )


def _refuse_outside(slide: TrainSlide, patches: pd.DataFrame, spec: VolumeSpec) -> None:
    _, _, rows, columns = spec.shape
    outside = (
        (patches["y0"] < 0)
        | (patches["x0"] < 0)
        | (patches["y0"] + patches["height"] > rows)
        | (patches["x0"] + patches["width"] > columns)
    )
    if outside.any():
        raise UserError(
            slide.patches,
            "a patch reaches beyond the volume",
            f"patches inside {rows}×{columns} pixels ({slide.volume})",
            "run the patch stage again",
        )


def _refuse_nothing(
    slides: Sequence[TrainSlide], index: pd.DataFrame, settings: TrainsetConfig
) -> None:
    if (index["split"] == "train").any():
        return
    given = sorted({slide.split for slide in slides})
    raise UserError(
        "trainset",
        f"no training image among {len(slides)} slides (splits: {', '.join(given)})",
        f"patches of at least {settings.min_side} pixels with a tissue fraction of at least "
        f"{settings.min_tissue_fraction} on slides with the split `train`",
        "check the splits, or lower trainset.min_tissue_fraction or trainset.min_side",
    )
