"""Features of many slides together, and whose they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msdsr.errors import UserError
from msdsr.evaluate.features import DAMAGED, Features
from msdsr.metrics.features import FeatureSet


class Pool:
    """Images that are judged together.

    Up to 20,000 are kept as rows; beyond, sums stand for all of them and an even sample for what
    sums cannot tell (`FeatureSet`), so a pool takes 0.2 GB whatever the size of the cohort.
    """

    def __init__(self) -> None:
        self.features = FeatureSet()
        self._owners = FeatureSet()

    def add(self, rows: NDArray[np.float32], patient: int) -> None:
        """Add the images of one slide, (n, D), of a patient with this number."""
        self.features.add(rows)
        self._owners.add(np.full((len(rows), 1), patient, np.float32))

    @property
    def n(self) -> int:
        """Number of images."""
        return self.features.n

    @property
    def patient_of_row(self) -> NDArray[np.int64]:
        """Number of the patient of each row of ``features.sample``."""
        return self._owners.sample[:, 0].astype(np.int64)


@dataclass(frozen=True)
class SlideFeatures:
    """Where the features of one slide are."""

    slide: str
    patient: str
    file: Path

    def load(self) -> Features:
        """Read them.

        Raises
        ------
        UserError
            When the file is missing or damaged.
        """
        try:
            return Features.load(self.file)
        except DAMAGED as error:
            raise UserError(
                self.file, f"no features ({error})", "what `msdsr evaluate slide` publishes",
                "evaluate this slide again",
            ) from None  # fmt: skip


@dataclass(frozen=True)
class Pooled:
    """One method, seen one way, over all slides.

    Attributes
    ----------
    planes
        Images by plane.
    distances
        Images of XY crops by planes from the nearest acquired one.
    """

    planes: dict[str, Pool]
    distances: dict[int, Pool]


def pool_slides(
    slides: Iterable[SlideFeatures],
    planes: Sequence[str],
    patients: Sequence[str],
    single: Any = None,
) -> Pooled:
    """Merge slides one after another.

    Parameters
    ----------
    slides
        Where their features are.
    planes
        Kinds of slices.
    patients
        All patients; their numbers are their places here.
    single
        Called with each slide, plane and its rows, for figures of single slides.
    """
    pooled = Pooled({plane: Pool() for plane in planes}, {})
    for one in slides:
        features = one.load()
        patient = patients.index(one.patient)
        for plane in planes:
            rows = features.rows(plane)
            pooled.planes[plane].add(rows, patient)
            if single is not None:
                single(one, plane, rows)
        for distance, rows in features.at_distances().items():
            pooled.distances.setdefault(distance, Pool()).add(rows, patient)
    return pooled
