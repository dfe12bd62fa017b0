"""How sure a difference of two FIDs is: crops drawn again and again, the same ones for both.

Exact, and of crops one by one, from a few hundred of them: for two ways of restoring the same
volumes. What other patients would give is `msdsr.metrics.bootstrap`, which draws whole
patients.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

DRAWS = 100


class Drawn:
    """FID of resampled crops against fixed real ones, from inner products alone.

    Parameters
    ----------
    rows
        (n, D) features of restored crops.
    real
        (m, D) features of real crops.
    """

    def __init__(self, rows: NDArray[np.float32], real: NDArray[np.float32]) -> None:
        x, y = rows.astype(np.float64), real.astype(np.float64)
        origin = y.mean(axis=0)
        x, y = x - origin, y - origin
        self._across = x @ y.T / np.sqrt(len(y) - 1)
        self._within = x @ x.T
        self._real = float((y * y).sum() / (len(y) - 1))

    def fid(self, chosen: NDArray[np.int64]) -> float:
        """Return the FID of the chosen rows (see `msdsr.metrics.fid`)."""
        n = len(chosen)
        across = self._across[chosen]
        across = (across - across.mean(axis=0)) / np.sqrt(n - 1)
        within = self._within[np.ix_(chosen, chosen)]
        step = float(within.mean())
        spread = (float(np.trace(within)) - n * step) / (n - 1)
        roots = np.linalg.eigvalsh(across @ across.T).clip(min=0)
        return step + spread + self._real - 2 * float(np.sqrt(roots).sum())


def differences(
    ways: Mapping[str, Mapping[str, NDArray[np.float32]]],
    against: str,
    real: NDArray[np.float32],
    strata: int,
) -> dict[str, tuple[float, float, float]]:
    """Return SliceFID of every way relative to one of them: (difference, low, high) in parts of 1.

    Crops are resampled with replacement inside each specimen, with the same places for both. The
    interval is the difference ± 1.96 standard deviations of the resampled differences: resampled
    sets hold doubles, which raises both FIDs alike. It tells what other crops of the same volumes
    would give, not what other patients would.
    """
    rng = np.random.default_rng(2024)
    n = len(next(iter(ways[against].values())))
    share = n // strata
    draws = [
        np.concatenate([share * s + rng.integers(0, share, share) for s in range(strata)])
        for _ in range(DRAWS)
    ]
    everything = np.arange(share * strata)
    curves = {}
    for way, by_plane in ways.items():
        sets = [Drawn(rows, real) for rows in by_plane.values()]
        curves[way] = np.array(
            [np.mean([drawn.fid(chosen) for drawn in sets]) for chosen in (everything, *draws)]
        )
    base = curves[against]
    found = {}
    for way, curve in curves.items():
        apart = (curve - base) / base[0]
        margin = 1.96 * float(np.std(apart[1:], ddof=1))
        found[way] = (float(apart[0]), float(apart[0]) - margin, float(apart[0]) + margin)
    return found
