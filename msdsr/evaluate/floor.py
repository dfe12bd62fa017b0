"""What real images score against other real images: no method can be asked to be lower."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msdsr.evaluate.distances import Row, Ruler, figure_row
from msdsr.evaluate.reference import Reference
from msdsr.metrics.bootstrap import UNKNOWN
from msdsr.metrics.features import FeatureSet

REAL = "real"
SPLITS = 5
"""Halvings of the reference whose figures are averaged; fewer where there are no more."""

SMALLEST_PART = 0.25
"""Part of the images that the smaller half has at least: FID of a few says nothing."""


@dataclass(frozen=True)
class Halves:
    """Ways of cutting the reference in two.

    Attributes
    ----------
    by
        What stays together: ``patient``, ``slide`` or ``image``.
    splits
        The rows of each half, once a way.
    """

    by: str
    splits: tuple[tuple[NDArray[np.int64], NDArray[np.int64]], ...]


def halve(reference: Reference, seed: int) -> Halves:
    """Cut the real images in two, several times: by patient, else by slide, else by image.

    A cut that leaves less than a quarter of the images on one side is none. Where only the images
    themselves can be cut in two, overlapping and neighbouring crops are alike, and the floor lies
    too low.
    """
    slide = np.asarray(reference.slide_of_row)
    patients = np.unique(np.asarray(reference.patients), return_inverse=True)[1][slide]
    for by, group in (("patient", patients), ("slide", slide), ("image", np.arange(len(slide)))):
        if splits := tuple(_splits(group, seed)):
            return Halves(by, splits)
    raise ValueError("a floor needs at least two real images")


def _splits(
    group: NDArray[np.integer], seed: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    names, sizes = np.unique(group, return_counts=True)
    seen: set[frozenset[int]] = set()
    for number in range(4 * SPLITS):
        order = np.random.default_rng([seed, number]).permutation(len(names))
        before = np.cumsum(sizes[order]) - sizes[order]
        # A group goes to the first half if its middle does; each half has at least one.
        first = before + sizes[order] / 2 <= len(group) / 2
        first[0], first[-1] = True, False
        part = sizes[order][first].sum() / len(group)
        if not SMALLEST_PART <= part <= 1 - SMALLEST_PART:
            continue
        chosen = frozenset(order[first].tolist())
        if chosen in seen or frozenset(range(len(names))) - chosen in seen:
            continue
        seen.add(chosen)
        inside = np.isin(group, names[order[first]])
        yield np.flatnonzero(inside), np.flatnonzero(~inside)
        if len(seen) == SPLITS:
            return


class Floor:
    """The figures of real against real.

    Parameters
    ----------
    features
        (m, D) of the real images, shown one way.
    halves
        How they are cut in two.
    """

    def __init__(self, features: NDArray[np.float32], halves: Halves) -> None:
        self._features, self._halves = features, halves
        self._known: dict[int, list[Row]] = {}

    def rows(self, images: int) -> list[Row]:
        """Return FID, KID and MMD of one half against the other, mean over the splits.

        Parameters
        ----------
        images
            How many images the methods have. The second half is thinned to as many, since FID
            falls with their number; the first half is used as it is.
        """
        smallest = min(min(len(a), len(b)) for a, b in self._halves.splits)
        n = min(images, smallest)
        if n < 2:
            return []
        if n not in self._known:
            self._known[n] = list(self._measure(n))
        return self._known[n]

    def _measure(self, n: int) -> Iterator[Row]:
        found: dict[str, list[tuple[float, float]]] = {}
        for first, second in self._halves.splits:
            thinned = second[np.linspace(0, len(second) - 1, n).round().astype(int)]
            ruler = Ruler(self._features[first])
            for metric, value, se in ruler.measure(FeatureSet.of(self._features[thinned])):
                found.setdefault(metric, []).append((value, se))
        for metric, values in found.items():
            value, se = (float(v) for v in np.mean(values, axis=0))
            yield figure_row("XY", metric, value, UNKNOWN, se, n)
