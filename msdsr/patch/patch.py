"""The patch stage: a grid over the slide, each patch with its share of tissue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from msdsr.config import PatchConfig
from msdsr.manifest import Manifest, Stopwatch, identity, write_manifest
from msdsr.patch.tissue import SEPARABILITY, projection, tissue_mask
from msdsr.volume import open_volume

ALGORITHM = 1


def patch(volume: str | Path, out: str | Path, *, settings: PatchConfig) -> Manifest:
    """Lay the patch grid over a slide and write it as a parquet table.

    Parameters
    ----------
    volume
        The ingested store.
    out
        The table: ``slide``, ``index``, ``y0``, ``x0``, ``height``, ``width`` (pixels),
        ``tissue_fraction`` (0 to 1), ``background`` (less tissue than the least wanted).
    settings
        Side of a patch, smoothing (µm), least tissue.

    Raises
    ------
    UserError
        When there is no such volume.
    """
    out = Path(out)
    clock = Stopwatch()
    opened = open_volume(volume)
    spacing = float(np.mean(opened.attrs["voxel_um"][1:]))
    mask, separability = tissue_mask(projection(opened), settings.smoothing_um / spacing)
    table = patch_table(str(opened.name or Path(volume).name), mask, settings)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.writing")
    table.to_parquet(temporary, index=False)
    temporary.replace(out)
    manifest = Manifest(
        stage="patch",
        algorithm=ALGORITHM,
        inputs={"volume": identity(volume)},
        settings=settings.model_dump(mode="json"),
        counts={
            "patches": len(table),
            "tissue_patches": int((~table["background"]).sum()),
            "tissue_fraction": round(float(mask.mean()), 6),
            "separability": round(separability, 6),
            # False: no two classes to be seen, as in a slide full of tissue; all of it counts.
            "background_told_apart": separability >= SEPARABILITY,
        },
        seconds=clock.seconds(),
    )
    write_manifest(out, manifest)
    return manifest


def patch_table(slide: str, mask_YX: NDArray[np.bool_], settings: PatchConfig) -> pd.DataFrame:
    """Return the grid as a table, rows first; patches at the far edges may be smaller."""
    rows, columns = mask_YX.shape
    records: list[dict[str, object]] = []
    for y in range(0, rows, settings.size):
        for x in range(0, columns, settings.size):
            inside = mask_YX[y : y + settings.size, x : x + settings.size]
            fraction = float(inside.mean())
            records.append(
                {
                    "slide": slide,
                    "index": len(records),
                    "y0": y,
                    "x0": x,
                    "height": inside.shape[0],
                    "width": inside.shape[1],
                    "tissue_fraction": fraction,
                    "background": fraction < settings.min_tissue_fraction,
                }
            )
    return pd.DataFrame.from_records(records)
