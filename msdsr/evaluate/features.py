"""The features of one method, seen one way, on the disk."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from msdsr.evaluate.extract import KEY_BYTES
from msdsr.evaluate.slices import GENERATED
from msdsr.evaluate.views import View, corners
from msdsr.volume import Region

FEATURES = 1
"""Raised when the same crops would give other features: none in a cache are used then."""

FAR = np.iinfo(np.int32).max


def features_file(method: str, view: View) -> str:
    """Return the name of a file of features: ``features-msdsr-v2-window.npz``."""
    return f"features-{method}-{view.protocol}-{view.rescaling}.npz"


@dataclass(frozen=True)
class Features:
    """Features of the crops of one volume, each different picture once.

    Attributes
    ----------
    pictures
        (u, D) float16, one row a picture: 4 KB for Inception's 2048 features. Sums in float64 take
        16.8 MB, so up to some 4,000 pictures rows are smaller, and they serve KID and the drawing
        of patients too. Rounding moves FID in its fifth digit.
    keys
        (u, 16) uint8, a part of each picture's SHA-256.
    index
        By plane: (n,) int32, the row of each crop.
    places
        By plane: (n, 6) int32, z0 z1 y0 y1 x0 x1.
    distance
        By XY plane: (n,) int32, planes from the nearest acquired one.
    """

    pictures: NDArray[np.float16]
    keys: NDArray[np.uint8]
    index: Mapping[str, NDArray[np.int32]]
    places: Mapping[str, NDArray[np.int32]]
    distance: Mapping[str, NDArray[np.int32]]

    @classmethod
    def of(
        cls,
        keys: Mapping[str, Sequence[bytes]],
        rows: NDArray[np.float32],
        places: Mapping[str, Sequence[Region]],
        generated: NDArray[np.bool_] | None,
    ) -> Self:
        """Put together what `Extractor` found.

        Parameters
        ----------
        keys
            Of each crop, by plane.
        rows
            (u, D), the features of the different keys in their order.
        places
            Of the crops, by plane.
        generated
            Which planes were not acquired; None: all were.
        """
        numbers = {key: i for i, key in enumerate(different(keys))}
        index = {p: np.array([numbers[k] for k in ks], np.int32) for p, ks in keys.items()}
        where = {plane: corners(regions) for plane, regions in places.items()}
        distance = {}
        for plane in {"XY", GENERATED} & where.keys():
            z = where[plane][:, 0]
            acquired = z if generated is None else np.flatnonzero(~generated)
            near = np.abs(z[:, None] - acquired).min(axis=1, initial=FAR)
            distance[plane] = near.astype(np.int32)
        joined = np.frombuffer(b"".join(numbers), np.uint8).reshape(-1, KEY_BYTES)
        return cls(rows.astype(np.float16), joined, index, where, distance)

    def rows(self, plane: str) -> NDArray[np.float32]:
        """Return the features of a plane's crops, shape (n, D); none of a plane it lacks."""
        if plane not in self.index:
            return np.empty((0, self.pictures.shape[1]), np.float32)
        return self.pictures[self.index[plane]].astype(np.float32)

    def key_list(self) -> list[bytes]:
        """Return the key of each picture."""
        return [key.tobytes() for key in self.keys]

    def at_distances(self) -> dict[int, NDArray[np.float32]]:
        """Return the features of all XY crops by their planes from the nearest acquired one."""
        seen: dict[tuple[int, ...], tuple[int, int]] = {}
        for plane, distances in self.distance.items():
            rows = zip(self.places[plane], distances, self.index[plane], strict=True)
            for place, far, row in rows:
                seen.setdefault(tuple(int(v) for v in place), (int(far), int(row)))
        found: dict[int, list[int]] = {}
        for far, row in seen.values():
            found.setdefault(far, []).append(row)
        return {far: self.pictures[rows].astype(np.float32) for far, rows in sorted(found.items())}

    def save(self, path: Path) -> None:
        """Write everything to one npz file, so that it is either there or not."""
        arrays: dict[str, NDArray[Any]] = {"pictures": self.pictures, "keys": self.keys}
        for what in ("index", "places", "distance"):
            for plane, values in getattr(self, what).items():
                arrays[f"{what} {plane}"] = values
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        with unfinished.open("wb") as handle:
            np.savez(handle, **arrays)  # type: ignore[arg-type]
            handle.flush()
            os.fsync(handle.fileno())
        unfinished.replace(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        OSError, KeyError, ValueError, BadZipFile
            When the file is missing or damaged (`DAMAGED`).
        """
        with np.load(path) as file:
            parts: dict[str, dict[str, NDArray[Any]]] = {"index": {}, "places": {}, "distance": {}}
            for name in file.files:
                what, _, plane = name.partition(" ")
                if plane:
                    parts[what][plane] = file[name]
            return cls(file["pictures"], file["keys"], **parts)


DAMAGED = (OSError, KeyError, ValueError, EOFError, BadZipFile)
"""What reading a file that is not what it should be may raise."""


def different(keys: Mapping[str, Sequence[bytes]]) -> list[bytes]:
    """Return the different keys of all planes, in their order."""
    return list(dict.fromkeys(key for of_plane in keys.values() for key in of_plane))
