"""A slide's own page: a field of it, all planes, by every method, to scroll and to cut."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msdsr.report.pages import render, script, script_json
from msdsr.report.pictures import busiest_field
from msdsr.report.sprites import make_sprites, quantise
from msdsr.volume import Region, VolumeSpec, keep_every, open_volume, output_planes, read_spec
from msdsr.volume.colour import (
    EOSIN,
    HAEMATOXYLIN,
    SRH_OFFSET,
    STAIN_DEPTH,
    Window,
    full_scale,
    is_srh,
)
from msdsr.volume.pyramid import pyramid_steps

MOST_BYTES = 16_000_000
"""Voxels × channels that one page holds: with base64 it stays under 25 MB even if no sheet can be
made any smaller."""

COARSE = 1024
CLIPPED = 0.0005
COMPUTED = ("nearest", "linear")
"""Methods that the page computes from the acquired planes, whether or not they are stored."""

SPREAD_QUANTILE = 0.999


@dataclass(frozen=True)
class Volumes:
    """What of a slide is shown: the same field of every store.

    Parameters
    ----------
    acquired
        The volume that was restored.
    restored
        From a factor to the store of each method at it.
    spread
        From a factor to the store of each method's standard deviation, where there is one.
    truth
        Store of the isotropic truth, if there is one.
    """

    acquired: Path
    restored: Mapping[int, Mapping[str, Path]]
    spread: Mapping[int, Mapping[str, Path]]
    truth: Path | None

    def without(self, methods: Sequence[str]) -> Volumes:
        """Return the same without some methods."""

        def rest(
            of: Mapping[int, Mapping[str, Path]],
        ) -> dict[int, dict[str, Path]]:
            return {f: {m: p for m, p in s.items() if m not in methods} for f, s in of.items()}

        return Volumes(self.acquired, rest(self.restored), rest(self.spread), self.truth)


@dataclass(frozen=True)
class SlidePage:
    """A slide's page, and the field of the slide that it shows."""

    html: str
    rows: range
    columns: range

    def shows(self, y: int, x: int) -> bool:
        """Tell whether a pixel of the slide lies in the field."""
        return y in self.rows and x in self.columns


@dataclass(frozen=True)
class Neighbours:
    """The pages before and after this one: (slide, file), or None at either end."""

    before: tuple[str, str] | None
    after: tuple[str, str] | None


def slide_page(
    volumes: Volumes,
    window: Window,
    side: int,
    *,
    cohort: str,
    title: str,
    slide: str,
    patient: str,
    notes: str,
    neighbours: Neighbours,
    centre: tuple[int, int] | None = None,
) -> SlidePage:
    """Return the page of one slide, which needs nothing beside it.

    Parameters
    ----------
    volumes
        Where the slide's voxels are; only the field is read.
    window
        Intensities shown as black and as full colour until the reader changes them.
    side
        Side of the field (pixels); a page that would grow too big gets a smaller one.
    cohort, title, slide, patient, notes, neighbours
        What stands around the viewer.
    centre
        Middle of the field (row and column of the slide); left out, the field is where the tissue
        has most contrast.

    Raises
    ------
    UserError
        When a volume is missing.
    """
    data = slide_data(volumes, window, side, centre) | {"slide": slide}
    html = render(
        "slide.html.j2",
        cohort=cohort,
        title=title,
        slide=slide,
        patient=patient,
        notes=notes,
        neighbours=neighbours,
        data=data,
        spot=centre is not None,
        page="",
        root="../",
        json=script_json(data),
        script=script("viewer-volumes.js", "viewer-drawing.js", "viewer-page.js"),
    )
    rows, columns = (
        range(data[k], data[k] + data[n]) for k, n in (("y0", "rows"), ("x0", "columns"))
    )
    return SlidePage(html, rows, columns)


