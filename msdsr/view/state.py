"""What neuroglancer shows: a layer for each channel and each label, panels, spacing in metres."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msdsr.view.found import Channel, LabelShown, Shown

MICROMETRE = 1e-6
MOST_PANELS = 4
"""Stores that stand side by side at first; all others are in the list of layers."""

SHADER = """#uicontrol invlerp contrast
#uicontrol vec3 color color
void main() {
  emitRGB(color * contrast());
}
"""

State = dict[str, Any]


def viewer_state(stores: Sequence[Shown], urls: Sequence[str]) -> State:
    """Return the state of the viewer as neuroglancer's JSON.

    Parameters
    ----------
    stores
        What is shown.
    urls
        Where the browser gets each of them.

    Returns
    -------
    dict
        Positions are in voxels of the finest spacing of all stores. One store fills the window with
        its three planes; of several, up to four stand side by side, XY above XZ.
    """
    spacing = [min(getattr(s.spec.voxel, axis) for s in stores) for axis in "xyz"]
    first = stores[0].spec
    extent = (first.shape[3] * first.voxel.x, first.shape[2] * first.voxel.y)
    depth = first.shape[1] * first.voxel.z
    centre = [size / 2 / step for size, step in zip((*extent, depth), spacing, strict=True)]
    layers: list[State] = []
    names: list[list[str]] = []
    shown = stores[:MOST_PANELS]
    for store, url in zip(stores, urls, strict=True):
        own = [_channel_layer(store, url, number, c) for number, c in enumerate(store.channels)]
        labels = [_label_layer(store, url, label) for label in store.labels]
        for layer in own if store not in shown else []:
            layer["visible"] = False
        layers += [*own, *labels]
        names.append([layer["name"] for layer in [*own, *labels]])
    return {
        "dimensions": {
            axis: [step * MICROMETRE, "m"] for axis, step in zip("xyz", spacing, strict=True)
        },
        "position": centre,
        "crossSectionScale": max(extent) / spacing[0] / 600,
        "projectionScale": max(extent) / spacing[0] * 2,
        "layers": layers,
        "layout": _layout(names[: len(shown)]),
        "showDefaultAnnotations": False,
    }


def _channel_layer(store: Shown, url: str, number: int, channel: Channel) -> State:
    margin = channel.high - channel.low
    return {
        "type": "image",
        "name": f"{store.name} {channel.name}",
        "source": url,
        # neuroglancer calls an axis that is not space by its name and a prime.
        "localDimensions": {"c'": [1, ""]},
        "localPosition": [number],
        "blend": "additive",
        "opacity": 1,
        "shader": SHADER,
        "shaderControls": {
            "contrast": {
                "range": [channel.low, channel.high],
                "window": [min(0.0, channel.low), channel.high + margin],
            },
            "color": channel.colour,
        },
        "visible": channel.active,
    }


def _label_layer(store: Shown, url: str, label: LabelShown) -> State:
    return {
        "type": "segmentation",
        "name": f"{store.name} {label.name}",
        "source": f"{url}{label.path}/",
        "segments": [str(value) for value in label.colours],
        "segmentColors": {str(value): colour for value, colour in label.colours.items()},
        "selectedAlpha": 0.35,
        "visible": False,
    }


def _layout(names: Sequence[Sequence[str]]) -> str | State:
    if len(names) == 1:
        return "4panel"
    rows = [
        {
            "type": "row",
            "children": [
                {"type": "viewer", "layers": list(layers), "layout": plane} for layers in names
            ],
        }
        for plane in ("xy", "xz")
    ]
    return {"type": "column", "children": rows}
