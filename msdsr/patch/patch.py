"""The patch stage: a grid over the slide with the share of tissue, and planes to leave out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from msdsr.config import PatchConfig
from msdsr.errors import UserError
from msdsr.manifest import Manifest, Stopwatch, identity, write_manifest
from msdsr.patch.planes import Flag, flag_planes
from msdsr.patch.tissue import SEPARABILITY, otsu_mask, projection, smoothed_images, tissue_mask
from msdsr.volume import open_volume, read_spec

ALGORITHM = 2
EVERY_PLANE = -1


@dataclass(frozen=True)
class Grid:
    """The patches of a slide.

    Attributes
    ----------
    table
        See `patch`.
    tissue_fraction
        Of the whole slide, 0 to 1.
    separability
        How well tissue and background are told apart; see `tissue_mask`.
    """

    table: pd.DataFrame
    tissue_fraction: float
    separability: float


def patch(
    volume: str | Path, out: str | Path, *, settings: PatchConfig, flagged: Sequence[int] = ()
) -> Manifest:
    """Lay the patch grid over a slide and write it as a parquet table.

    Parameters
    ----------
    volume
        The ingested store.
    out
        The table: ``slide``, ``index``, ``plane`` (−1: the patch is there in every plane), ``y0``,
        ``x0``, ``height``, ``width`` (pixels), ``tissue_fraction`` (0 to 1), ``background`` (less
        tissue than the least wanted), ``class`` (of a listed 2D image).
    settings
        Side of a patch, smoothing (µm), least tissue, limits for planes.
    flagged
        Planes, from 0, that the sample sheet flags.

    Returns
    -------
    Manifest
        ``counts["flagged"]`` holds, by flagged plane, reason, value and limit (see `Flag`).

    Raises
    ------
    UserError
        When there is no such volume, or no such plane in it; when no plane or no patch is of use.
    """
    out = Path(out)
    clock = Stopwatch()
    opened = open_volume(volume)
    planes = opened.sizes["z"]
    beyond = [plane for plane in flagged if plane >= planes]
    if beyond:
        raise UserError(
            volume,
            f"plane {beyond[0]} is flagged, of planes 0 to {planes - 1}",
            "planes that are there, counted from 0",
            "correct `flagged` in the sample sheet",
        )
    name = str(opened.name or Path(volume).name)
    stacked = read_spec(volume).stacked
    grid = (stack_grid if stacked else images_grid)(name, opened, settings)
    flags = flag_planes(opened, settings, flagged)
    _refuse_useless(volume, grid, flags, planes)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.writing")
    grid.table.to_parquet(temporary, index=False)
    temporary.replace(out)
    manifest = Manifest(
        stage="patch",
        algorithm=ALGORITHM,
        inputs={"volume": identity(volume)},
        settings=settings.model_dump(mode="json"),
        counts={
            "patches": len(grid.table),
            "tissue_patches": int((~grid.table["background"]).sum()),
            "tissue_fraction": round(grid.tissue_fraction, 6),
            "separability": round(grid.separability, 6),
            # False: no two classes to be seen, as in a slide full of tissue; all of it counts.
            "background_told_apart": grid.separability >= SEPARABILITY,
            "planes": planes,
            "flagged_planes": len(flags),
            "flagged": {str(flag.plane): flag.record() for flag in flags},
        },
        seconds=clock.seconds(),
        warnings=_tell(flags, planes),
    )
    write_manifest(out, manifest)
    return manifest


def _refuse_useless(volume: str | Path, grid: Grid, flags: Sequence[Flag], planes: int) -> None:
    """Refuse a slide that nothing can be learnt from or restored to any use."""
    if len(flags) == planes:
        reasons = ", ".join(dict.fromkeys(flag.reason for flag in flags))
        raise UserError(
            volume,
            f"every plane is flagged ({reasons})",
            "at least one plane of use",
            "acquire it again, or take the slide out of the sample sheet",
        )
    if grid.table["background"].all():
        raise UserError(
            volume,
            f"no tissue: all {len(grid.table)} patches are background",
            "a patch with as much tissue as patch.min_tissue_fraction",
            "lower it, or take the slide out of the sample sheet",
        )


def _tell(flags: Sequence[Flag], planes: int) -> list[str]:
    lines = []
    for reason in dict.fromkeys(flag.reason for flag in flags):
        found = [str(flag.plane) for flag in flags if flag.reason == reason]
        shown = ", ".join(found[:10]) + (" …" if len(found) > 10 else "")
        why = "flagged in the sample sheet" if reason == "sheet" else reason
        lines.append(f"{len(found)} of {planes} planes {why}, no model learns from them: {shown}")
    return lines


def stack_grid(slide: str, volume: xr.DataArray, settings: PatchConfig) -> Grid:
    """Return the grid of a z-stack: tissue is told on the projection and holds for every plane."""
    sigma = settings.smoothing_um / float(np.mean(volume.attrs["voxel_um"][1:]))
    mask, separability = tissue_mask(projection(volume), sigma)
    return Grid(patch_table(slide, mask, settings), float(mask.mean()), separability)


def images_grid(slide: str, volume: xr.DataArray, settings: PatchConfig) -> Grid:
    """Return the grid of listed 2D images: each on its own, under one threshold for all.

    An image is cut into the equal pieces whose side comes nearest to a patch's.
    """
    sigma = settings.smoothing_um / float(np.mean(volume.attrs["voxel_um"][1:]))
    masks, separability = otsu_mask(smoothed_images(volume, sigma))
    step = max(1, round(sigma))
    rows, columns = volume.shape[2:]
    classes = volume.attrs["msdsr"].get("image_classes") or [""] * len(masks)
    records: list[dict[str, Any]] = []
    for plane, mask in enumerate(masks):
        for y, height in equal_pieces(rows, settings.size):
            for x, width in equal_pieces(columns, settings.size):
                inside = mask[_thinned(y, height, step), _thinned(x, width, step)]
                fraction = float(inside.mean()) if inside.size else float(mask.mean())
                records.append(
                    _record(slide, len(records), plane, (y, x, height, width), fraction, settings)
                    | {"class": classes[plane]}
                )
    return Grid(pd.DataFrame.from_records(records), float(masks.mean()), separability)


def _thinned(start: int, length: int, step: int) -> slice:
    """Return where the pixels start .. start + length lie when one in ``step`` is kept."""
    return slice(-(-start // step), -(-(start + length) // step))


def equal_pieces(length: int, size: int) -> list[tuple[int, int]]:
    """Cut a side into equal pieces as near to ``size`` as can be (start, length)."""
    pieces = max(1, round(length / size))
    edges = [round(i * length / pieces) for i in range(pieces + 1)]
    return [(a, b - a) for a, b in pairwise(edges)]


def patch_table(slide: str, mask_YX: NDArray[np.bool_], settings: PatchConfig) -> pd.DataFrame:
    """Return the grid as a table, rows first; patches at the far edges may be smaller."""
    rows, columns = mask_YX.shape
    records: list[dict[str, Any]] = []
    for y in range(0, rows, settings.size):
        for x in range(0, columns, settings.size):
            inside = mask_YX[y : y + settings.size, x : x + settings.size]
            box = (y, x, *inside.shape)
            fraction = float(inside.mean())
            records.append(_record(slide, len(records), EVERY_PLANE, box, fraction, settings))
    return pd.DataFrame.from_records(records)


def _record(
    slide: str,
    index: int,
    plane: int,
    box: tuple[int, ...],
    fraction: float,
    settings: PatchConfig,
) -> dict[str, Any]:
    y0, x0, height, width = box
    return {
        "slide": slide,
        "index": index,
        "plane": plane,
        "y0": y0,
        "x0": x0,
        "height": height,
        "width": width,
        "tissue_fraction": fraction,
        "background": fraction < settings.min_tissue_fraction,
        "class": "",
    }
