"""What restored volumes are judged by: distances of features, truth, spectra, steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from beds import CROP, Bed, Real, Specimen, crop_of
from numpy.typing import NDArray

from msdsr.evaluate.paired import paired_scores
from msdsr.evaluate.slices import PLANES, picture, spread_crops
from msdsr.evaluate.sources import Stored
from msdsr.metrics.features import FeatureSet
from msdsr.metrics.fid import fid
from msdsr.metrics.inception import Inception
from msdsr.metrics.mmd import Kid
from msdsr.metrics.spectra import AXES, lag_one_ratio, spectral_distance
from msdsr.volume.colour import to_rgb8

CROPS = 120
"""Crops of one orientation, the specimens in equal shares; the same places for every row."""

PAIRED_SLICES = 12
GENERATED = "XY generated"


class HalfInception(Inception):
    """Inception in bfloat16, channels last: four times as fast on a CPU that has matrix units.

    Its features are off by a few per cent of their spread, at random, for real and restored
    pictures alike. So its distances are compared with each other only.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, "cpu")
        net = self._net.to(torch.bfloat16).to(memory_format=torch.channels_last)
        self._net = lambda x: net(x.to(torch.bfloat16, memory_format=torch.channels_last))


class Seer:
    """Shows pictures to Inception, each different one once."""

    def __init__(self, inception: Inception) -> None:
        self._inception = inception
        self._seen: dict[bytes, NDArray[np.float32]] = {}

    def __call__(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return features (n, D) of uint8 pictures (n, 3, h, w)."""
        keys = [picture.tobytes() for picture in pictures]
        new = {k: p for k, p in zip(keys, pictures, strict=True) if k not in self._seen}
        if new:
            features = self._inception(np.stack(list(new.values())))
            self._seen.update(zip(new, features, strict=True))
        return np.stack([self._seen[key] for key in keys])


@dataclass(frozen=True)
class Features:
    """Features of one row's crops: by plane, specimen after specimen in equal shares."""

    by_plane: Mapping[str, NDArray[np.float32]]
    generated: NDArray[np.bool_]
    """Which XY crops lie on planes that were not acquired."""


def see(
    bed: Bed, volumes: Sequence[NDArray[Any]], acquired: NDArray[np.bool_], real: Real, seer: Seer
) -> Features:
    """Cut the crops of every volume and return their features."""
    found, generated = {}, []
    for plane in PLANES:
        shown = []
        for specimen, volume in zip(bed.specimens, volumes, strict=True):
            shape = volume.shape[1:]
            share = CROPS // len(volumes)
            places = spread_crops(plane, shape, CROP, share, seed=2024, name=specimen.name)
            for place in places:
                crop = picture(crop_of(volume, place), plane)
                shown.append(to_rgb8(crop, bed.channels, real.window))
                if plane == "XY":
                    generated.append(not acquired[place.z0])
        found[plane] = seer(np.stack(shown))
    return Features(found, np.array(generated))


def distances(features: Features, real: Real) -> dict[str, float]:
    """Return SliceFID (paper, Eq. 10), its parts, XY on generated planes alone, and KID."""
    reference, kid = FeatureSet.of(real.features), Kid(FeatureSet.of(real.features))
    sets = {plane: FeatureSet.of(rows) for plane, rows in features.by_plane.items()}
    values = {f"FID {plane}": fid(reference, rows) for plane, rows in sets.items()}
    values["SliceFID"] = float(np.mean([values[f"FID {plane}"] for plane in PLANES]))
    if features.generated.any():
        rows = features.by_plane["XY"][features.generated]
        values[f"FID {GENERATED}"] = fid(reference, FeatureSet.of(rows))
    values["KID"] = float(np.mean([kid(rows) for rows in sets.values()]))
    return values


def paired(
    specimens: Sequence[Specimen],
    volumes: Sequence[NDArray[Any]],
    acquired: NDArray[np.bool_],
    real: Real,
) -> dict[str, float]:
    """Return PSNR and SSIM of what was not acquired against the noise-free truth, means."""
    found: dict[str, list[float]] = {"PSNR": [], "SSIM": []}
    for specimen, volume in zip(specimens, volumes, strict=True):
        scores = paired_scores(
            Stored(volume), Stored(specimen.clean), ~acquired, real.peaks, PAIRED_SLICES
        )
        for score in scores:
            if score.plane == "mean" and score.metric in found:
                found[score.metric].append(score.value)
    return {metric: float(np.mean(values)) for metric, values in found.items() if values}


def texture(
    specimens: Sequence[Specimen], volumes: Sequence[NDArray[Any]], acquired: NDArray[np.bool_]
) -> dict[str, float]:
    """Return spectral distances and lag-1 ratios along each axis against every imaged plane.

    Along y and x only planes that were not acquired count. Power is pooled over the specimens.
    """
    values = {}
    for axis in AXES:
        rows = np.ones_like(acquired) if axis == "z" else ~acquired
        if not rows.any():
            rows = np.ones_like(acquired)
        mine = _side_by_side([v[:, rows] for v in volumes], axis)
        true = _side_by_side([s.imaged[:, rows] for s in specimens], axis)
        values[f"spectrum {axis}"] = spectral_distance(mine, true, axis)
        values[f"lag {axis}"] = lag_one_ratio(mine, true, axis)
    return values


def _side_by_side(volumes: Sequence[NDArray[Any]], axis: str) -> NDArray[Any]:
    """Join volumes along another axis than the one that is looked at."""
    return np.concatenate(volumes, axis=2 if axis == "x" else 3)
