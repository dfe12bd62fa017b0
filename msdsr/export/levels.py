"""A store's metadata without its finest levels, and as OME-Zarr 0.4."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from msdsr.errors import UserError

Document = dict[str, Any]
"""What a ``zarr.json`` holds."""


def read_document(path: Path) -> Document:
    """Return a ``zarr.json``.

    Raises
    ------
    UserError
        When there is none: the store is not of Zarr v3.
    """
    try:
        document: Document = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            path, "no zarr.json (OME-Zarr 0.4 or older)", "OME-Zarr 0.5", "export it with --tiff"
        ) from None
    return document


def ome_of(document: Document, path: Path) -> dict[str, Any]:
    """Return the ``ome`` attributes of a group.

    Raises
    ------
    UserError
        When it has none.
    """
    ome = document.get("attributes", {}).get("ome")
    if not isinstance(ome, dict):
        raise UserError(path, "no `ome` attributes", "OME-Zarr 0.5")
    return ome


def level_paths(ome: dict[str, Any], level: int, path: Path) -> list[str]:
    """Return the paths of the arrays from one level on.

    Raises
    ------
    UserError
        When the image has no such level.
    """
    paths = [str(dataset["path"]) for dataset in ome["multiscales"][0]["datasets"]]
    if not 0 <= level < len(paths):
        raise UserError(
            "--level", f"{level}, but {path} has {len(paths)}", f"0 to {len(paths) - 1}"
        )
    return paths[level:]


def level_spacing(ome: dict[str, Any], level: int) -> list[float]:
    """Return the scale of a level, a number for each axis."""
    for transform in ome["multiscales"][0]["datasets"][level]["coordinateTransformations"]:
        if transform["type"] == "scale":
            return [float(size) for size in transform["scale"]]
    return [1.0] * len(ome["multiscales"][0]["axes"])


def without_finest(document: Document, level: int) -> Document:
    """Return a group's document without the first levels of its image.

    The levels that stay are named from 0 again. Their scales and translations are left alone, so
    that they lie where they lay.
    """
    cut = copy.deepcopy(document)
    cut.pop("consolidated_metadata", None)
    for multiscale in cut["attributes"]["ome"]["multiscales"]:
        multiscale["datasets"] = multiscale["datasets"][level:]
        for number, dataset in enumerate(multiscale["datasets"]):
            dataset["path"] = str(number)
    return cut


def image_attributes_04(ome: dict[str, Any], level: int) -> dict[str, Any]:
    """Return the attributes of an image as OME-NGFF 0.4 has them, checked with ome-zarr-models."""
    # Imported late: every verb starts a process, and few need what this drags in.
    from ome_zarr_models.v04.image import ImageAttrs

    attributes: dict[str, Any] = {"multiscales": _multiscales_04(ome, level)}
    if "omero" in ome:
        attributes["omero"] = ome["omero"]
    checked = ImageAttrs.model_validate(attributes)
    return checked.model_dump(mode="json", exclude_none=True)


def label_attributes_04(ome: dict[str, Any], level: int) -> dict[str, Any]:
    """Return the attributes of a label image as OME-NGFF 0.4 has them."""
    from ome_zarr_models.v04.image_label import ImageLabelAttrs

    meaning = {**ome["image-label"], "version": "0.4"}
    attributes = {"multiscales": _multiscales_04(ome, level), "image-label": meaning}
    checked = ImageLabelAttrs.model_validate(attributes)
    return checked.model_dump(mode="json", exclude_none=True, by_alias=True)


def _multiscales_04(ome: dict[str, Any], level: int) -> list[dict[str, Any]]:
    multiscales = copy.deepcopy(ome["multiscales"])
    for multiscale in multiscales:
        multiscale["version"] = "0.4"
        multiscale["datasets"] = multiscale["datasets"][level:]
        for number, dataset in enumerate(multiscale["datasets"]):
            dataset["path"] = str(number)
    return list(multiscales)
