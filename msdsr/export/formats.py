"""The forms that a product can be exported in."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from msdsr.errors import UserError

Tick = Callable[[int], None]
"""Told how many more bytes of the source have been dealt with."""

BLOCK_BYTES = 1 << 26
"""Most voxels held at a time, uncompressed; a single chunk, or a row of tiles, may be more."""


class Format(StrEnum):
    """What an image is turned into."""

    OZX = "ozx"
    ZARR_05 = "ome-zarr-0.5"
    ZARR_04 = "ome-zarr-0.4"
    TIFF = "tiff"

    @property
    def ending(self) -> str:
        """The ending of an exported image's name."""
        return {Format.OZX: ".ozx", Format.TIFF: ".ome.tif"}.get(self, ".ome.zarr")

    @property
    def endings(self) -> tuple[str, ...]:
        """Endings by which a target is known to be the image itself, and not a folder for it."""
        if self is Format.OZX:
            return (".ozx",)
        return (".tif", ".tiff") if self is Format.TIFF else (".zarr",)

    @property
    def keeps_files(self) -> bool:
        """Whether the files of a store are passed on as they are, without decoding a voxel."""
        return self in (Format.OZX, Format.ZARR_05)


VERSIONS = {"0.4": Format.ZARR_04, "0.5": Format.ZARR_05}


def choose_format(ozx: bool, tiff: bool, version: str | None) -> Format:
    """Return the form that the options of the command line ask for.

    Raises
    ------
    UserError
        When they ask for none, or for two that exclude each other.
    """
    if version is not None and version not in VERSIONS:
        raise UserError("--ome-zarr-version", repr(version), " or ".join(VERSIONS))
    if ozx and version == "0.4":
        raise UserError(
            "--ozx",
            "given with --ome-zarr-version 0.4",
            "0.5: a single-file OME-Zarr has a zarr.json at its root (RFC-9)",
            "leave one of them out",
        )
    if tiff and (ozx or version is not None):
        other = "--ozx" if ozx else "--ome-zarr-version"
        raise UserError("--tiff", f"given with {other}", "one form", "leave one of them out")
    if tiff:
        return Format.TIFF
    if ozx:
        return Format.OZX
    if version is None:
        raise UserError(
            "export", "no form named", "--ozx, --tiff, or --ome-zarr-version 0.4 or 0.5"
        )
    return VERSIONS[version]


def image_name(store_name: str, how: Format) -> str:
    """Return the name of an exported image: ``raw.ome.zarr`` → ``raw.ozx``."""
    return store_name.removesuffix(".zarr").removesuffix(".ome") + how.ending