def slide_data(
    volumes: Volumes, window: Window, side: int, centre: tuple[int, int] | None = None
) -> dict[str, Any]:
    """Return what the viewer shows, as it is written into the page.

    No volume is stored that can be had from another: the viewer repeats and interpolates the
    acquired planes itself, cuts XZ and YZ out of the XY planes, and takes differences.
    """
    spec = read_spec(volumes.acquired)
    volumes = volumes.without(COMPUTED)
    truth = None if volumes.truth is None else _Truth.of(volumes.truth, spec, volumes.restored)
    side = min(side, largest_side(stored_planes(spec, volumes, truth), spec.shape[0]))
    field = (
        field_around(spec, side, centre) if centre else tissue_field(volumes.acquired, spec, side)
    )
    acquired = _read(volumes.acquired, field)
    black, white = channel_windows(window, spec.channels)
    low, high = _range(acquired, black, white)
    factors = []
    for factor, stores in sorted(volumes.restored.items()):
        keep = keep_every(factor, spec.voxel)
        planes = output_planes(len(range(0, spec.shape[1], keep)), factor)
        spreads = volumes.spread.get(factor, {})
        factors.append(
            {
                "factor": factor,
                "keep": keep,
                "planes": planes,
                "z_um": spec.voxel.z * keep / factor,
                "truth_step": truth.step_at(factor) if truth else 0,
                "methods": [
                    {
                        "name": name,
                        "stack": _stack(_read(path, field), low, high),
                        "spread": _spread(spreads.get(name), field),
                    }
                    for name, path in stores.items()
                ],
            }
        )
    return {
        "rows": field.y1 - field.y0,
        "columns": field.x1 - field.x0,
        "y0": field.y0,
        "x0": field.x0,
        "slide_rows": spec.shape[2],
        "slide_columns": spec.shape[3],
        "um": [spec.voxel.y, spec.voxel.x],
        "channels": [
            {"name": n, "low": a, "high": b, "black": c, "white": d}
            for n, a, b, c, d in zip(
                spec.channels, low.tolist(), high.tolist(), black, white, strict=True
            )
        ],
        "srh": _srh(spec, window),
        "acquired": _stack(acquired, low, high),
        "truth": None if truth is None else _stack(truth.read(field), low, high),
        "factors": factors,
    }


@dataclass(frozen=True)
class _Truth:
    """The planes of the truth that are shown: every ``stride``-th, up to the deepest output."""

    path: Path
    steps: Mapping[int, int]
    stride: int
    planes: int

    @classmethod
    def of(
        cls, path: Path, acquired: VolumeSpec, restored: Mapping[int, Mapping[str, Path]]
    ) -> _Truth | None:
        spec = read_spec(path)
        steps, depth = {}, 0
        for factor in restored:
            keep = keep_every(factor, acquired.voxel)
            step = max(1, round(acquired.voxel.z * keep / factor / spec.voxel.z))
            planes = output_planes(len(range(0, acquired.shape[1], keep)), factor)
            steps[factor] = step
            depth = max(depth, (planes - 1) * step + 1)
        stride = math.gcd(*steps.values()) if steps else 1
        planes = len(range(0, min(depth, spec.shape[1]), stride))
        return cls(path, steps, stride, planes) if planes else None

    def step_at(self, factor: int) -> int:
        return self.steps[factor] // self.stride

    def read(self, field: Region) -> NDArray[Any]:
        data = open_volume(self.path).data[:, :: self.stride][:, : self.planes]
        return np.asarray(data[:, :, field.y0 : field.y1, field.x0 : field.x1])


def stored_planes(spec: VolumeSpec, volumes: Volumes, truth: _Truth | None) -> int:
    """Return how many planes a page holds, all its volumes together."""
    planes = spec.shape[1] + (truth.planes if truth else 0)
    for factor, stores in volumes.restored.items():
        keep = keep_every(factor, spec.voxel)
        each = output_planes(len(range(0, spec.shape[1], keep)), factor)
        planes += each * (len(stores) + len(volumes.spread.get(factor, {})))
    return planes


