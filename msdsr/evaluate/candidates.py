"""The volumes of one slide that are compared: methods, baselines, real planes and the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from msdsr.config import EvaluateConfig
from msdsr.errors import UserError
from msdsr.evaluate.sources import Interpolated, Source, Stored
from msdsr.volume import acquired_rows, keep_every, open_volume, output_planes, read_spec

SPACING_TOLERANCE = 0.01


@dataclass(frozen=True)
class Candidates:
    """All volumes of one slide at one factor, on one grid."""

    methods: Mapping[str, Source]
    acquired: Source
    generated: NDArray[np.bool_]
    truth: Source | None
    warnings: list[str] = field(default_factory=list)

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Planes, rows, columns after restoration."""
        _, rows, columns = self.acquired.shape_zyx
        return (len(self.generated), rows, columns)


def open_candidates(
    acquired: Path,
    restored: Mapping[str, Path],
    truth: str | Path | None,
    factor: int,
    settings: EvaluateConfig,
) -> Candidates:
    """Open every volume of a slide, and hold each to the grid that the factor gives.

    Parameters
    ----------
    acquired
        The volume that was restored.
    restored
        Store of each method.
    truth
        Store of the isotropic truth, if there is one.
    factor
        The super-resolution factor.
    settings
        Section ``evaluate``: the baselines, and the crop for a warning.

    Raises
    ------
    UserError
        When a store has another shape, or says that other planes were acquired.
    """
    spec = read_spec(acquired)
    keep = keep_every(factor, spec.voxel)
    voxels = open_volume(acquired).data
    kept = Stored(voxels[:, ::keep])
    generated = np.ones(output_planes(kept.shape_zyx[0], factor), bool)
    generated[acquired_rows(kept.shape_zyx[0], factor)] = False
    shape = (len(generated), *spec.shape[2:])
    spacing = spec.voxel.z * keep / factor
    warnings = []
    if not np.isclose(spacing, spec.voxel.x, rtol=SPACING_TOLERANCE):
        warnings.append(
            f"voxels are {spacing:g} µm in z and {spec.voxel.x:g} µm in x at {factor}×: XZ and YZ "
            "slices are judged as if they were equal"
        )
    if shape[0] < settings.crop:
        warnings.append(
            f"{shape[0]} planes at {factor}× are fewer than evaluate.crop ({settings.crop}): "
            "no XZ and YZ crops"
        )
    methods: dict[str, Source] = {
        name: Interpolated(kept, factor, name) for name in settings.baselines
    }
    for name, path in restored.items():
        methods[name] = _restored(path, shape, np.flatnonzero(~generated))
    true = _truth(Path(truth), spacing, shape) if truth else None
    return Candidates(methods, Stored(voxels), generated, true, warnings)


def _restored(path: Path, shape: tuple[int, ...], rows: NDArray[np.int64]) -> Source:
    volume = open_volume(path)
    if volume.shape[1:] != shape:
        raise UserError(
            path,
            f"{' × '.join(map(str, volume.shape[1:]))} voxels (z × y × x)",
            " × ".join(map(str, shape)),
            "superresolve the slide again",
        )
    said = volume.attrs["msdsr"].get("acquired_planes")
    if said is not None and list(said) != rows.tolist():
        raise UserError(
            path, f"acquired planes {said}", str(rows.tolist()), "check the factor of this store"
        )
    return Stored(volume.data)


def _truth(path: Path, spacing: float, shape: tuple[int, ...]) -> Source:
    """Open the true planes at the spacing (µm) of the restored ones."""
    volume = open_volume(path)
    step = spacing / volume.attrs["voxel_um"][0]
    planes = volume.data[:, :: max(1, round(step))][:, : shape[0]]
    if abs(step - round(step)) > SPACING_TOLERANCE or planes.shape[1:] != shape:
        raise UserError(
            path,
            f"{' × '.join(map(str, volume.shape[1:]))} voxels, planes "
            f"{volume.attrs['voxel_um'][0]:g} µm apart",
            f"at least {' × '.join(map(str, shape))} at {spacing:g} µm or a whole part of it",
            "correct `truth` in the sample sheet",
        )
    return Stored(planes)
