"""The command that opens the same stores in napari."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from msdsr.view.found import Shown


def napari_command(stores: Sequence[Shown]) -> str:
    """Return a line for a shell; napari and its plug-in napari-ome-zarr are not ours to install."""
    paths = " ".join(shlex.quote(str(store.path)) for store in stores)
    return f"napari --plugin napari-ome-zarr {paths}"
