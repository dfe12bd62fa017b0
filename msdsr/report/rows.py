"""A row a slide: what it looks like, what was flagged, and its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from msdsr.failures import Failure
from msdsr.manifest import Manifest
from msdsr.report.numbers import ALL, FLOORS, MEAN, PLANES, Numbers, fixed, order
from msdsr.report.pictures import webp
from msdsr.volume import open_volume, read_spec
from msdsr.volume.colour import Window, to_rgb8
from msdsr.volume.pyramid import pyramid_steps

SIDE = 72
"""Longer side of a thumbnail (pixels)."""

MOST_THUMBNAIL_BYTES = 3_000_000
QUALITY = 60
FAILED, PLANES_FLAGGED, WARNING = "failed", "planes flagged", "warning"
KINDS = (FAILED, PLANES_FLAGGED, WARNING)


@dataclass(frozen=True)
class Flag:
    """Something about a slide that its reader should know."""

    kind: str
    text: str


@dataclass(frozen=True)
class Heading:
    """A column of numbers: what it says, of which factor."""

    label: str
    unit: str
    method: str
    factor: int
    low_is_good: bool


@dataclass(frozen=True)
class SlideRow:
    """One row of the table of slides."""

    slide: str
    patient: str
    notes: str
    flags: tuple[Flag, ...]
    cells: tuple[tuple[str, float | None], ...]


def flags_of(
    slides: Sequence[str],
    records: Sequence[tuple[Path, Manifest]],
    failed: Sequence[Failure],
) -> dict[str, tuple[Flag, ...]]:
    """Return what is flagged about each slide.

    Parameters
    ----------
    slides
        Their names.
    records
        Manifests, with their paths; a slide's stand in a folder of its name.
    failed
        Slides that did not come through.
    """
    found: dict[str, list[Flag]] = {slide: [] for slide in slides}
    for each in failed:
        found.setdefault(each.slide, []).append(Flag(FAILED, f"{each.stage}: {each.reason}"))
    for path, manifest in records:
        own = found.get(str(manifest.counts.get("slide", path.parent.name)))
        if own is None:
            continue
        count = manifest.counts.get("flagged_planes", 0)
        if manifest.stage == "patch" and count:
            planes = manifest.counts.get("flagged", {})
            numbers = f": {', '.join(map(str, planes))}" if planes else ""
            own.append(Flag(PLANES_FLAGGED, f"{count} planes flagged{numbers}"))
        own += [Flag(WARNING, f"{manifest.stage}: {warning}") for warning in manifest.warnings]
    return {slide: tuple(dict.fromkeys(flags)) for slide, flags in found.items()}


def slide_numbers(numbers: Numbers) -> tuple[list[Heading], dict[str, list[float | None]]]:
    """Return the columns of the table of slides, and each slide's numbers.

    KID is the mean of the three planes, and missing where one of them is; PSNR and SSIM against the
    truth, and PSNR against held-out planes, are means of the planes, all channels together.
    """
    own, held = numbers["slides"], numbers["heldout_slides"]
    own, held = own[own["channel"] == ALL], held[held["channel"] == ALL]
    kid = own[(own["metric"] == "KID") & own["plane"].isin(PLANES)]
    parts = (
        ("KID", "×10³", kid, len(PLANES), 1000.0, True),
        ("PSNR", "dB", _of(own, "PSNR"), 1, 1.0, False),
        ("SSIM", "", _of(own, "SSIM"), 1, 1.0, False),
        ("held-out PSNR", "dB", _of(held, "PSNR"), 1, 1.0, False),
    )
    headings: list[Heading] = []
    columns: list[dict[str, float]] = []
    methods = [m for m in order([*own["method"], *held["method"]]) if m not in FLOORS]
    for factor in sorted({int(f) for f in [*own["factor"], *held["factor"]]}):
        for label, unit, table, needed, scale, low_is_good in parts:
            here = table[table["factor"] == factor]
            for method in methods:
                groups = here[here["method"] == method].groupby("slide")["value"]
                means = groups.mean()[groups.count() == needed]
                if len(means):
                    headings.append(Heading(label, unit, method, factor, low_is_good))
                    columns.append({str(s): scale * float(v) for s, v in means.items()})
    slides = dict.fromkeys([*map(str, own["slide"]), *map(str, held["slide"])])
    return headings, {slide: [column.get(slide) for column in columns] for slide in slides}


def _of(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    own = table[table["metric"] == metric]
    # Held-out planes are XY planes: there is nothing to take a mean of.
    return own[own["plane"] == (MEAN if (own["plane"] == MEAN).any() else "XY")]


def make_rows(
    who: Sequence[tuple[str, str, str]],
    flags: Mapping[str, tuple[Flag, ...]],
    headings: Sequence[Heading],
    numbers: Mapping[str, Sequence[float | None]],
) -> list[SlideRow]:
    """Return the rows of some slides: (slide, patient, notes), their flags and their numbers."""
    digits = [{"SSIM": 3, "PSNR": 2}.get(h.label.split()[-1], 1) for h in headings]
    rows = []
    for slide, patient, notes in who:
        values = numbers.get(slide, [None] * len(headings))
        cells = tuple(
            ("–" if v is None else fixed(v, d), v) for v, d in zip(values, digits, strict=True)
        )
        rows.append(SlideRow(slide, patient, notes, flags.get(slide, ()), cells))
    return rows


def thumbnail(acquired: Path, window: Window, side: int = SIDE) -> bytes:
    """Return the middle plane of a volume as a small WebP picture.

    Parameters
    ----------
    acquired
        A store; only the coarsest level that is fine enough is read.
    window
        Intensities shown as black and as full colour.
    side
        Its longer side (pixels).

    Raises
    ------
    UserError
        When there is no such store.
    """
    spec = read_spec(acquired)
    steps = pyramid_steps(spec.shape[1:], spec.voxel)
    fine = [
        i
        for i, (_, y, x) in enumerate(steps)
        if max(spec.shape[2] // y, spec.shape[3] // x) >= side
    ]
    voxels = open_volume(acquired, fine[-1] if fine else 0).data
    plane = np.asarray(voxels[:, voxels.shape[1] // 2])
    picture = Image.fromarray(
        np.ascontiguousarray(np.moveaxis(to_rgb8(plane, spec.channels, window), 0, -1))
    )
    picture.thumbnail((side, side), Image.Resampling.BOX)
    return webp(picture, quality=QUALITY)
