"""Volumes whose every plane is known: what a benchmark thins out, restores and compares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msdsr.config import PhantomConfig
from msdsr.phantom.cohort import Slide, microscope
from msdsr.volume import Region, open_volume
from msdsr.volume.colour import Window, colours, to_rgb8

REPOSITORY = Path(__file__).parents[1]
SIDE, PLANES, CROP = 48, 41, 32
"""One tile wide; 41 planes serve 2×, 4× and 8×, and fit one window of the network."""

PATIENTS = ("P01", "P02", "P03")
TUNING = ("P06", "P07")
"""Choices are made on patients that no table shows."""

REAL_PLANES, REAL_STEP, REAL_SIDE = 8, 6, 96
REFERENCE_CROPS = 480

BLASTOCYST_Z = 44
BLASTOCYST_YX = ((2, 2), (30, 56), (16, 110))


@dataclass(frozen=True)
class Specimen:
    """One volume, isotropic, (c, z, y, x): as imaged at every plane, and free of noise."""

    name: str
    imaged: NDArray[Any]
    clean: NDArray[Any]


@dataclass(frozen=True)
class Real:
    """Features of real XY crops, and the window that all pictures are seen through."""

    features: NDArray[np.float32]
    window: Window
    peaks: tuple[float, ...]


@dataclass(frozen=True)
class Bed:
    """Specimens of one kind, the model that restores them, and real XY planes."""

    name: str
    channels: tuple[str, ...]
    voxel_um: float
    model: Path
    specimens: Sequence[Specimen]
    planes: Sequence[NDArray[Any]]
    about: str


def named(name: str, results: Path) -> Bed:
    """Return `phantom`, `tuning` (the same for other patients) or `blastocyst`."""
    if name == "blastocyst":
        return blastocyst(results)
    return phantom(TUNING if name == "tuning" else PATIENTS, name)


def phantom(patients: Sequence[str] = PATIENTS, name: str = "phantom") -> Bed:
    """Return synthetic tissue of patients that the released demo model has not seen.

    Noise as in the demo cohort but no laser drift, which would make planes unlike each other along
    z alone. Real XY planes come from other fields of view of the same patients.
    """
    volumes, planes = [], []
    for patient in patients:
        settings = PhantomConfig(size=SIDE, planes=PLANES, z_ratio=1, laser_drift=0.0)
        scope = microscope(Slide(f"{patient}-S1", patient, "infer", PLANES), settings, "beds", 2024)
        at = np.arange(SIDE)
        truth = scope.truth(PLANES, at, at)
        volumes.append(Specimen(patient, scope.acquire(PLANES, at, at, truth), truth))
        settings = settings.model_copy(update={"z_ratio": REAL_STEP, "size": REAL_SIDE})
        slide = Slide(f"{patient}-S2", patient, "val", REAL_PLANES)
        at = np.arange(REAL_SIDE)
        planes.append(microscope(slide, settings, "beds", 2024).acquire(REAL_PLANES, at, at))
    about = (
        f"{len(patients)} synthetic patients, one {SIDE}×{SIDE}×{PLANES} volume each, 0.5 µm; "
        "the model learnt from other patients; real XY planes from other fields of the same ones"
    )
    model = REPOSITORY / "resources/models/phantom-tiny"
    return Bed(name, ("CH2", "CH3"), 0.5, model, volumes, planes, about)


def blastocyst(results: Path) -> Bed:
    """Return parts of the real example's volume; ``results`` is what `make example` leaves.

    The truth is what the microscope saw, with its noise and its axial blur.
    """
    truth = open_volume(results / "blastocyst/truth/blastocyst-E.ome.zarr").values
    volumes = []
    for y, x in BLASTOCYST_YX:
        z = BLASTOCYST_Z
        part = np.ascontiguousarray(truth[:, z : z + PLANES, y : y + SIDE, x : x + SIDE])
        volumes.append(Specimen(f"E-y{y}-x{x}", part, part))
    real = open_volume(results / "blastocyst/slides/blastocyst-D/denoised.ome.zarr")
    chosen = real.values[:, 8:56:4]
    about = (
        f"{len(volumes)} volumes of {SIDE}×{SIDE}×{PLANES} from region E of one mouse blastocyst, "
        "0.36 µm; the model learnt from regions A, B and C; real XY planes from region D"
    )
    model = results / "models/blastocyst-tiny/model"
    channels = tuple(str(c) for c in real.coords["c"].values)
    return Bed("blastocyst", channels, 0.3604, model, volumes, [chosen], about)


def real_images(bed: Bed, see: Callable[[NDArray[np.uint8]], NDArray[np.float32]]) -> Real:
    """Cut crops from the real XY planes and show them to the feature network.

    The window and each channel's range lie at the quantiles 0.005 and 0.995 of these crops, as in
    the evaluate stage.
    """
    rng = np.random.default_rng(2024)
    count = REFERENCE_CROPS // len(bed.planes)
    crops = []
    for stack in bed.planes:
        _, depth, rows, columns = stack.shape
        for i in range(count):
            y, x = rng.integers(rows - CROP + 1), rng.integers(columns - CROP + 1)
            crops.append(stack[:, i % depth, y : y + CROP, x : x + CROP])
    raw = np.stack(crops, axis=1)
    window = Window.from_quantiles(colours(raw.reshape(len(raw), -1), bed.channels), 0.005, 0.995)
    low, high = np.quantile(raw.reshape(len(raw), -1), (0.005, 0.995), axis=1)
    shown = np.stack([to_rgb8(crop, bed.channels, window) for crop in crops])
    return Real(see(shown), window, tuple(float(v) for v in high - low))


def crop_of(voxels: NDArray[Any], region: Region) -> NDArray[Any]:
    """Return the voxels (c, z, y, x) of a region."""
    return voxels[(slice(None), *region.slices)]
