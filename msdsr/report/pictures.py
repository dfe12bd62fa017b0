"""Slices of a slide as a reader sees them: the same place, by every method."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from msdsr.volume import acquired_rows, keep_every, open_volume, output_planes, read_spec
from msdsr.volume.colour import Window, to_rgb8
from msdsr.volume.interpolate import interpolate

FIELD = 128
"""Side of the field that is shown (pixels): each voxel is a square of 2 × 2 on the page."""

SCALE_BARS_UM = (1, 2, 5, 10, 20, 50, 100, 200, 500)
SHOWN = {"nearest": "acquired planes, repeated", "linear": "linear", "truth": "truth"}


@dataclass(frozen=True)
class Picture:
    """One slice by one method."""

    method: str
    view: str
    rgb: NDArray[np.uint8]
    alt: str

    def webp(self) -> bytes:
        """Return the picture as a WebP file, voxel for voxel."""
        return webp(Image.fromarray(self.rgb), lossless=True, quality=60)


@dataclass(frozen=True)
class View:
    """One slice, by every method."""

    plane: str
    caption: str
    pictures: tuple[Picture, ...]
    aspect: float
    bar_um: int
    bar_part: float
    planes: int
    factor: int


@dataclass(frozen=True)
class Plate:
    """The pictures of one slide at one factor."""

    factor: int
    columns: tuple[str, ...]
    views: tuple[View, ...]


def scale_bar(width_um: float) -> int:
    """Return the length (µm) of a bar that is at most a third of the width."""
    fitting = [bar for bar in SCALE_BARS_UM if bar <= width_um / 3]
    return fitting[-1] if fitting else SCALE_BARS_UM[0]


def busiest_field(plane: NDArray[Any], side: int) -> tuple[int, int, int, int]:
    """Return y0, y1, x0, x1 of the square field with the most contrast.

    Parameters
    ----------
    plane
        One plane (rows, columns).
    side
        Side of the field; cut to what the plane has.
    """
    height, width = (min(side, n) for n in plane.shape)
    starts = [
        sorted({*range(0, n - extent, max(1, extent // 2)), n - extent})
        for n, extent in zip(plane.shape, (height, width), strict=True)
    ]
    places = [(y, x) for y in starts[0] for x in starts[1]]
    y, x = max(places, key=lambda p: float(plane[p[0] : p[0] + height, p[1] : p[1] + width].std()))
    return y, y + height, x, x + width


def draw_plate(
    acquired: Path,
    restored: Mapping[str, Path],
    truth: Path | None,
    factor: int,
    window: Window,
    slide: str,
) -> Plate:
    """Cut a generated XY plane, and the XZ and YZ slices through its middle.

    Parameters
    ----------
    acquired
        The volume that was restored.
    restored
        Store of each method at this factor.
    truth
        Store of the isotropic truth, if there is one.
    factor
        The super-resolution factor.
    window
        Intensities shown as black and as full colour, the same in every picture.
    slide
        Its name, for the alternative texts.
    """
    spec = read_spec(acquired)
    keep = keep_every(factor, spec.voxel)
    voxels = open_volume(acquired).data[:, ::keep]
    middle = voxels.shape[1] // 2
    y0, y1, x0, x1 = busiest_field(np.asarray(voxels[:, middle]).mean(axis=0), FIELD)
    field = np.asarray(voxels[:, :, y0:y1, x0:x1])
    planes = output_planes(field.shape[1], factor)
    spacing = spec.voxel.z * keep / factor
    volumes: dict[str, NDArray[Any]] = {
        "nearest": interpolate(field, factor, "nearest"),
        "linear": interpolate(field, factor, "linear"),
    }
    for name, path in restored.items():
        volumes[name] = np.asarray(open_volume(path).data[:, :, y0:y1, x0:x1])
    if truth is not None:
        true = open_volume(truth)
        step = max(1, round(spacing / true.attrs["voxel_um"][0]))
        volumes["truth"] = np.asarray(true.data[:, : (planes - 1) * step + 1 : step, y0:y1, x0:x1])
    rgb = {name: to_rgb8(v, spec.channels, window) for name, v in volumes.items()}
    z = int(acquired_rows(field.shape[1], factor)[max(0, field.shape[1] // 2 - 1)]) + factor // 2
    y, x = field.shape[2] // 2, field.shape[3] // 2
    um = spec.voxel
    cuts = {
        "XY": (
            f"XY, generated plane {z + 1} of {planes} (z = {z * spacing:.1f} µm)",
            (slice(None), z, slice(None), slice(None)),
            (um.y, um.x),
        ),
        "XZ": (
            f"XZ, through y = {(y0 + y) * um.y:.1f} µm",
            (slice(None), slice(None), y, slice(None)),
            (spacing, um.x),
        ),
        "YZ": (
            f"YZ, through x = {(x0 + x) * um.x:.1f} µm",
            (slice(None), slice(None), slice(None), x),
            (spacing, um.y),
        ),
    }
    views = [
        _view(plane, caption, cut, pixel, rgb, planes, factor, slide)
        for plane, (caption, cut, pixel) in cuts.items()
    ]
    return Plate(factor, tuple(SHOWN.get(name, name) for name in rgb), tuple(views))


def _view(
    plane: str,
    caption: str,
    cut: tuple[Any, ...],
    pixel_um: tuple[float, float],
    rgb: Mapping[str, NDArray[np.uint8]],
    planes: int,
    factor: int,
    slide: str,
) -> View:
    pictures = tuple(
        Picture(
            name,
            plane,
            np.ascontiguousarray(np.moveaxis(volume[cut], 0, -1)),
            f"Slide {slide}, {factor}×, {caption}: {SHOWN.get(name, name)}",
        )
        for name, volume in rgb.items()
    )
    height, width = (n * um for n, um in zip(pictures[0].rgb.shape, pixel_um, strict=False))
    bar = scale_bar(width)
    return View(plane, caption, pictures, width / height, bar, bar / width, planes, factor)


def webp(picture: Image.Image, **settings: Any) -> bytes:
    """Return a picture as a WebP file."""
    with io.BytesIO() as buffer:
        picture.save(buffer, format="WEBP", method=4, **settings)
        return buffer.getvalue()


def choose(slides: Sequence[str], most: int) -> list[int]:
    """Return which slides get pictures: all, or evenly spread over the list."""
    if len(slides) <= most:
        return list(range(len(slides)))
    return sorted({int(i) for i in np.linspace(0, len(slides) - 1, most).round()}) if most else []
