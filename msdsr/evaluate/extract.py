"""From crops of a volume to features."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msdsr.evaluate.slices import picture
from msdsr.evaluate.sources import Source
from msdsr.metrics.inception import Inception
from msdsr.progress import Bar
from msdsr.volume import Region

KEY_BYTES = 16
"""Of the SHA-256 of a picture: two different ones share it never in practice."""


class Extractor:
    """Shows crops to Inception, each different picture once.

    Acquired planes are the same in every restored volume, so most of the XY crops of one method
    have been seen with another.

    Parameters
    ----------
    network
        The feature network.
    bar
        Told of every crop.
    """

    def __init__(self, network: Inception, bar: Bar) -> None:
        self._network, self._bar = network, bar
        self._seen: dict[bytes, NDArray[np.floating[Any]]] = {}

    def __call__(
        self,
        source: Source,
        places: Mapping[str, Sequence[Region]],
        show: Callable[[NDArray[Any]], NDArray[np.uint8]],
    ) -> dict[str, list[bytes]]:
        """Show the crops of a volume to the network.

        Parameters
        ----------
        source
            The volume.
        places
            Of its crops, by plane.
        show
            From raw intensities (c, rows, columns) to a uint8 picture (3, rows, columns).

        Returns
        -------
        dict
            A key for each crop, by plane; `rows` gives the features that belong to keys. Equal
            pictures have equal keys.
        """
        keys: dict[str, list[bytes]] = {plane: [] for plane in places}
        new: dict[bytes, NDArray[np.uint8]] = {}
        for plane, regions in places.items():
            for region in regions:
                rgb = show(picture(source.read(region), plane))
                key = _key(rgb)
                keys[plane].append(key)
                if key not in self._seen and key not in new:
                    if new and next(iter(new.values())).shape != rgb.shape:
                        self._look(new)
                    new[key] = rgb
                if len(new) >= self._network.batch:
                    self._look(new)
                self._bar.advance()
        self._look(new)
        return keys

    def _look(self, new: dict[bytes, NDArray[np.uint8]]) -> None:
        """Compute the features of new pictures, and forget the pictures."""
        if new:
            features = self._network(np.stack(list(new.values())))
            self._seen.update(zip(new, features, strict=True))
            new.clear()

    def remember(self, keys: Sequence[bytes], rows: NDArray[np.floating[Any]]) -> None:
        """Take features of pictures from an earlier attempt or another method."""
        for key, row in zip(keys, rows, strict=True):
            self._seen.setdefault(key, row)

    def rows(self, keys: Sequence[bytes]) -> NDArray[np.float32]:
        """Return the features of pictures seen, float32, shape (n, D)."""
        if not keys:
            return np.empty((0, 0), np.float32)
        return np.stack([self._seen[key] for key in keys]).astype(np.float32)


def _key(rgb: NDArray[np.uint8]) -> bytes:
    shape = np.array(rgb.shape, np.int32).tobytes()
    return hashlib.sha256(shape + rgb.tobytes()).digest()[:KEY_BYTES]
