"""What the command line understands: settings, spacings, pairs, and the folders of a cohort."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import yaml
from pydantic import ValidationError

from msdsr.config import Config, Section
from msdsr.configfile import explain
from msdsr.errors import UserError
from msdsr.failures import Failure, failures_path, read_failures
from msdsr.manifest import manifest_path
from msdsr.sheet import read_sheet
from msdsr.volume import VoxelSize, auto_factor
from msdsr.volume.geometry import FACTORS

S = TypeVar("S", bound=Section)


def parse_settings(model: type[S], text: str, where: str = "--settings") -> S:
    """Read a section of the configuration from JSON text or ``@file``.

    Raises
    ------
    UserError
        When it cannot be parsed, or a key or a value is not known.
    """
    try:
        if text.startswith("@"):
            where = text[1:]
            text = Path(where).read_text(encoding="utf-8")
        values = yaml.safe_load(text) or {}
    except FileNotFoundError:
        raise UserError(where, "no such file", "a YAML file of settings") from None
    except yaml.YAMLError as error:
        raise UserError(where, f"not YAML ({' '.join(str(error).split())})", "settings") from None
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise explain(where, error, model) from None


def parse_voxel(text: str) -> VoxelSize:
    """Read ``z,y,x`` in micrometres."""
    try:
        z, y, x = (float(part) for part in text.split(","))
        return VoxelSize(z, y, x)
    except ValueError:
        raise UserError(
            "--voxel-um", repr(text), "three spacings z,y,x above 0 in µm", "for example 1,0.5,0.5"
        ) from None


def parse_factor(text: str) -> int | Literal["auto"]:
    """Read a factor along z, or ``auto``."""
    if text == "auto":
        return "auto"
    low, high = FACTORS
    if not text.isdecimal() or not low <= int(text) <= high:
        raise UserError("--factor", repr(text), f"a whole number from {low} to {high}, or auto")
    return int(text)


def parse_side(option: str, text: str) -> int | Literal["whole"]:
    """Read the side of a square (pixels), or ``whole``."""
    if text == "whole":
        return "whole"
    if not text.isdecimal() or int(text) == 0:
        raise UserError(option, repr(text), "a side in pixels, or whole")
    return int(text)


def parse_pairs(option: str, pairs: Iterable[str]) -> dict[str, Path]:
    """Read repeated ``NAME=PATH`` options."""
    parsed = {}
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not equals or not name or not path:
            raise UserError(option, repr(pair), "NAME=PATH")
        parsed[name] = Path(path)
    return parsed


def parse_planes(option: str, text: str) -> tuple[int, ...]:
    """Read numbers of planes with commas between; none when the text is empty."""
    try:
        planes = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        planes = (-1,)
    if any(plane < 0 for plane in planes):
        raise UserError(option, repr(text), "numbers of planes, from 0, commas between")
    return planes


def factors_of(config: Config, sheet: str | Path) -> list[int]:
    """Return a configuration's factors as numbers, ``auto`` as the sheet's slides ask for."""
    asked = set(config.superresolve.factors)
    rows = read_sheet(sheet, check_files=False).to_dict("records")
    infer = [row for row in rows if row["split"] == "infer"] if "auto" in asked else []
    found = {
        auto_factor(VoxelSize(row["z_um"], row["y_um"], row["x_um"]), f"{sheet}: {row['slide']}")
        for row in infer
    }
    return sorted({factor for factor in asked if factor != "auto"} | found)


@dataclass(frozen=True)
class SlideFiles:
    """One row of a sample sheet, and where the workflow keeps what it makes of it."""

    slide: str
    patient: str
    split: str
    channels: tuple[str, ...]
    truth: Path | None
    notes: str
    folder: Path
    label: str = ""

    @property
    def volume(self) -> Path:
        """The denoised store."""
        return self.folder / "denoised.ome.zarr"

    @property
    def patches(self) -> Path:
        """The patch table."""
        return self.folder / "patches.parquet"

    @property
    def images(self) -> Path:
        """The store of the slide's training images."""
        return self.folder / "images.zarr"

    def restored(self, method: str, factor: int) -> Path:
        """Return the store of a method at a factor."""
        return self.folder / f"{method}_{factor}x.ome.zarr"

    def all_restored(self) -> dict[int, dict[str, Path]]:
        """Return every superresolved store that is there: by factor, then by method."""
        return self._stores("x.ome.zarr")

    def all_spreads(self) -> dict[int, dict[str, Path]]:
        """Return every standard deviation that is there: by factor, then by method."""
        return self._stores("x_std.ome.zarr")

    def _stores(self, ending: str) -> dict[int, dict[str, Path]]:
        found: dict[int, dict[str, Path]] = {}
        for store in sorted(self.folder.glob(f"*_*{ending}")):
            method, _, factor = store.name.removesuffix(ending).rpartition("_")
            if factor.isdigit():
                found.setdefault(int(factor), {})[method] = store
        return found

    def metrics(self, factor: int) -> Path:
        """Return the folder of the slide's metrics at a factor."""
        return self.folder / f"metrics_{factor}x"


def cohort_slides(
    cohort: str,
    sheet: Path,
    results: Path,
    splits: Iterable[str] = ("train", "val", "infer"),
    *,
    without: Iterable[str] = (),
) -> list[SlideFiles]:
    """Return the slides of a cohort, of some splits, in the sheet's order, without some."""
    wanted, left_out = set(splits), set(without)
    rows = read_sheet(sheet, check_files=False)
    return [
        SlideFiles(
            row["slide"],
            row["patient"],
            row["split"],
            row["channels"],
            Path(row["truth"]) if row["truth"] else None,
            row["notes"],
            results / cohort / "slides" / row["slide"],
            row["class"],
        )
        for row in rows.to_dict("records")
        if row["split"] in wanted and row["slide"] not in left_out
    ]


def failed_slides(cohort: str, results: Path, asked: bool) -> list[Failure]:
    """Return the slides of a cohort that failed, where ``--without-failed`` asks for them."""
    return read_failures(failures_path(results, cohort)) if asked else []


def cohort_manifests(
    slides: Iterable[SlideFiles], metrics: Path, curves: Iterable[Path]
) -> list[Path]:
    """Return the manifests of everything a cohort's report speaks of.

    Parameters
    ----------
    slides
        The cohort's slides.
    metrics
        Its merged metrics; the reference stands beside them.
    curves
        ``…/<model>/model/metrics.jsonl`` of its models.
    """
    found = [path for files in slides for path in sorted(files.folder.glob("*.json"))]
    found += [manifest_path(metrics), manifest_path(metrics.with_name("reference.npz"))]
    for curve in curves:
        found += [manifest_path(curve.parent), manifest_path(curve.parent.with_name("trainset"))]
    return [path for path in found if path.exists()]
