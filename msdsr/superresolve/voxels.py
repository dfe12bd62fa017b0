"""What is read of the acquired planes, and what restored values become on disk."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from msdsr.volume import Region


def read_acquired(acquired: xr.DataArray, region: Region) -> NDArray[Any]:
    """Return all acquired planes of a region's rows and columns, (c, ℓ, y, x)."""
    block: NDArray[Any] = acquired[:, :, region.y0 : region.y1, region.x0 : region.x1].values
    return block


def to_dtype(values: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return values in a dtype: rounded and clipped to its range, never wrapped."""
    if dtype.kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)
