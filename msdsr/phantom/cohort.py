"""The synthetic cohort: who its patients are, and the making of one slide's files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import tifffile
from numpy.typing import NDArray

from msdsr.config import PhantomConfig
from msdsr.errors import UserError, nearest
from msdsr.manifest import Manifest, Stopwatch, write_manifest
from msdsr.phantom.microscope import Field, Microscope
from msdsr.phantom.noise import derive_key, hashed
from msdsr.phantom.tissue import CHANNELS, Indices, Tissue
from msdsr.progress import Bar, progress
from msdsr.volume import StoreWriter, VolumeSpec, VoxelSize, create_store, output_planes
from msdsr.volume.store import replace_path, volume_counts

ALGORITHM = 1
BLOCK = 128
TRUTH_SHARD_MB = 64.0
"""Small shards: one is held in memory while its blocks are made."""

TRUTH_NOTE = "synthetic isotropic tissue, free of noise, laser drift and axial blur"
Stack = NDArray[np.uint16]
"""A file mapped into memory, as (z, c, y, x)."""

SPACE = 1 << 20
"""Fields of view lie anywhere in a cube of tissue with this side (voxels)."""


@dataclass(frozen=True)
class Slide:
    """One slide of the cohort, before it is made."""

    slide: str
    patient: str
    split: str
    planes: int


def slides(settings: PhantomConfig) -> list[Slide]:
    """Return every slide of the cohort: z-stacks `P01-S1`, 2D images `P01-I1` and so on."""
    counts = {
        "train": settings.train_patients,
        "val": settings.val_patients,
        "infer": settings.infer_patients,
    }
    splits = [split for split, count in counts.items() for _ in range(count)]
    digits = max(2, len(str(len(splits))))
    found = []
    for number, split in enumerate(splits, start=1):
        patient = f"P{number:0{digits}d}"
        found.append(Slide(f"{patient}-S1", patient, split, settings.planes))
        if split != "infer":
            found += [
                Slide(f"{patient}-I{i}", patient, split, 1)
                for i in range(1, settings.images_2d + 1)
            ]
    return found


def sheet_rows(settings: PhantomConfig, cohort: str) -> pd.DataFrame:
    """Return the sample sheet of the cohort (spacings in µm; paths under ``results/``)."""
    records = []
    for slide in slides(settings):
        truth = f"results/{cohort}/truth/{slide.slide}.ome.zarr"
        records.append(
            {
                "slide": slide.slide,
                "patient": slide.patient,
                "path": f"results/{cohort}/raw_files/{slide.slide}.tif",
                "split": slide.split,
                "z_um": settings.voxel_um * settings.z_ratio,
                "y_um": settings.voxel_um,
                "x_um": settings.voxel_um,
                "channels": ",".join(CHANNELS),
                "notes": "synthetic z-stack" if slide.planes > 1 else "synthetic 2D image",
                "truth": truth if slide.split == "infer" else "",
            }
        )
    return pd.DataFrame(records)


def microscope(slide: Slide, settings: PhantomConfig, cohort: str, seed: int) -> Microscope:
    """Return the microscope over a slide: same patient, same tissue; each slide its own field."""
    tissue = Tissue(derive_key(seed, cohort, slide.patient), settings.voxel_um)
    bits = hashed(derive_key(seed, cohort, slide.slide, "field"), np.arange(3))
    z0, y0, x0 = (int(b) for b in bits % np.uint64(SPACE))
    key = derive_key(seed, cohort, slide.slide, "noise")
    return Microscope(tissue, Field(z0, y0, x0), settings, key)


def make_slide(
    slide: str,
    settings: PhantomConfig,
    cohort: str,
    seed: int,
    raw_path: str | Path,
    truth_path: str | Path | None = None,
) -> Manifest:
    """Make one slide's raw file, and its isotropic truth where that is asked for.

    A z-stack is an OME-TIFF (z, c, y, x), a 2D image an ImageJ TIFF (c, y, x), both uint16 with
    their spacings inside. The work goes by blocks, so memory does not grow with the slide.

    Parameters
    ----------
    slide
        A name that `slides` gives.
    settings
        The section ``phantom`` of the configuration.
    cohort
        Name of the cohort; another cohort has other tissue.
    seed
        Seed of all randomness.
    raw_path
        TIFF to write.
    truth_path
        OME-Zarr to write, (ℓ − 1)·z_ratio + 1 noise-free planes for ℓ acquired ones.

    Returns
    -------
    Manifest
        The record beside the raw file.

    Raises
    ------
    UserError
        When the cohort has no such slide.
    """
    watch = Stopwatch()
    plan = _find(slide, settings)
    scope = microscope(plan, settings, cohort, seed)
    raw_path = Path(raw_path)
    raw_path.parent.mkdir(parents=True, exist_ok=True)
    raw_work = raw_path.with_name(f".{raw_path.name}.writing")
    stack = _create_tiff(raw_work, plan, settings)
    writer = _create_truth(Path(truth_path), plan, settings) if truth_path is not None else None
    blocks = len(list(_blocks(settings.size, settings.size)))
    with progress(f"phantom {slide}", total=blocks, unit="blocks") as bar:
        if writer is None:
            for y, x in _blocks(settings.size, settings.size):
                _expose(stack, scope, y, x, bar)
        else:
            _fill_both(writer, stack, scope, bar)
    _close(stack)
    del stack
    manifest = Manifest(
        stage="phantom",
        algorithm=ALGORITHM,
        settings=settings.model_dump(mode="json"),
        seed=seed,
        counts=volume_counts(_raw_spec(plan, settings)),
        seconds=watch.seconds(),
    )
    if writer is not None and truth_path is not None:
        replace_path(writer.path, Path(truth_path))
        counts = {**volume_counts(writer.spec), "truth": TRUTH_NOTE}
        write_manifest(truth_path, manifest.model_copy(update={"counts": counts}))
    replace_path(raw_work, raw_path)
    write_manifest(raw_path, manifest)
    return manifest


def _find(slide: str, settings: PhantomConfig) -> Slide:
    known = {s.slide: s for s in slides(settings)}
    if slide not in known:
        near = nearest(slide, known)
        raise UserError(
            "phantom",
            f"no slide {slide!r} in this cohort",
            f"one of {len(known)} slides, {', '.join(list(known)[:3])}, …",
            f"did you mean {near!r}?" if near else "look at the sample sheet",
        )
    return known[slide]


def _blocks(rows: int, columns: int) -> Iterator[tuple[Indices, Indices]]:
    """Cut a rectangle into blocks, as row and column indices."""
    for y in range(0, rows, BLOCK):
        for x in range(0, columns, BLOCK):
            yield np.arange(y, min(y + BLOCK, rows)), np.arange(x, min(x + BLOCK, columns))


def _expose(
    stack: Stack,
    scope: Microscope,
    y: Indices,
    x: Indices,
    bar: Bar,
    truth: NDArray[np.uint16] | None = None,
) -> None:
    planes = stack.shape[0]
    acquired = scope.acquire(planes, y, x, truth)
    stack[:, :, y[0] : y[-1] + 1, x[0] : x[-1] + 1] = acquired.transpose(1, 0, 2, 3)
    bar.advance()


def _fill_both(writer: StoreWriter, stack: Stack, scope: Microscope, bar: Bar) -> None:
    planes = writer.spec.shape[1]
    for region in writer.grid:
        held = np.empty((len(CHANNELS), *region.shape), np.uint16)
        for y, x in _blocks(*region.shape[1:]):
            rows, columns = y + region.y0, x + region.x0
            truth = scope.truth(planes, rows, columns)
            held[:, :, y[0] : y[-1] + 1, x[0] : x[-1] + 1] = truth
            _expose(stack, scope, rows, columns, bar, truth)
        writer.write(region, held)
    writer.finish()


def _close(stack: Stack) -> None:
    assert isinstance(stack, np.memmap)
    stack.flush()


def _raw_spec(plan: Slide, settings: PhantomConfig) -> VolumeSpec:
    voxel = settings.voxel_um
    return VolumeSpec(
        (len(CHANNELS), plan.planes, settings.size, settings.size),
        np.dtype(np.uint16),
        VoxelSize(voxel * settings.z_ratio, voxel, voxel),
        CHANNELS,
        plan.slide,
    )


def _create_truth(path: Path, plan: Slide, settings: PhantomConfig) -> StoreWriter:
    work = path.with_name(f".{path.name}.writing")
    shutil.rmtree(work, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    planes = output_planes(plan.planes, settings.z_ratio)
    voxel = settings.voxel_um
    spec = VolumeSpec(
        (len(CHANNELS), planes, settings.size, settings.size),
        np.dtype(np.uint16),
        VoxelSize(voxel, voxel, voxel),
        CHANNELS,
        plan.slide,
        {"stage": "phantom", "truth": TRUTH_NOTE, "z_ratio": settings.z_ratio},
    )
    return create_store(work, spec, shard_mb=TRUTH_SHARD_MB)


def _create_tiff(path: Path, plan: Slide, settings: PhantomConfig) -> Stack:
    """Make an empty TIFF and map it into memory as (z, c, y, x)."""
    shape = (plan.planes, len(CHANNELS), settings.size, settings.size)
    voxel = settings.voxel_um
    if plan.planes == 1:
        image: Stack = tifffile.memmap(
            path,
            shape=shape[1:],
            dtype=np.uint16,
            imagej=True,
            resolution=(1 / voxel, 1 / voxel),
            metadata={"axes": "CYX", "unit": "um", "Labels": list(CHANNELS)},
        )
        return image.reshape(shape)
    metadata: dict[str, Any] = {
        "axes": "ZCYX",
        "Name": plan.slide,
        "Channel": {"Name": list(CHANNELS)},
        # tifffile's own would be another one every time, and the same slide another file.
        "UUID": str(UUID(int=derive_key(plan.slide, shape))),
    }
    for axis, step in (("X", voxel), ("Y", voxel), ("Z", voxel * settings.z_ratio)):
        metadata |= {f"PhysicalSize{axis}": step, f"PhysicalSize{axis}Unit": "µm"}
    stack: Stack = tifffile.memmap(
        path,
        shape=shape,
        dtype=np.uint16,
        ome=True,
        photometric="minisblack",
        metadata=metadata,
    )
    return stack
