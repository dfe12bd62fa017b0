"""Where to doubt: how well uncertainty is calibrated, and the places that deserve a look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from PIL import Image

from msdsr.report.calibrated import coverage
from msdsr.report.numbers import fixed
from msdsr.report.pictures import webp
from msdsr.volume import open_volume, read_spec
from msdsr.volume.colour import Window, to_rgb8

MOST_SPOTS = 8
"""Places of one factor, method and reason that the page lists; the table holds all."""

MOST_PICTURES = 48
SIDE = 64
"""Side of a picture of a place (pixels of the volume), or more where the place is larger."""

AGAINST = {"heldout": "held-out planes", "truth": "the truth"}
REASONS = {
    "std": "The samples differ most here",
    "distance": "Far from an acquired plane",
    "residual": "Values that neither neighbouring acquired plane holds",
}


@dataclass(frozen=True)
class Spot:
    """A place that deserves a look.

    Parameters
    ----------
    factor, method, slide, patient, reason, score
        A row of ``hotspots``.
    z, y, x, side
        Its centre (output plane, pixels of the slide) and how large it is.
    pictures
        (what it shows, WebP file) of its XY plane.
    part
        How much of the picture's side the place takes.
    link
        Address of the page that shows it; nothing where there is none.
    """

    factor: int
    method: str
    slide: str
    patient: str
    reason: str
    score: float
    z: int
    y: int
    x: int
    side: int
    pictures: tuple[tuple[str, bytes], ...] = ()
    part: float = 0.0
    link: str = ""

    @property
    def says(self) -> str:
        """Why it is listed."""
        return REASONS.get(self.reason, self.reason)


@dataclass(frozen=True)
class SpotStores:
    """Where a slide's restored volumes and standard deviations stand, by factor and method."""

    restored: Mapping[int, Mapping[str, Path]]
    spread: Mapping[int, Mapping[str, Path]]


@dataclass(frozen=True)
class Coverage:
    """One line of the table of calibration."""

    factor: int
    method: str
    against: str
    level: str
    cells: tuple[tuple[str, float], ...]
    slides: int


def coverage_lines(table: pd.DataFrame) -> list[Coverage]:
    """Return coverage and width by factor, method and level: means over slides."""
    if table.empty:
        return []
    return [
        Coverage(
            int(row["factor"]),
            str(row["method"]),
            AGAINST.get(str(row["against"]), str(row["against"])),
            f"{row['level']:g}",
            (
                (fixed(row["coverage"], 3), row["coverage"]),
                (fixed(row["coverage_calibrated"], 3), row["coverage_calibrated"]),
                (fixed(row["width"], 4), row["width"]),
                (fixed(row["width_calibrated"], 4), row["width_calibrated"]),
            ),
            int(row["slides"]),
        )
        for row in coverage(table).to_dict("records")
    ]


def worst_spots(table: pd.DataFrame, most: int = MOST_SPOTS) -> list[Spot]:
    """Return the first places of each factor, method and reason: they are ordered, worst first."""
    if table.empty:
        return []
    first = table.groupby(["factor", "method", "reason"], sort=False).head(most)
    return [
        Spot(
            int(r["factor"]),
            str(r["method"]),
            str(r["slide"]),
            str(r["patient"]),
            str(r["reason"]),
            float(r["score"]),
            int(r["z"]),
            int(r["y"]),
            int(r["x"]),
            max(1, _whole(r["side"])),
        )
        for r in first.to_dict("records")
    ]


def _whole(value: Any) -> int:
    return int(value) if value == value else 1


def pictured(spots: Sequence[Spot], stores: Mapping[str, SpotStores], window: Window) -> list[Spot]:
    """Return places with pictures of them, as many as a page holds."""
    return [
        replace(spot, **_pictures(spot, stores[spot.slide], window))
        if i < MOST_PICTURES and spot.slide in stores
        else spot
        for i, spot in enumerate(spots)
    ]


def _pictures(spot: Spot, stores: SpotStores, window: Window) -> dict[str, Any]:
    path = stores.restored.get(spot.factor, {}).get(spot.method)
    if path is None:
        return {}
    spec = read_spec(path)
    side = min(max(SIDE, 2 * spot.side), *spec.shape[2:])
    y, x = (
        min(max(at - side // 2, 0), length - side)
        for at, length in zip((spot.y, spot.x), spec.shape[2:], strict=True)
    )
    z = min(spot.z, spec.shape[1] - 1)
    crop = np.asarray(open_volume(path).data[:, z, y : y + side, x : x + side])
    found = [(spot.method, _webp(np.moveaxis(to_rgb8(crop, spec.channels, window), 0, -1)))]
    spread = stores.spread.get(spot.factor, {}).get(spot.method)
    if spread is not None:
        std = np.asarray(open_volume(spread).data[:, z, y : y + side, x : x + side], np.float32)
        found.append(("standard deviation", _webp(_heat(std.mean(axis=0)))))
    return {"pictures": tuple(found), "part": min(1.0, spot.side / side)}


def _heat(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    high = float(values.max()) or 1.0
    return np.asarray(colormaps["inferno"](values / high)[..., :3] * 255).astype(np.uint8)


def _webp(rgb: np.ndarray[Any, Any]) -> bytes:
    return webp(Image.fromarray(np.ascontiguousarray(rgb)), quality=80)


def addressed(spot: Spot, page: str, slide_query: str) -> Spot:
    """Return a place with the address at which a slide's page shows it."""
    # The page counts planes from 1.
    return replace(
        spot,
        link=f"{page}#slide={slide_query}&f={spot.factor}&z={spot.z + 1}&y={spot.y}&x={spot.x}",
    )
