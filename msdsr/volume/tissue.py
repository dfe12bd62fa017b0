"""Where a slide's patch table says that there is tissue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def tissue_mask(patches: str | Path, shape_yx: tuple[int, int]) -> NDArray[np.bool_]:
    """Return where the patch manifest of a slide says that there is tissue.

    Parameters
    ----------
    patches
        Parquet with the columns ``y0``, ``x0``, ``height``, ``width`` (pixels), ``background``.
    shape_yx
        Rows and columns of the slide.
    """
    import pandas as pd  # late: few verbs need what it drags in

    mask = np.zeros(shape_yx, bool)
    table = pd.read_parquet(patches, columns=["y0", "x0", "height", "width", "background"])
    boxes = table.loc[~table["background"], ["y0", "x0", "height", "width"]].to_numpy(int)
    for y0, x0, height, width in boxes:
        mask[y0 : y0 + height, x0 : x0 + width] = True
    return mask
