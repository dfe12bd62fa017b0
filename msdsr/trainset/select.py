"""Which pieces of which planes of a slide become training images, and why the others do not."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from msdsr.config import TrainsetConfig
from msdsr.errors import UserError, require_file
from msdsr.manifest import read_manifest
from msdsr.volume import VolumeSpec, read_spec

PATCH_COLUMNS = {
    "plane": "int64",
    "y0": "int64",
    "x0": "int64",
    "height": "int64",
    "width": "int64",
    "tissue_fraction": "float64",
    "background": "bool",
    "class": "str",
}
PLACE = ("plane", "y0", "x0", "height", "width")
EVERY_PLANE = -1


@dataclass(frozen=True)
class Selection:
    """The training images of one slide, in the order in which they are stored.

    Attributes
    ----------
    index
        One row an image: `PLACE` (the plane; pixels, half-open from ``y0``, ``x0``),
        ``tissue_fraction`` and ``class``. Rows of one rectangle follow each other plane by plane,
        so that its voxels are read once.
    left_out
        Why images were left out, and how many.
    """

    index: pd.DataFrame
    left_out: Counter[str]


def select_images(volume: Path, patches: Path, settings: TrainsetConfig) -> Selection:
    """Lay out every training image of a slide, without reading a voxel.

    Parameters
    ----------
    volume
        The denoised store.
    patches
        The patch table; its manifest names the flagged planes.
    settings
        Section ``trainset`` of the configuration.

    Raises
    ------
    UserError
        When there is no patch table, or one that does not belong to the volume.
    """
    spec = read_spec(volume)
    table = _read_patches(patches)
    _refuse_outside(patches, table, spec, volume)
    left_out: Counter[str] = Counter()

    def leave(table: pd.DataFrame, kept: pd.Series, reason: str, planes: int = 1) -> pd.DataFrame:
        left_out[reason] += int((~kept).sum()) * planes
        return table[kept]

    # A patch of a stack is there in every plane; leaving it out leaves out so many images.
    planes = spec.shape[1] if spec.stacked else 1
    enough = ~table["background"] & (table["tissue_fraction"] >= settings.min_tissue_fraction)
    table = leave(table, enough, "background", planes)
    for name in settings.exclude_classes:
        table = leave(table, table["class"] != name, f"class {name}", planes)
    table = _cut(table, settings.size)
    wide = (table["height"] >= settings.min_side) & (table["width"] >= settings.min_side)
    table = leave(table, wide, f"narrower than {settings.min_side} pixels", planes)
    if spec.stacked:
        table = _repeat(table, planes)
    flagged = read_manifest(patches).counts.get("flagged", {})
    reasons = table["plane"].map({int(n): flag["reason"] for n, flag in flagged.items()})
    for reason in sorted(reasons.dropna().unique()):
        left_out[f"flagged: {reason}"] = int((reasons == reason).sum())
    table = table[reasons.isna()]
    if not spec.stacked:
        # Images of one size are read together, rectangle by rectangle, as a stack's are.
        table = table.sort_values(["y0", "x0", "plane"], kind="stable")
    index = table[[*PLACE, "tissue_fraction", "class"]].reset_index(drop=True)
    return Selection(index, Counter({k: n for k, n in left_out.items() if n}))


def tiles(length: int, size: int) -> list[tuple[int, int]]:
    """Cut a side into the fewest nearly equal pieces of at most ``size`` (start, length)."""
    pieces = math.ceil(length / size)
    edges = [round(i * length / pieces) for i in range(pieces + 1)]
    return [(a, b - a) for a, b in itertools.pairwise(edges)]


def _cut(table: pd.DataFrame, size: int) -> pd.DataFrame:
    """Cut every patch into images of at most ``size`` pixels a side."""
    rows = [
        (plane, y0 + y, x0 + x, height, width, tissue, label)
        for plane, y0, x0, full_height, full_width, tissue, label in zip(
            *(table[name].tolist() for name in (*PLACE, "tissue_fraction", "class")), strict=True
        )
        for y, height in tiles(full_height, size)
        for x, width in tiles(full_width, size)
    ]
    cut = pd.DataFrame(rows, columns=[*PLACE, "tissue_fraction", "class"])
    return cut.astype({name: PATCH_COLUMNS[name] for name in cut.columns})


def _repeat(rectangles: pd.DataFrame, planes: int) -> pd.DataFrame:
    """Repeat every rectangle for every plane."""
    table = rectangles.loc[rectangles.index.repeat(planes)].reset_index(drop=True)
    table["plane"] = np.tile(np.arange(planes, dtype=np.int64), len(rectangles))
    return table


def _read_patches(path: Path) -> pd.DataFrame:
    require_file(path, "run the patch stage")
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise UserError(
            path, f"unreadable ({error})", "a patch table", "run the patch stage again"
        ) from None
    # A table that knows neither planes nor classes is that of a stack.
    if "plane" not in table.columns:
        table["plane"] = EVERY_PLANE
    if "class" not in table.columns:
        table["class"] = ""
    missing = [column for column in PATCH_COLUMNS if column not in table.columns]
    if missing:
        raise UserError(
            path,
            f"column {missing[0]!r} is missing",
            "a patch table",
            "run the patch stage again",
        )
    return table[list(PATCH_COLUMNS)].astype(PATCH_COLUMNS)


def _refuse_outside(path: Path, patches: pd.DataFrame, spec: VolumeSpec, volume: Path) -> None:
    _, planes, rows, columns = spec.shape
    outside = (
        (patches["y0"] < 0)
        | (patches["x0"] < 0)
        | (patches["y0"] + patches["height"] > rows)
        | (patches["x0"] + patches["width"] > columns)
        | (patches["plane"] >= planes)
        | ((patches["plane"] == EVERY_PLANE) != spec.stacked)
    )
    if outside.any():
        raise UserError(
            path,
            "a patch reaches beyond the volume",
            f"patches inside {planes} planes of {rows}×{columns} pixels ({volume})",
            "run the patch stage again",
        )
