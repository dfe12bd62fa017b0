"""What the figures of a cohort come to, in a line a method."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from msdsr.evaluate.distances import FID, MEAN
from msdsr.evaluate.floor import REAL
from msdsr.evaluate.slices import PLANES

Values = dict[tuple[str, str], tuple[float, float, float, int]]


def summary_lines(metrics: str | Path) -> list[str]:
    """Return SliceFID of every method with its interval, its worst plane and the floor.

    Parameters
    ----------
    metrics
        What `evaluate_cohort` published.

    Returns
    -------
    list of str
        One line a factor, a protocol with its rescaling, and a method, such as
        ``2× v2/window msdsr: SliceFID 41.2 (38.0 to 44.9), worst XZ 52.3; floor 12.1``.
    """
    table = pd.read_parquet(Path(metrics) / "slicefid.parquet")
    table = table[table["metric"] == FID]
    lines: list[str] = []
    keys = ["factor", "protocol", "rescaling"]
    for (factor, protocol, rescaling), part in table.groupby(keys, sort=False):
        columns = part[["method", "plane", "value", "low", "high", "n"]]
        values: Values = {
            (str(method), str(plane)): (float(value), float(low), float(high), int(n))
            for method, plane, value, low, high, n in columns.itertuples(index=False)
        }
        view = f"{factor}× {protocol}/{rescaling}"
        lines += [f"{view} {line}" for line in _lines(values)]
    return lines


def _lines(values: Values) -> Iterator[str]:
    floor = f"; floor {values[REAL, 'XY'][0]:.1f}" if (REAL, "XY") in values else ""
    for method in dict.fromkeys(m for m, plane in values if plane == MEAN):
        value, low, high, _ = values[method, MEAN]
        between = f" ({low:.1f} to {high:.1f})" if np.isfinite(low) else " (no interval)"
        worst = max(PLANES, key=lambda plane: values[method, plane][0])
        yield (
            f"{method}: SliceFID {value:.1f}{between}, worst {worst} "
            f"{values[method, worst][0]:.1f}{floor}"
        )
