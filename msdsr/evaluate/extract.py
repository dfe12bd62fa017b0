"""From crops of a volume to features."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from msdsr.evaluate.slices import picture
from msdsr.evaluate.sources import Source
from msdsr.metrics.inception import Inception
from msdsr.progress import Bar
from msdsr.volume import Region
from msdsr.volume.colour import Window, to_rgb8


class Extractor:
    """Shows crops to Inception through one window, each different picture once.

    Acquired planes are the same in every restored volume, so most of the XY crops of one method
    have been seen with another.

    Parameters
    ----------
    network
        The feature network.
    channels, window
        How raw intensities become colours.
    bar
        Told of every crop.
    """

    def __init__(
        self, network: Inception, channels: Sequence[str], window: Window, bar: Bar
    ) -> None:
        self._network, self._channels, self._window, self._bar = network, channels, window, bar
        self._seen: dict[bytes, NDArray[np.float32]] = {}

    def __call__(
        self, source: Source, plane: str, regions: Sequence[Region]
    ) -> NDArray[np.float32]:
        """Return the features of crops, float32, shape (len(regions), D)."""
        rows: list[NDArray[np.float32]] = []
        for start in range(0, len(regions), self._network.batch):
            batch = regions[start : start + self._network.batch]
            rows += self._batch(source, plane, batch)
            self._bar.advance(len(batch))
        return np.stack(rows) if rows else np.empty((0, 0), np.float32)

    def remember(
        self, source: Source, plane: str, regions: Sequence[Region], rows: NDArray[np.float32]
    ) -> None:
        """Take features of crops from an earlier attempt.

        What is left to do is then batched as it would have been without the interruption, so that
        not even the rounding differs.
        """
        for region, row in zip(regions, rows, strict=True):
            self._seen.setdefault(_key(self._show(source, plane, region)), row)

    def _show(self, source: Source, plane: str, region: Region) -> NDArray[np.uint8]:
        return to_rgb8(picture(source.read(region), plane), self._channels, self._window)

    def _batch(
        self, source: Source, plane: str, regions: Sequence[Region]
    ) -> list[NDArray[np.float32]]:
        shown = [self._show(source, plane, region) for region in regions]
        keys = [_key(rgb) for rgb in shown]
        new = {key: rgb for key, rgb in zip(keys, shown, strict=True) if key not in self._seen}
        if new:
            features = self._network(np.stack(list(new.values())))
            self._seen.update(zip(new, features, strict=True))
        return [self._seen[key] for key in keys]


def _key(rgb: NDArray[np.uint8]) -> bytes:
    return hashlib.sha256(rgb.tobytes()).digest()
