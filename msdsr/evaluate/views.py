"""How a slice is shown to Inception: which protocol chose its place, and how it was rescaled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msdsr.config import EvaluateConfig, Protocol, Rescaling
from msdsr.evaluate.slices import GENERATED, PLANES, spread_crops
from msdsr.metrics.equalise import PAPER_BORDER, equalise
from msdsr.volume import Region
from msdsr.volume.colour import Window, colours, to_rgb8


@dataclass(frozen=True)
class View:
    """One way of looking at a volume; FID is a figure of one view."""

    protocol: Protocol
    rescaling: Rescaling

    @property
    def name(self) -> str:
        """How files and tables call it: ``v2/window``."""
        return f"{self.protocol}/{self.rescaling}"

    @property
    def planes(self) -> tuple[str, ...]:
        """The kinds of slices that are shown; v2 shows generated XY planes apart too."""
        return (*PLANES, GENERATED) if self.protocol == "v2" else PLANES


def views(settings: EvaluateConfig) -> list[View]:
    """Return the views that the settings ask for; protocol ``paper`` knows equalising alone."""
    found = []
    for protocol in dict.fromkeys(settings.protocols):
        rescalings: list[Rescaling] = settings.rescalings if protocol == "v2" else ["equalised"]
        found += [View(protocol, rescaling) for rescaling in dict.fromkeys(rescalings)]
    return found


def rescalings_of(settings: EvaluateConfig) -> list[Rescaling]:
    """Return the rescalings that some view needs, each once."""
    return list(dict.fromkeys(view.rescaling for view in views(settings)))


@dataclass(frozen=True)
class Show:
    """Turns a crop into what Inception sees."""

    rescaling: Rescaling
    channels: tuple[str, ...]
    window: Window

    def __call__(self, raw: NDArray[np.generic]) -> NDArray[np.uint8]:
        """Return a crop (c, rows, columns) of raw intensities as uint8 (3, rows, columns)."""
        if self.rescaling == "equalised":
            return equalise(colours(raw, self.channels))
        return to_rgb8(raw, self.channels, self.window)

    def facts(self) -> dict[str, object]:
        """Return all that what is seen depends on, but for the crop."""
        facts: dict[str, object] = {"rescaling": self.rescaling, "channels": self.channels}
        if self.rescaling == "window":
            facts |= {"low": self.window.low, "high": self.window.high}
        return facts


def places(
    view: View,
    shape_zyx: tuple[int, int, int],
    generated: NDArray[np.bool_],
    settings: EvaluateConfig,
    *,
    seed: int,
    name: str,
    tissue: NDArray[np.bool_] | None,
) -> dict[str, list[Region]]:
    """Return where a restored volume is cut, plane by plane.

    Protocol v2 cuts squares of ``settings.crop`` from the whole volume, as the real ones are.
    Protocol paper does as the published code does: real images of ``crop`` pixels, restored ones
    without the 4 outermost voxels at each end, so 8 smaller; and the 4 outermost voxels of every
    axis of the volume are never seen.

    Parameters
    ----------
    view
        Whose protocol.
    shape_zyx
        Planes, rows, columns of the restored volume.
    generated
        Which planes were not acquired, shape (planes,).
    settings
        Section ``evaluate``.
    seed, name, tissue
        See `spread_crops`.
    """
    if view.protocol == "v2":
        return {
            plane: spread_crops(
                plane,
                shape_zyx,
                settings.crop,
                settings.max_images,
                seed=seed,
                name=name,
                tissue=tissue,
                generated=generated,
            )
            for plane in view.planes
        }
    border = PAPER_BORDER
    z, y, x = (max(0, n - 2 * border) for n in shape_zyx)
    inner = None if tissue is None else tissue[border : border + y, border : border + x]
    found = {
        plane: spread_crops(
            plane,
            (z, y, x),
            max(1, settings.crop - 2 * border),
            settings.max_images,
            seed=seed,
            name=name,
            tissue=inner,
        )
        for plane in view.planes
    }
    return {plane: [_moved(r, border) for r in regions] for plane, regions in found.items()}


def _moved(region: Region, by: int) -> Region:
    return Region(*(edge + by for edge in _edges(region)))


def _edges(r: Region) -> tuple[int, int, int, int, int, int]:
    return (r.z0, r.z1, r.y0, r.y1, r.x0, r.x1)


def corners(regions: Sequence[Region]) -> NDArray[np.int32]:
    """Return regions as an array, (n, 6): z0 z1 y0 y1 x0 x1."""
    return np.array([_edges(r) for r in regions], np.int32).reshape(-1, 6)


def count(by_plane: Mapping[str, Sequence[Region]]) -> dict[str, int]:
    """Return how many places each plane has."""
    return {plane: len(regions) for plane, regions in by_plane.items()}
