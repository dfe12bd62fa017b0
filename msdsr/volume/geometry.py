"""Where voxels are: spacing, regions, halos, the shard grid, and rows under super-resolution."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from msdsr.errors import UserError

MAX_CHUNK_Z = 64
FACTORS = (2, 8)
"""The smallest and the largest factor along z."""


@dataclass(frozen=True)
class VoxelSize:
    """Distance between voxel centres (µm)."""

    z: float
    y: float
    x: float

    def __post_init__(self) -> None:
        if not all(0 < v < math.inf for v in (self.z, self.y, self.x)):
            raise ValueError(f"voxel size must be above 0 µm, not {self}")

    @property
    def zyx(self) -> tuple[float, float, float]:
        """The three spacings (µm)."""
        return (self.z, self.y, self.x)

    @property
    def anisotropy(self) -> float:
        """Plane distance over the mean XY pixel size; 1 is isotropic."""
        return self.z / ((self.y + self.x) / 2)

    @property
    def z_ratio(self) -> int:
        """The `anisotropy`, to the nearest integer, at least 1."""
        return max(1, round(self.anisotropy))


@dataclass(frozen=True)
class Region:
    """A box of voxels, half-open in each axis."""

    z0: int
    z1: int
    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Planes, rows, columns."""
        return (self.z1 - self.z0, self.y1 - self.y0, self.x1 - self.x0)

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The region as slices of a (z, y, x) array."""
        return (slice(self.z0, self.z1), slice(self.y0, self.y1), slice(self.x0, self.x1))

    @property
    def key(self) -> str:
        """A name that is the region, for ledgers."""
        return f"z{self.z0}-{self.z1}_y{self.y0}-{self.y1}_x{self.x0}-{self.x1}"

    def with_halo(self, halo: int, rows: int, columns: int) -> Region:
        """Return the region grown by ``halo`` pixels in Y and X, clipped to the volume."""
        return Region(
            self.z0,
            self.z1,
            max(0, self.y0 - halo),
            min(rows, self.y1 + halo),
            max(0, self.x0 - halo),
            min(columns, self.x1 + halo),
        )

    def inside(self, outer: Region) -> tuple[slice, slice, slice]:
        """Return the slices that cut this region out of an array that holds ``outer``."""
        return (
            slice(self.z0 - outer.z0, self.z1 - outer.z0),
            slice(self.y0 - outer.y0, self.y1 - outer.y0),
            slice(self.x0 - outer.x0, self.x1 - outer.x0),
        )


@dataclass(frozen=True)
class ShardGrid:
    """How an array (c, z, y, x) is cut into chunks (read) and shards (written).

    A chunk covers all z up to 64 planes; a shard covers all channels and the whole of z, so that
    no two writers ever meet in one.
    """

    shape: tuple[int, int, int, int]
    chunk: tuple[int, int, int, int]
    shard: tuple[int, int, int, int]

    @classmethod
    def plan(
        cls,
        shape: tuple[int, int, int, int],
        itemsize: int,
        chunk_yx: int = 256,
        shard_mb: float = 256.0,
    ) -> ShardGrid:
        """Choose chunks and shards for an array.

        Parameters
        ----------
        shape
            Channels, planes, rows, columns.
        itemsize
            Bytes a voxel.
        chunk_yx
            Side of a chunk in Y and X (pixels).
        shard_mb
            Size that a shard comes near without going over it, but for the smallest possible
            (MB = 10⁶ bytes, uncompressed).
        """
        channels, planes, rows, columns = shape
        side = min(chunk_yx, max(rows, columns))
        chunk_z = min(planes, MAX_CHUNK_Z)
        shard_z = math.ceil(planes / chunk_z) * chunk_z
        column_bytes = channels * shard_z * side * side * itemsize
        chunks = max(1, math.isqrt(int(shard_mb * 1e6 / column_bytes)))
        shard_y = min(chunks, math.ceil(rows / side)) * side
        shard_x = min(chunks, math.ceil(columns / side)) * side
        return cls(shape, (1, chunk_z, side, side), (channels, shard_z, shard_y, shard_x))

    def __len__(self) -> int:
        _, _, rows, columns = self.shape
        return math.ceil(rows / self.shard[2]) * math.ceil(columns / self.shard[3])

    def __iter__(self) -> Iterator[Region]:
        """Yield the region of every shard, rows first."""
        _, planes, rows, columns = self.shape
        for y in range(0, rows, self.shard[2]):
            for x in range(0, columns, self.shard[3]):
                yield Region(
                    0, planes, y, min(y + self.shard[2], rows), x, min(x + self.shard[3], columns)
                )

    def blocks(self, side: int) -> Iterator[Region]:
        """Yield regions of whole shards whose side comes to at least ``side`` pixels."""
        _, planes, rows, columns = self.shape
        step_y = math.ceil(side / self.shard[2]) * self.shard[2]
        step_x = math.ceil(side / self.shard[3]) * self.shard[3]
        for y in range(0, rows, step_y):
            for x in range(0, columns, step_x):
                yield Region(0, planes, y, min(y + step_y, rows), x, min(x + step_x, columns))

    def owns(self, region: Region) -> bool:
        """Tell whether a region is made of whole shards, so that its writer meets no other."""
        _, planes, rows, columns = self.shape
        return (
            region.z0 == 0
            and region.z1 == planes
            and region.y0 % self.shard[2] == 0
            and region.x0 % self.shard[3] == 0
            and (region.y1 % self.shard[2] == 0 or region.y1 == rows)
            and (region.x1 % self.shard[3] == 0 or region.x1 == columns)
            and 0 <= region.y0 < region.y1 <= rows
            and 0 <= region.x0 < region.x1 <= columns
        )


def output_planes(planes: int, factor: int) -> int:
    """Return how many planes ℓ acquired planes become: (ℓ − 1)·s + 1, none beyond the outer two."""
    return (planes - 1) * factor + 1


def acquired_rows(planes: int, factor: int) -> NDArray[np.int64]:
    """Return where the acquired planes lie among the output planes: 0, s, 2s and so on."""
    return np.arange(planes, dtype=np.int64) * factor


def keep_every(factor: int, voxel: VoxelSize) -> int:
    """Return m, where every m-th acquired plane is the input for a factor.

    A factor that is a multiple m of the slide's own z/xy ratio is run on every m-th plane, so that
    all such factors end at the same, isotropic spacing (paper, section 4.3: 4× and 8× take every
    second and fourth plane of a stack with ratio 2). Any other factor takes all planes.
    """
    ratio = voxel.z_ratio
    return factor // ratio if factor % ratio == 0 else 1


def distance_to_acquired(planes: int, factor: int) -> NDArray[np.uint8]:
    """Return how many planes each output plane lies from the nearest acquired one, 0 to s/2."""
    phase = np.arange(output_planes(planes, factor)) % factor
    return np.minimum(phase, factor - phase).astype(np.uint8)


def auto_factor(voxel: VoxelSize, where: str | Path = "--factor auto") -> int:
    """Return the factor that makes a slide's voxels as near to cubes as a whole number can.

    Parameters
    ----------
    voxel
        Spacing of the acquired planes and pixels.
    where
        What an error should name: the slide, or its sample sheet.

    Raises
    ------
    UserError
        When the nearest whole number is not 2 to 8.
    """
    factor = round(voxel.anisotropy)
    if not FACTORS[0] <= factor <= FACTORS[1]:
        raise UserError(
            where,
            f"factor `auto`, but planes are {voxel.anisotropy:.3g} times as far apart as pixels",
            f"a ratio that rounds to {FACTORS[0]} to {FACTORS[1]}",
            "correct the spacing in the sample sheet, or name a factor",
        )
    return factor
