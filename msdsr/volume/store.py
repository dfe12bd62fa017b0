"""Volumes on disk: OME-Zarr 0.5 on Zarr v3, sharded, with a pyramid, written shard by shard."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray
from zarr.codecs import BloscCodec, BloscShuffle

from msdsr.errors import UserError
from msdsr.volume.geometry import Region, ShardGrid, VoxelSize
from msdsr.volume.pyramid import AXES, block_mean, display_windows, pyramid_steps

if TYPE_CHECKING:
    import xarray as xr

DTYPES = ("uint8", "uint16", "float32")
NAMESPACE = "msdsr"

IMAGES_2D = "images2d"
"""The ``kind`` in the provenance of a store whose planes are 2D images that do not lie above each
other: nothing may be interpolated, averaged or restored between them."""


@dataclass(frozen=True)
class VolumeSpec:
    """What a store holds, without its voxels."""

    shape: tuple[int, int, int, int]
    dtype: np.dtype[Any]
    voxel: VoxelSize
    channels: tuple[str, ...]
    name: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", np.dtype(self.dtype))
        if self.dtype.name not in DTYPES:
            raise UserError(self.name or "volume", f"dtype {self.dtype}", " or ".join(DTYPES))
        if len(self.channels) != self.shape[0]:
            raise UserError(
                self.name or "volume",
                f"{self.shape[0]} channels, {len(self.channels)} names ({','.join(self.channels)})",
                "one name a channel",
                "correct `channels` in the sample sheet",
            )

    @property
    def stacked(self) -> bool:
        """Whether the planes lie above each other; false for a list of 2D images."""
        return self.provenance.get("kind") != IMAGES_2D


def std_path(store: str | Path) -> Path:
    """Return where the standard deviation of a volume's samples stands.

    ``msdsr_2x.ome.zarr`` → ``msdsr_2x_std.ome.zarr``.
    """
    store = Path(store)
    stem, dot, suffix = store.name.partition(".")
    return store.with_name(f"{stem}_std{dot}{suffix}")


def volume_counts(spec: VolumeSpec) -> dict[str, Any]:
    """Return what a manifest counts of a volume: from it, jobs are sized without opening it."""
    channels, planes, rows, columns = spec.shape
    return {
        "channels": channels,
        "planes": planes,
        "rows": rows,
        "columns": columns,
        "dtype": spec.dtype.name,
        "voxel_um": list(spec.voxel.zyx),
        "channel_names": list(spec.channels),
    }


def _compressor() -> BloscCodec:
    return BloscCodec(cname="zstd", clevel=3, shuffle=BloscShuffle.bitshuffle)


def _create_level(
    group: zarr.Group, level: int, grid: ShardGrid, dtype: DTypeLike
) -> zarr.Array[Any]:
    return group.create_array(
        str(level),
        shape=grid.shape,
        chunks=grid.chunk,
        shards=grid.shard,
        dtype=dtype,
        fill_value=0,
        compressors=_compressor(),
        dimension_names=AXES,
    )


class StoreWriter:
    """Writes the shards of one store; made by `create_store`.

    A region that is not made of whole shards is refused: two writers in one shard would lose each
    other's voxels without an error.
    """

    def __init__(self, path: Path, spec: VolumeSpec, grid: ShardGrid) -> None:
        self.path, self.spec, self.grid = path, spec, grid
        array = zarr.open_group(path, mode="r+")["0"]
        if not isinstance(array, zarr.Array) or array.shape != spec.shape:
            raise UserError(path, "holds another volume", str(spec.shape), "remove it")
        self._array = array

    @classmethod
    def reopen(cls, path: str | Path, spec: VolumeSpec) -> StoreWriter:
        """Open an unfinished store with the shards that it was made with."""
        array = zarr.open_group(path, mode="r")["0"]
        if not isinstance(array, zarr.Array) or array.shards is None:
            raise UserError(path, "not an unfinished store", "a sharded array", "start again")
        (c, z, y, x), (sc, sz, sy, sx) = array.chunks, array.shards
        return cls(Path(path), spec, ShardGrid(spec.shape, (c, z, y, x), (sc, sz, sy, sx)))

    def write(self, region: Region, voxels_CZYX: NDArray[Any]) -> None:
        """Write one region of whole shards.

        Parameters
        ----------
        region
            Where; `ShardGrid.owns` must hold.
        voxels_CZYX
            All channels of the region, in the store's dtype.
        """
        if not self.grid.owns(region):
            raise ValueError(f"{region} is not made of whole shards {self.grid.shard}")
        if voxels_CZYX.dtype != self.spec.dtype:
            raise ValueError(f"{voxels_CZYX.dtype} voxels for a {self.spec.dtype} store")
        if voxels_CZYX.shape != (self.spec.shape[0], *region.shape):
            raise ValueError(f"voxels {voxels_CZYX.shape} do not fit {region}")
        self._array[(slice(None), *region.slices)] = voxels_CZYX

    def finish(self) -> None:
        """Write the pyramid and the metadata; the store is then complete, but not yet published."""
        # Imported late: every verb starts a process, and few need what this drags in.
        from msdsr.volume.metadata import ome_attributes

        group = zarr.open_group(self.path, mode="r+")
        steps = pyramid_steps(self.spec.shape[1:], self.spec.voxel, keep_z=not self.spec.stacked)
        for level in range(1, len(steps)):
            _write_level(group, level, steps[level - 1], steps[level], self.spec, self.grid)
        attributes = {
            "ome": ome_attributes(
                self.spec.name,
                self.spec.voxel,
                steps,
                self.spec.channels,
                display_windows(group[str(len(steps) - 1)]),
            ),
            NAMESPACE: dict(self.spec.provenance),
        }
        group.update_attributes(attributes)


def create_store(
    path: str | Path,
    spec: VolumeSpec,
    *,
    chunk_yx: int = 256,
    shard_mb: float = 256.0,
    grid: ShardGrid | None = None,
    resume: bool = False,
) -> StoreWriter:
    """Make an empty store, or open an unfinished one again.

    Parameters
    ----------
    path
        Where the store is made: a work folder, from which it is published by a rename.
    spec
        What it will hold.
    chunk_yx, shard_mb
        See `ShardGrid.plan`.
    grid
        Chunks and shards of another store of this shape, in place of planning them.
    resume
        Go on with what an earlier attempt left at ``path``.

    Raises
    ------
    UserError
        When something is there already and ``resume`` is false.
    """
    path = Path(path)
    grid = grid or ShardGrid.plan(spec.shape, spec.dtype.itemsize, chunk_yx, shard_mb)
    if path.exists() and not resume:
        raise UserError(path, "exists already", "a path that is free", "remove it")
    if not (path / "0" / "zarr.json").exists():
        shutil.rmtree(path, ignore_errors=True)
        group = zarr.create_group(path, zarr_format=3)
        _create_level(group, 0, grid, spec.dtype)
    return StoreWriter(path, spec, grid)


def _write_level(
    group: zarr.Group,
    level: int,
    coarse_from: tuple[int, int, int],
    coarse_to: tuple[int, int, int],
    spec: VolumeSpec,
    grid: ShardGrid,
) -> None:
    factors = tuple(b // a for a, b in zip(coarse_from, coarse_to, strict=True))
    shape = (spec.shape[0], *(n // s for n, s in zip(spec.shape[1:], coarse_to, strict=True)))
    chunk_yx = grid.chunk[2]
    itemsize = spec.dtype.itemsize
    shard_bytes = float(np.prod(grid.shard)) * itemsize
    coarse = ShardGrid.plan(
        (shape[0], shape[1], shape[2], shape[3]), itemsize, chunk_yx, shard_bytes / 1e6
    )
    if str(level) in group:
        del group[str(level)]
    source = group[str(level - 1)]
    if not isinstance(source, zarr.Array):
        raise TypeError(f"level {level - 1} is not an array")
    target = _create_level(group, level, coarse, spec.dtype)
    for region in coarse:
        out = np.empty((shape[0], *region.shape), spec.dtype)
        for y in range(region.y0, region.y1, chunk_yx):
            y1 = min(y + chunk_yx, region.y1)
            fine = source[
                :,
                : shape[1] * factors[0],
                y * factors[1] : y1 * factors[1],
                region.x0 * factors[2] : region.x1 * factors[2],
            ]
            out[:, :, y - region.y0 : y1 - region.y0] = block_mean(np.asarray(fine), factors)
        target[(slice(None), *region.slices)] = out


def open_group(path: str | Path) -> zarr.Group:
    """Open a store for reading.

    Raises
    ------
    UserError
        When there is no store, or one that is not OME-Zarr.
    """
    path = Path(path)
    try:
        with warnings.catch_warnings():
            # Snakemake leaves its time stamp inside every directory it tracks.
            warnings.filterwarnings("ignore", message=".*snakemake_timestamp.*")
            group = zarr.open_group(path, mode="r")
    except (FileNotFoundError, json.JSONDecodeError, ValueError) as error:
        raise UserError(
            path, f"not a Zarr store ({error})", "an OME-Zarr image", "run its stage again"
        ) from None
    if "multiscales" not in _ome(group):
        raise UserError(path, "no OME-Zarr multiscales", "an OME-Zarr image (0.4 or 0.5)")
    return group


def _ome(group: zarr.Group) -> dict[str, Any]:
    attributes: dict[str, Any] = dict(group.attrs)
    ome = attributes.get("ome", attributes)
    return dict(ome) if isinstance(ome, dict) else {}


def read_spec(path: str | Path) -> VolumeSpec:
    """Read what a store holds (level 0), without its voxels."""
    return _spec_of(open_group(path), Path(path))[0]


def _spec_of(group: zarr.Group, path: Path, level: int = 0) -> tuple[VolumeSpec, str, list[float]]:
    ome = _ome(group)
    multiscale = ome["multiscales"][0]
    names = [axis["name"] for axis in multiscale["axes"]]
    if names != list(AXES):
        raise UserError(path, f"axes {','.join(names)}", "axes c,z,y,x", "convert it first")
    dataset = multiscale["datasets"][level]
    scale, translation = [1.0] * 4, [0.0] * 4
    for transform in dataset["coordinateTransformations"]:
        if transform["type"] == "scale":
            scale = transform["scale"]
        if transform["type"] == "translation":
            translation = transform["translation"]
    array = group[dataset["path"]]
    if not isinstance(array, zarr.Array):
        raise UserError(path, f"{dataset['path']} is not an array", "an OME-Zarr image")
    shape = (array.shape[0], array.shape[1], array.shape[2], array.shape[3])
    labels = [channel.get("label") for channel in ome.get("omero", {}).get("channels", [])]
    if len(labels) != shape[0]:
        labels = [f"C{i}" for i in range(shape[0])]
    own = dict(group.attrs).get(NAMESPACE, {})
    spec = VolumeSpec(
        shape,
        array.dtype,
        VoxelSize(*scale[1:]),
        tuple(str(label) for label in labels),
        str(multiscale.get("name", "")),
        dict(own) if isinstance(own, dict) else {},
    )
    return spec, dataset["path"], translation


def open_volume(path: str | Path, level: int = 0) -> xr.DataArray:
    """Open a volume lazily.

    Parameters
    ----------
    path
        An OME-Zarr image (0.5, or 0.4) with the axes c, z, y, x.
    level
        Level of the pyramid; 0 is the finest.

    Returns
    -------
    xarray.DataArray
        Dimensions ``("c", "z", "y", "x")``, coordinates in micrometres, channel names on ``c``,
        backed by dask; ``attrs["voxel_um"]`` holds the spacing and ``attrs["msdsr"]`` the
        provenance.

    Raises
    ------
    UserError
        When the path holds no such volume.
    """
    import dask.array as da
    import xarray as xr

    group = open_group(path)
    spec, name, translation = _spec_of(group, Path(path), level)
    coordinates: dict[str, Any] = {"c": list(spec.channels)}
    for axis, size, step, start in zip(
        "zyx", spec.shape[1:], spec.voxel.zyx, translation[1:], strict=True
    ):
        values = start + step * np.arange(size)
        coordinates[axis] = (axis, values, {"units": "micrometer"})
    return xr.DataArray(
        da.from_zarr(group[name]),  # type: ignore[no-untyped-call]
        dims=AXES,
        coords=coordinates,
        name=spec.name or None,
        attrs={"voxel_um": spec.voxel.zyx, NAMESPACE: dict(spec.provenance)},
    )


def write_volume(
    path: str | Path,
    voxels_CZYX: Any,
    voxel: VoxelSize,
    channels: Sequence[str],
    *,
    name: str = "",
    provenance: Mapping[str, Any] | None = None,
    chunk_yx: int = 256,
    shard_mb: float = 256.0,
) -> VolumeSpec:
    """Write a whole volume with its pyramid, and publish it by one rename.

    Parameters
    ----------
    path
        The store to make; one that is there is replaced.
    voxels_CZYX
        A NumPy or dask array (c, z, y, x) of uint8, uint16 or float32.
    voxel
        Spacing (µm).
    channels
        Channel names.
    name, provenance
        Name of the image, and what to keep under ``attributes["msdsr"]``.
    chunk_yx, shard_mb
        See `ShardGrid.plan`.
    """
    path = Path(path)
    shape = (
        voxels_CZYX.shape[0],
        voxels_CZYX.shape[1],
        voxels_CZYX.shape[2],
        voxels_CZYX.shape[3],
    )
    spec = VolumeSpec(
        shape, np.dtype(voxels_CZYX.dtype), voxel, tuple(channels), name, provenance or {}
    )
    temporary = path.with_name(f".{path.name}.writing")
    shutil.rmtree(temporary, ignore_errors=True)
    writer = create_store(temporary, spec, chunk_yx=chunk_yx, shard_mb=shard_mb)
    for region in writer.grid:
        writer.write(region, np.asarray(voxels_CZYX[(slice(None), *region.slices)]))
    writer.finish()
    replace_path(temporary, path)
    return spec


def replace_path(source: Path, target: Path) -> None:
    """Publish a file or a folder under its final name by a rename.

    A folder cannot be renamed over one that is not empty, so an old one steps aside first.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir() and not target.is_symlink():
        old = target.with_name(f".{target.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
        source.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    else:
        source.replace(target)
