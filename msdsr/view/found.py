"""Which stores of a path are shown, in which order, and what is known of each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msdsr.errors import UserError
from msdsr.volume.store import VolumeSpec, open_group, read_spec

INPUTS = ("denoised", "raw")
"""Names of the acquired volume, the one that was restored first."""


@dataclass(frozen=True)
class Channel:
    """How a channel is shown: its colour (RRGGBB), black and white, and whether at first."""

    name: str
    colour: str
    low: float
    high: float
    active: bool


@dataclass(frozen=True)
class LabelShown:
    """A label image: its path below the store, and the colour and meaning of each value."""

    path: str
    name: str
    colours: dict[int, str]


@dataclass(frozen=True)
class Shown:
    """A store that is shown.

    Attributes
    ----------
    path
        Where it is.
    name
        What it is called in the viewer; no two are called the same.
    spec
        Shape, spacing and channels.
    channels
        How its channels are shown.
    labels
        The labels in it.
    """

    path: Path
    name: str
    spec: VolumeSpec
    channels: tuple[Channel, ...]
    labels: tuple[LabelShown, ...]

    @property
    def is_spread(self) -> bool:
        """Whether it holds standard deviations in place of intensities."""
        return self.path.name.endswith("_std.ome.zarr")


def find_shown(paths: Sequence[str | Path]) -> list[Shown]:
    """Return the stores of some paths, each with what a viewer has to know.

    Parameters
    ----------
    paths
        Stores, or folders of slides. Of a folder: the input, the restored volumes, the truth where
        the cohort keeps one, the standard deviations.

    Raises
    ------
    UserError
        When a path is neither, or a store is no OME-Zarr image with the axes c, z, y, x.
    """
    stores: list[Path] = []
    for path in map(Path, paths):
        found = [path] if _is_store(path) else _stores_of_slide(path)
        stores += [store for store in found if store not in stores]
    names = _names(stores)
    return [_read(store, name) for store, name in zip(stores, names, strict=True)]


def _is_store(path: Path) -> bool:
    return (path / "zarr.json").is_file() or (path / ".zgroup").is_file()


def _stores_of_slide(folder: Path) -> list[Path]:
    if not folder.exists():
        raise UserError(folder, "no such folder", "a store, or the folder of a slide")
    if not folder.is_dir():
        raise UserError(folder, "a file", "an OME-Zarr store, or the folder of a slide")
    found = sorted(p for p in folder.glob("*.ome.zarr") if _is_store(p))
    if not found:
        raise UserError(
            folder, "no OME-Zarr store in it", "results/<cohort>/slides/<slide>, or a store"
        )
    inputs = [p for name in INPUTS for p in found if p.name == f"{name}.ome.zarr"][:1]
    spreads = [p for p in found if p.name.endswith("_std.ome.zarr")]
    known = {f"{name}.ome.zarr" for name in INPUTS}
    restored = [p for p in found if p.name not in known and p not in spreads]
    kept = folder.resolve().parent.parent / "truth" / f"{folder.resolve().name}.ome.zarr"
    truth = [kept] if _is_store(kept) else []
    return [*inputs, *restored, *truth, *spreads]


def _names(stores: Sequence[Path]) -> list[str]:
    """Return names that differ: the store's own, with its folder where that is not enough."""
    short = [_short(store) for store in stores]
    if len(set(short)) == len(short):
        return short
    long = [
        f"{store.resolve().parent.name}/{name}" for store, name in zip(stores, short, strict=True)
    ]
    if len(set(long)) == len(long):
        return long
    return [f"{number} {name}" for number, name in enumerate(long, 1)]


def _short(store: Path) -> str:
    store = store.resolve()
    if store.parent.name == "truth":
        return "truth"
    return store.name.removesuffix(".zarr").removesuffix(".ome")


def _read(store: Path, name: str) -> Shown:
    spec = read_spec(store)
    attributes: dict[str, Any] = dict(open_group(store).attrs)
    ome = attributes.get("ome", attributes)
    channels = tuple(_channels(spec, ome.get("omero", {}).get("channels", [])))
    return Shown(store.resolve(), name, spec, channels, tuple(_labels(store)))


def _channels(spec: VolumeSpec, described: Sequence[dict[str, Any]]) -> Iterable[Channel]:
    known = len(described) == len(spec.channels)
    top = 1.0 if spec.dtype.kind == "f" else float(2 ** (8 * spec.dtype.itemsize) - 1)
    for number, label in enumerate(spec.channels):
        entry = described[number] if known else {}
        window = entry.get("window", {})
        low, high = float(window.get("start", 0.0)), float(window.get("end", top))
        yield Channel(
            label,
            _colour(str(entry.get("color", "FFFFFF"))),
            low,
            high if high > low else low + 1.0,
            bool(entry.get("active", True)),
        )


def _colour(text: str) -> str:
    text = text.lstrip("#")
    valid = len(text) == 6 and all(c in "0123456789abcdefABCDEF" for c in text)
    return f"#{text.upper()}" if valid else "#FFFFFF"


def _labels(store: Path) -> Iterable[LabelShown]:
    for name in _attributes(store / "labels").get("labels", []):
        image = _attributes(store / "labels" / str(name)).get("image-label", {})
        colours = {
            int(entry["label-value"]): "#{:02X}{:02X}{:02X}".format(*entry["rgba"][:3])
            for entry in image.get("colors", [])
            if entry.get("rgba") and int(entry["label-value"]) > 0
        }
        yield LabelShown(f"labels/{name}", str(name), colours)


def _attributes(group: Path) -> dict[str, Any]:
    """Return the OME attributes of a group of either version; none where there is no group."""
    for file, key in (("zarr.json", "attributes"), (".zattrs", None)):
        try:
            found = json.loads((group / file).read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError):
            continue
        attributes: dict[str, Any] = found.get(key, {}) if key else found
        ome = attributes.get("ome", attributes)
        return dict(ome)
    return {}
