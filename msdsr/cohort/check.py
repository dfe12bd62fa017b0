"""The slides of a sheet held against their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msdsr.errors import UserError
from msdsr.ingest.images import SUFFIX, inspect_images
from msdsr.ingest.tiff import inspect, spacing_warnings
from msdsr.manifest import Manifest, manifest_path
from msdsr.progress import progress
from msdsr.volume import VoxelSize

FEWEST_PLANES = 2
TYPICAL = (2, 20, 1000, 1000)
"""Channels, planes, rows and columns of a slide of which nothing is known."""


@dataclass(frozen=True)
class CheckedSlide:
    """A slide of a sheet, and what its file holds.

    Attributes
    ----------
    slide, split
        From the sheet.
    shape
        Channels, planes, rows, columns; those of a typical slide where ``known`` is false.
    itemsize
        Bytes of a voxel.
    known
        Whether the shape was read, from the raw file or from what ingest recorded of it.
    problem
        What is wrong with the file, in one line; empty where nothing is.
    warnings
        What the user should look at.
    """

    slide: str
    split: str
    shape: tuple[int, int, int, int] = TYPICAL
    itemsize: int = 2
    known: bool = False
    problem: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def megavoxels(self) -> float:
        """The slide's voxels, all channels together (10⁶)."""
        channels, planes, rows, columns = self.shape
        return channels * planes * rows * columns / 1e6


def check_slides(
    rows: Sequence[Mapping[str, Any]], folder: Path | None = None
) -> list[CheckedSlide]:
    """Open every raw file of a sheet, without its voxels.

    Parameters
    ----------
    rows
        Of a sheet (see `msdsr.sheet.read_sheet`).
    folder
        ``results/<cohort>/slides``: where a slide has been ingested, its manifest is read in place
        of the raw file. A raw file that is not there is then no problem: it may be made by a run.

    Returns
    -------
    list of CheckedSlide
        In the sheet's order. Nothing is raised: a sheet may have several bad files.
    """
    found = []
    with progress("check", len(rows), "slides") as bar:
        for row in rows:
            found.append(_recorded(row, folder) or _inspected(row, may_miss=folder is not None))
            bar.advance()
    return found


def _recorded(row: Mapping[str, Any], folder: Path | None) -> CheckedSlide | None:
    if folder is None:
        return None
    record = manifest_path(folder / row["slide"] / "raw.ome.zarr")
    try:
        counts = Manifest.model_validate_json(record.read_text(encoding="utf-8")).counts
        shape = tuple(int(counts[key]) for key in ("channels", "planes", "rows", "columns"))
        itemsize = {"uint8": 1, "uint16": 2, "float32": 4}[counts["dtype"]]
    except (OSError, ValueError, KeyError):
        return None
    return CheckedSlide(
        row["slide"], row["split"], (shape[0], shape[1], shape[2], shape[3]), itemsize, True
    )


def _inspected(row: Mapping[str, Any], *, may_miss: bool) -> CheckedSlide:
    path, slide, split = Path(row["path"]), row["slide"], row["split"]
    if may_miss and not path.exists():
        return CheckedSlide(slide, split)
    voxel = VoxelSize(row["z_um"], row["y_um"], row["x_um"])
    try:
        if path.name.lower().endswith(SUFFIX):
            images = inspect_images(path, len(row["channels"]))
            return CheckedSlide(slide, split, images.shape_czyx, images.dtype.itemsize, True)
        stack = inspect(path, len(row["channels"]))
    except UserError as error:
        return CheckedSlide(slide, split, problem=error.line())
    warnings = tuple(spacing_warnings(stack, voxel))
    checked = CheckedSlide(slide, split, stack.shape_czyx, stack.dtype.itemsize, True, "", warnings)
    planes = stack.shape_czyx[1]
    if split == "infer" and planes < FEWEST_PLANES:
        problem = f"{path}: {planes} plane; expected {FEWEST_PLANES} or more to fill between"
        return CheckedSlide(slide, split, checked.shape, checked.itemsize, True, problem, warnings)
    return checked
