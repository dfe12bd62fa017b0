"""What is read of the acquired planes, and what restored values become on disk."""

from __future__ import annotations

from typing import Any

import xarray as xr
from numpy.typing import NDArray

from msdsr.volume import Region
from msdsr.volume.interpolate import to_dtype

__all__ = ["read_acquired", "to_dtype"]


def read_acquired(acquired: xr.DataArray, region: Region) -> NDArray[Any]:
    """Return all acquired planes of a region's rows and columns, (c, ℓ, y, x)."""
    block: NDArray[Any] = acquired[:, :, region.y0 : region.y1, region.x0 : region.x1].values
    return block
