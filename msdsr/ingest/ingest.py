"""The ingest stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msdsr.config import IngestConfig
from msdsr.errors import UserError
from msdsr.ingest.images import SUFFIX, ImageList, inspect_images
from msdsr.ingest.tiff import Stack, inspect, read, spacing_warnings
from msdsr.manifest import Manifest, sha256_file
from msdsr.progress import progress
from msdsr.volume import VolumeSpec, VoxelSize, Work, create_store
from msdsr.volume.store import DTYPES, IMAGES_2D, volume_counts

ALGORITHM = 1


def ingest(
    path: str | Path,
    out: str | Path,
    work: str | Path,
    *,
    voxel: VoxelSize,
    channels: Sequence[str],
    slide: str,
    patient: str,
    settings: IngestConfig,
) -> Manifest:
    """Turn a raw z-stack, or a list of 2D images, into an OME-Zarr volume, voxel for voxel.

    Parameters
    ----------
    path
        TIFF, ImageJ TIFF or OME-TIFF of one slide; or ``….images.tsv``, a list of such files with
        one 2D image each. Every image of a list becomes a plane; the store's provenance then says
        ``kind: images2d``, and ``image_classes`` keeps the class of each.
    out
        The store to publish; its manifest stands beside it.
    work
        Work folder, on the file system of ``out``.
    voxel
        Spacing (µm), from the sample sheet; a file that states another is warned of.
    channels
        Channel names, in the file's order.
    slide, patient
        Ids; the file's own name and tags are not kept, they may identify a person.
    settings
        Chunks and shards.

    Returns
    -------
    Manifest
        The record that was published beside the store.

    Raises
    ------
    UserError
        When a file is missing, cut short, of another dtype, or its axes cannot be told.
    """
    out = Path(out)
    source = _inspect(path, len(channels))
    if source.dtype.name not in DTYPES:
        raise UserError(path, f"dtype {source.dtype}", " or ".join(DTYPES), "convert it")
    provenance = {"stage": "ingest", "slide": slide, "patient": patient, "algorithm": ALGORITHM}
    listed = isinstance(source, ImageList)
    if isinstance(source, ImageList):
        provenance |= {"kind": IMAGES_2D, "image_classes": list(source.classes)}
    spec = VolumeSpec(source.shape_czyx, source.dtype, voxel, tuple(channels), slide, provenance)
    inputs = {"raw": source.digest() if isinstance(source, ImageList) else sha256_file(path)}
    plan = {
        "stage": "ingest",
        "algorithm": ALGORITHM,
        "inputs": inputs,
        "settings": settings.model_dump(mode="json"),
        "voxel": voxel.zyx,
        "channels": list(channels),
        "ids": [slide, patient],
    }
    with Work(work, plan) as job:
        _write_shards(job.path / out.name, source, spec, job, settings)
        return job.publish_product(
            job.path / out.name,
            out,
            Manifest(
                stage="ingest",
                algorithm=ALGORITHM,
                inputs=inputs,
                settings=plan["settings"],
                counts=volume_counts(spec) | ({"kind": IMAGES_2D} if listed else {}),
                warnings=[] if isinstance(source, ImageList) else spacing_warnings(source, voxel),
            ),
        )


def _inspect(path: str | Path, channels: int) -> Stack | ImageList:
    if Path(path).name.lower().endswith(SUFFIX):
        return inspect_images(path, channels)
    return inspect(path, channels)


def _write_shards(
    store: Path, source: Stack | ImageList, spec: VolumeSpec, job: Work, settings: IngestConfig
) -> None:
    writer = create_store(
        store, spec, chunk_yx=settings.chunk_yx, shard_mb=settings.shard_mb, resume=True
    )
    done = job.done()
    left = [region for region in writer.grid if region.key not in done]
    if left:
        scratch = job.path / "decoded.bin"
        voxels = source.read(scratch) if isinstance(source, ImageList) else read(source, scratch)
        with progress(f"ingest {spec.name}", len(writer.grid), "shards", len(done)) as bar:
            for region in left:
                block = np.ascontiguousarray(voxels[(slice(None), *region.slices)])
                _refuse_not_finite(source.path, block)
                writer.write(region, block)
                job.record(region.key)
                bar.advance()
        del voxels
        scratch.unlink(missing_ok=True)
    writer.finish()


def _refuse_not_finite(path: Path, block: NDArray[Any]) -> None:
    if block.dtype.kind == "f" and not np.isfinite(block).all():
        raise UserError(
            path, "NaN or infinite values", "finite intensities", "replace them before ingest"
        )
