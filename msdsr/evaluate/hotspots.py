"""Places that somebody should look at: where a restoration is least sure, or least plausible.

A place is a square of XY pixels in one restored plane. Three reasons to look there:

``std``
    Samples differ: the mean standard deviation over the data range.
``distance``
    The acquired planes on both sides differ, so what lies between is least determined by them: the
    root mean square of their difference over √2 σ of the slide. 1: as if they were of unrelated
    places.
``residual``
    Values that neither of the two acquired planes holds nearby: how far they leave the range that
    these planes span within as many pixels as the plane lies away, root mean square over the data
    range. Where CH1, CH2 and CH3 are all there, in its place how far CH1 = CH3 − CH2 + offset is
    from true; the offset is the median of acquired planes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

from msdsr.evaluate.sources import Source
from msdsr.volume import Region

STD, DISTANCE, RESIDUAL = "std", "distance", "residual"
NOTES = {
    STD: "Samples differ most here: mean standard deviation over the data range.",
    DISTANCE: "The acquired planes on both sides differ most here, so what lies between is least "
    "determined: RMS of their difference over √2 σ of the slide (1: as if unrelated).",
    RESIDUAL: "Values here that neither neighbouring acquired plane holds nearby: RMS distance "
    "from the range they span over the data range; where CH1, CH2 and CH3 are there, how far "
    "CH1 = CH3 − CH2 + offset is from true.",
}
RAMAN = ("CH1", "CH2", "CH3")
STRIP_BYTES = 200_000_000
MIN_TISSUE = 0.5


@dataclass(frozen=True)
class Restored:
    """What hotspots are looked for in.

    Attributes
    ----------
    volume
        The restored volume.
    spread
        Standard deviation of its samples, or None.
    acquired
        Rows of the acquired planes, ascending.
    channels
        Names.
    peaks
        Data range of each channel.
    tissue
        (y, x) bool, or None: everywhere.
    """

    volume: Source
    spread: Source | None
    acquired: Sequence[int]
    channels: Sequence[str]
    peaks: Sequence[float]
    tissue: NDArray[np.bool_] | None


def find_hotspots(restored: Restored, side: int, count: int) -> list[dict[str, Any]]:
    """Return the worst places of a volume for each reason, read strip by strip.

    Parameters
    ----------
    restored
        The volume and what belongs to it.
    side
        Of a place (pixels).
    count
        Most places a reason. Of places above each other only the worst is told.

    Returns
    -------
    list of dict
        ``reason``, ``z``, ``y``, ``x`` (centre: plane and pixel of the restored volume), ``side``
        and ``score``, worst first within a reason. Places with less than half tissue are left out,
        and those that score 0.
    """
    maps = _Maps(restored, side)
    for strip in _strips(restored, side):
        maps.add(strip)
    return list(maps.worst(count))


def _strips(restored: Restored, side: int) -> Iterator[tuple[int, int]]:
    """Yield first and last row of strips of whole places."""
    planes, rows, columns = restored.volume.shape_zyx
    bytes_a_row = 3 * 4 * len(restored.channels) * planes * columns
    height = max(1, STRIP_BYTES // (bytes_a_row * side)) * side
    for y in range(0, rows, height):
        yield y, min(y + height, rows)


class _Maps:
    """The score of every place, its plane, and the tissue in it; a few numbers a place."""

    def __init__(self, restored: Restored, side: int) -> None:
        self.restored, self.side = restored, side
        _, rows, columns = restored.volume.shape_zyx
        self.grid = (-(-rows // side), -(-columns // side))
        self.scores = {
            reason: np.zeros(self.grid)
            for reason in (STD, DISTANCE, RESIDUAL)
            if reason != STD or restored.spread is not None
        }
        self.planes = {reason: np.zeros(self.grid, int) for reason in self.scores}
        self.sigma = self._sigma()
        self.offset = self._offset() if set(RAMAN) <= set(restored.channels) else None

    def _middle(self) -> NDArray[np.float32]:
        """Return the acquired plane in the middle, of tissue alone, (c, pixels)."""
        _, rows, columns = self.restored.volume.shape_zyx
        z = self.restored.acquired[len(self.restored.acquired) // 2]
        plane = self.restored.volume.read(Region(z, z + 1, 0, rows, 0, columns))[:, 0]
        tissue = self.restored.tissue
        flat = plane.reshape(len(plane), -1).astype(np.float32)
        return flat[:, tissue.ravel()] if tissue is not None and tissue.any() else flat

    def _sigma(self) -> NDArray[np.float32]:
        sigma = self._middle().std(axis=1)
        return np.where(sigma > 0, sigma, np.inf).astype(np.float32)

    def _raman(self, voxels: NDArray[Any]) -> NDArray[np.float32]:
        """Return CH1 − CH3 + CH2."""
        ch1, ch2, ch3 = (self.restored.channels.index(name) for name in RAMAN)
        values = voxels.astype(np.float32)
        return np.asarray(values[ch1] - values[ch3] + values[ch2])

    def _offset(self) -> float:
        return float(np.median(self._raman(self._middle())))

    def add(self, strip: tuple[int, int]) -> None:
        """Score the places of some rows, gap by gap between acquired planes."""
        r = self.restored
        planes, rows, columns = r.volume.shape_zyx
        widest = max((b - a for a, b in zip(r.acquired, r.acquired[1:], strict=False)), default=0)
        halo = widest // 2
        y0, y1 = max(0, strip[0] - halo), min(rows, strip[1] + halo)
        voxels = r.volume.read(Region(0, planes, y0, y1, 0, columns)).astype(np.float32)
        inside = slice(strip[0] - y0, strip[1] - y0)
        for before, after in zip(r.acquired, r.acquired[1:], strict=False):
            lower, upper = voxels[:, before], voxels[:, after]
            change = ((upper - lower) / (np.sqrt(2) * self.sigma[:, None, None])) ** 2
            self._keep(DISTANCE, strip, (before + after) // 2, change[:, inside].mean(axis=0), 0.5)
            for z in range(before + 1, after):
                reach = min(z - before, after - z)
                excess = self._excess(voxels[:, z], lower, upper, reach)
                self._keep(RESIDUAL, strip, z, excess[inside], 0.5)
        if r.spread is not None:
            spread = r.spread.read(Region(0, planes, *strip, 0, columns))
            scale = np.asarray(r.peaks, np.float32)[:, None, None, None]
            for z, plane in enumerate((spread / scale).mean(axis=0)):
                self._keep(STD, strip, z, plane, 1.0)

    def _excess(
        self,
        plane: NDArray[np.float32],
        lower: NDArray[np.float32],
        upper: NDArray[np.float32],
        reach: int,
    ) -> NDArray[np.float32]:
        """Return the squared residual of a plane over the data range, mean over channels (y, x)."""
        peaks = np.asarray(self.restored.peaks, np.float32)
        if self.offset is not None:
            ch1 = peaks[self.restored.channels.index("CH1")]
            return np.asarray(((self._raman(plane) - self.offset) / ch1) ** 2)
        size = (1, 2 * reach + 1, 2 * reach + 1)
        high = maximum_filter(np.maximum(lower, upper), size, mode="nearest")
        low = minimum_filter(np.minimum(lower, upper), size, mode="nearest")
        beyond = np.maximum(plane - high, 0) + np.maximum(low - plane, 0)
        squared = (beyond / peaks[:, None, None]) ** 2
        return np.asarray(squared.mean(axis=0))

    def _keep(
        self, reason: str, strip: tuple[int, int], z: int, values: NDArray[Any], power: float
    ) -> None:
        """Take the means over places, to a power, where they are the worst so far."""
        first = strip[0] // self.side
        score = place_means(values, self.side) ** power
        rows = slice(first, first + len(score))
        worse = score > self.scores[reason][rows]
        self.scores[reason][rows][worse] = score[worse]
        self.planes[reason][rows][worse] = z

    def worst(self, count: int) -> Iterator[dict[str, Any]]:
        """Yield the places that are told."""
        _, rows, columns = self.restored.volume.shape_zyx
        kept = np.ones(self.grid, bool)
        if self.restored.tissue is not None:
            kept = place_means(self.restored.tissue.astype(float), self.side) >= MIN_TISSUE
        for reason, scores in self.scores.items():
            scored = np.where(kept, scores, 0)
            order = np.argsort(-scored, axis=None, kind="stable")[:count]
            for y, x in zip(*np.unravel_index(order, self.grid), strict=True):
                if scored[y, x] > 0:
                    yield {
                        "reason": reason,
                        "z": int(self.planes[reason][y, x]),
                        "y": (int(y) * self.side + min((int(y) + 1) * self.side, rows)) // 2,
                        "x": (int(x) * self.side + min((int(x) + 1) * self.side, columns)) // 2,
                        "side": self.side,
                        "score": float(scored[y, x]),
                    }


def place_means(values_YX: NDArray[Any], side: int) -> NDArray[np.float64]:
    """Return the mean of every square of ``side`` pixels; those at the end may be smaller."""
    edges = [np.arange(0, length, side) for length in values_YX.shape]
    sums = np.add.reduceat(np.asarray(values_YX, np.float64), edges[0], axis=0)
    sums = np.add.reduceat(sums, edges[1], axis=1)
    sizes = [np.diff(np.append(edge, n)) for edge, n in zip(edges, values_YX.shape, strict=True)]
    means: NDArray[np.float64] = sums / np.outer(*sizes)
    return means
