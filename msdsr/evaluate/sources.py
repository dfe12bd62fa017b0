"""Volumes that are judged: stored ones, and interpolations made on the fly."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from msdsr.config import Interpolation
from msdsr.volume import Region, output_planes
from msdsr.volume.interpolate import REACH, interpolate

IN_MEMORY_BYTES = 1_000_000_000


class Source(Protocol):
    """A volume that gives its voxels region by region."""

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Planes, rows, columns."""
        ...

    def read(self, region: Region) -> NDArray[Any]:
        """Return the voxels (c, z, y, x) of a region, in raw intensities."""
        ...


class Stored:
    """A volume from an array; one of up to 1 GB is read as a whole.

    Parameters
    ----------
    voxels_CZYX
        A NumPy or dask array.
    """

    def __init__(self, voxels_CZYX: Any) -> None:
        small = voxels_CZYX.nbytes <= IN_MEMORY_BYTES
        self._voxels = np.asarray(voxels_CZYX) if small else voxels_CZYX

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Planes, rows, columns."""
        _, planes, rows, columns = self._voxels.shape
        return (int(planes), int(rows), int(columns))

    def read(self, region: Region) -> NDArray[Any]:
        """Return the voxels (c, z, y, x) of a region."""
        return np.asarray(self._voxels[(slice(None), *region.slices)])


class Interpolated:
    """The planes between acquired ones filled without a model.

    Parameters
    ----------
    acquired
        The acquired planes.
    factor, method
        See `msdsr.volume.interpolate.interpolate`.
    """

    def __init__(self, acquired: Source, factor: int, method: Interpolation) -> None:
        self._acquired, self._factor, self._method = acquired, factor, method

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Planes, rows, columns."""
        planes, rows, columns = self._acquired.shape_zyx
        return (output_planes(planes, self._factor), rows, columns)

    def read(self, region: Region) -> NDArray[Any]:
        """Return the voxels (c, z, y, x) of a region."""
        reach = REACH[self._method]
        low = max(0, region.z0 // self._factor - reach)
        high = -(-(region.z1 - 1) // self._factor) + 1 + reach
        high = min(high, self._acquired.shape_zyx[0])
        around = Region(low, high, region.y0, region.y1, region.x0, region.x1)
        filled = interpolate(self._acquired.read(around), self._factor, self._method)
        first = region.z0 - low * self._factor
        return filled[:, first : first + region.z1 - region.z0]