def largest_side(planes: int, channels: int) -> int:
    """Return the largest side of a field (pixels) whose page stays small enough to send."""
    return max(1, math.isqrt(MOST_BYTES // (planes * channels)))


def tissue_field(acquired: Path, spec: VolumeSpec, side: int) -> Region:
    """Return the field with most contrast, found on a level of the pyramid that is small enough."""
    steps = pyramid_steps(spec.shape[1:], spec.voxel)
    sides = [max(spec.shape[2] // y, spec.shape[3] // x) for _, y, x in steps]
    level = next((i for i, longest in enumerate(sides) if longest <= COARSE), len(steps) - 1)
    _, step, _ = steps[level]
    voxels = open_volume(acquired, level).data
    plane = np.asarray(voxels[:, voxels.shape[1] // 2]).mean(axis=0)
    y, _, x, _ = busiest_field(plane, max(1, side // step))
    rows, columns = (min(side, n) for n in spec.shape[2:])
    y, x = min(y * step, spec.shape[2] - rows), min(x * step, spec.shape[3] - columns)
    return Region(0, spec.shape[1], y, y + rows, x, x + columns)


def field_around(spec: VolumeSpec, side: int, centre: tuple[int, int]) -> Region:
    """Return the field with a pixel in its middle, or as near to it as the slide's edge lets it."""
    rows, columns = (min(side, n) for n in spec.shape[2:])
    y = min(max(centre[0] - rows // 2, 0), spec.shape[2] - rows)
    x = min(max(centre[1] - columns // 2, 0), spec.shape[3] - columns)
    return Region(0, spec.shape[1], y, y + rows, x, x + columns)


def channel_windows(window: Window, channels: Sequence[str]) -> tuple[list[float], list[float]]:
    """Return what is black and what is white in each channel, from a window of colours."""
    places = {1: (0,), 2: (0, 1)}.get(len(channels), (0, 1, 2))
    if is_srh(channels):
        # Red is the derived channel; green and blue are the two that were acquired.
        places = tuple(1 if name == "CH2" else 2 for name in channels)
    # A composite shows three channels at most: the others get the third one's window.
    places += places[-1:] * (len(channels) - len(places))
    return [window.low[i] for i in places], [window.high[i] for i in places]


def _range(
    acquired_CZYX: NDArray[Any], black: Sequence[float], white: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the intensities that become 0 and 255: the window, and nearly all of the field."""
    flat = acquired_CZYX.reshape(len(acquired_CZYX), -1).astype(np.float32)
    limits = np.quantile(flat, (CLIPPED, 1 - CLIPPED), axis=1)
    return np.minimum(limits[0], black), np.maximum(limits[1], white)


def _read(path: Path, field: Region) -> NDArray[Any]:
    data = open_volume(path).data
    return np.asarray(data[:, :, field.y0 : field.y1, field.x0 : field.x1])


def _stack(raw_CZYX: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> dict[str, Any]:
    return make_sprites(quantise(raw_CZYX, low, high)).as_json()


def _spread(path: Path | None, field: Region) -> dict[str, Any] | None:
    """Return a standard deviation as sheets, 255 for what all but a thousandth stay below."""
    if path is None:
        return None
    raw = _read(path, field)
    flat = raw.reshape(len(raw), -1).astype(np.float32)
    high = np.quantile(flat, SPREAD_QUANTILE, axis=1)
    high[high <= 0] = 1.0
    return {"high": high.tolist(), "stack": _stack(raw, np.zeros_like(high), high)}


def _srh(spec: VolumeSpec, window: Window) -> dict[str, Any] | None:
    if not is_srh(spec.channels):
        return None
    return {
        "ch2": spec.channels.index("CH2"),
        "ch3": spec.channels.index("CH3"),
        "offset": SRH_OFFSET * full_scale(spec.dtype),
        "black": window.low[0],
        "white": window.high[0],
        "haematoxylin": [v * STAIN_DEPTH[0] for v in HAEMATOXYLIN],
        "eosin": [v * STAIN_DEPTH[1] for v in EOSIN],
    }
