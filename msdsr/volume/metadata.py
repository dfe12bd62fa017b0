"""OME-Zarr 0.5 metadata: built and checked with ome-zarr-models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ome_zarr_models.common.omero import Channel, Omero, Window
from ome_zarr_models.v05.axes import Axis
from ome_zarr_models.v05.image import ImageAttrs
from ome_zarr_models.v05.image_label import ImageLabelAttrs
from ome_zarr_models.v05.labels import LabelsAttrs
from ome_zarr_models.v05.multiscales import Dataset, Multiscale

from msdsr.volume.geometry import VoxelSize

if TYPE_CHECKING:
    from msdsr.volume.labels import Label

COLOURS = ("FF00FF", "00FF00", "00FFFF", "FFFF00", "FF0000", "0000FF", "FFFFFF", "FF8000")


def ome_attributes(
    name: str,
    voxel: VoxelSize,
    steps: Sequence[tuple[int, int, int]],
    channels: Sequence[str],
    windows: Sequence[tuple[float, float]],
) -> dict[str, Any]:
    """Return the ``ome`` attributes of a multiscale image (OME-NGFF 0.5, multiscales and omero).

    Parameters
    ----------
    name
        Name of the image.
    voxel
        Spacing of level 0 (µm).
    steps
        For each level, how many voxels of level 0 one of its voxels spans in z, y, x. The
        translation of a level is (step − 1)/2 voxels of level 0, the centre of what it averages.
    channels
        Channel names.
    windows
        For each channel, the intensities a viewer should show as black and as white.
    """
    multiscale = _multiscale(name, voxel, steps, "mean", channels=True)
    attributes = ImageAttrs(version="0.5", multiscales=[multiscale])
    omero = Omero(
        channels=[
            Channel.model_validate(
                {
                    "color": COLOURS[i % len(COLOURS)] if len(channels) > 1 else "FFFFFF",
                    "label": label,
                    "active": i < 3,
                    "window": Window(min=low, max=high, start=low, end=high),
                }
            )
            for i, (label, (low, high)) in enumerate(zip(channels, windows, strict=True))
        ]
    )
    return {
        **attributes.model_dump(mode="json", exclude_none=True),
        "omero": omero.model_dump(mode="json", exclude_none=True),
    }


def _multiscale(
    name: str, voxel: VoxelSize, steps: Sequence[tuple[int, int, int]], how: str, *, channels: bool
) -> Multiscale:
    """Return the levels of an image with the axes (c,) z, y, x."""
    axes = [Axis(name="c", type="channel")] if channels else []
    axes += [Axis(name=a, type="space", unit="micrometer") for a in "zyx"]
    scale, translation = ([1.0], [0.0]) if channels else ([], [])
    datasets = [
        Dataset.build(
            path=str(level),
            scale=scale + [s * v for s, v in zip(step, voxel.zyx, strict=True)],
            translation=translation
            + [(s - 1) / 2 * v for s, v in zip(step, voxel.zyx, strict=True)],
        )
        for level, step in enumerate(steps)
    ]
    return Multiscale(axes=tuple(axes), datasets=tuple(datasets), name=name, type=how)


def labels_attributes(names: Sequence[str]) -> dict[str, Any]:
    """Return the ``ome`` attributes of the group that holds labels."""
    attributes = LabelsAttrs(version="0.5", labels=list(names))
    return attributes.model_dump(mode="json", exclude_none=True)


def label_attributes(
    label: Label, voxel: VoxelSize, steps: Sequence[tuple[int, int, int]]
) -> dict[str, Any]:
    """Return the ``ome`` attributes of one label image, with the meaning of every value.

    Parameters
    ----------
    label
        Its name and values.
    voxel, steps
        Those of the volume it belongs to; see `ome_attributes`.
    """
    image_label = {
        "version": "0.5",
        "colors": [{"label-value": v.number, "rgba": list(v.rgba)} for v in label.values],
        "properties": [{"label-value": v.number, "meaning": v.meaning} for v in label.values],
        "source": {"image": "../../"},
    }
    attributes = ImageLabelAttrs.model_validate(
        {
            "version": "0.5",
            "multiscales": [_multiscale(label.name, voxel, steps, "maximum", channels=False)],
            "image-label": image_label,
        }
    )
    return attributes.model_dump(mode="json", exclude_none=True, by_alias=True)
