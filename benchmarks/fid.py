"""FID without a matrix root: the same figure as with scipy's, in a fraction of the time.

Features are random, of the length that Inception's have, with variances that fall off as theirs do.
Both ways that `msdsr.metrics.fid` goes are timed against ``scipy.linalg.sqrtm`` of the product of
the covariances: fewer images than features (from the rows), and more (from sums alone). Then, with
the Inception network at hand, our FID of the pictures of `fid_images.py` against what
torch-fidelity and pytorch-fid said of them (fid.md).

    python benchmarks/fid.py [INCEPTION.pt]

Writes benchmarks/results/fid.json. Takes some minutes.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from fid_images import COUNT, SIDES, pictures
from numpy.typing import NDArray
from scipy.linalg import sqrtm

from msdsr.metrics.features import FeatureSet, FeatureSums
from msdsr.metrics.fid import fid, frechet_from_rows, frechet_from_sums
from msdsr.metrics.inception import Inception

REPOSITORY = Path(__file__).parents[1]
OUT = REPOSITORY / "benchmarks/results/fid.json"
REFERENCE = REPOSITORY / "tests/metrics/fid_reference.json"
DIMENSIONS = 2048
FEW, MANY = 600, 3000
AGREEMENT, FASTER, APART = 1e-4, 10, 1e-2


def features(n: int, seed: int, shift: float) -> NDArray[np.float32]:
    """Return n rows: not below 0, correlated, of variances that fall off."""
    mixing = np.random.default_rng(0).standard_normal((DIMENSIONS, DIMENSIONS))
    sizes = 1 / np.sqrt(1 + np.arange(DIMENSIONS))
    rows = np.random.default_rng(seed).standard_normal((n, DIMENSIONS)) * sizes
    return np.maximum(rows @ mixing * 0.1 + shift, 0).astype(np.float32)


def by_matrix_root(x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    """Return FID as it is usually worked out, from the rows or from nothing but them."""
    cov_x, cov_y = (np.cov(rows.T.astype(np.float64)) for rows in (x, y))
    step = x.mean(axis=0, dtype=np.float64) - y.mean(axis=0, dtype=np.float64)
    root = sqrtm(cov_x @ cov_y).real
    return float(step @ step + np.trace(cov_x) + np.trace(cov_y) - 2 * np.trace(root))


def timed(run: Callable[[], float], times: int = 3) -> tuple[float, float]:
    """Return what a function gives and how long it takes (s), the shortest of some times."""
    took = []
    for _ in range(times):
        start = time.perf_counter()
        value = run()
        took.append(time.perf_counter() - start)
    return value, min(took)


def measure(n: int) -> dict[str, Any]:
    """Compare both ways for n images a set."""
    x, y = features(n, 1, 0.3), features(n, 2, 0.35)
    ways: dict[str, Callable[[], float]] = {"rows": lambda: frechet_from_rows(x, y)}
    if n > DIMENSIONS:
        sums = [FeatureSums.of(rows) for rows in (x, y)]
        ways = {"sums": lambda: frechet_from_sums(*sums)}
    ((way, run),) = ways.items()
    ours, seconds = timed(run)
    theirs, slow = timed(lambda: by_matrix_root(x, y))
    row = {
        "images": n,
        "way": way,
        "fid": ours,
        "seconds": round(seconds, 3),
        "fid_sqrtm": theirs,
        "seconds_sqrtm": round(slow, 1),
        "relative_difference": abs(ours - theirs) / theirs,
    }
    print(row, flush=True)
    return row


def against_others(inception: str) -> list[dict[str, Any]]:
    """Return our FID of the pictures beside the other packages'."""
    network = Inception(inception, "cpu")
    reference = json.loads(REFERENCE.read_text())["fid"]
    rows = []
    for side in SIDES:
        real, fake = (
            FeatureSet.of(network(pictures(which, side, COUNT))) for which in ("real", "fake")
        )
        rows.append({"side": side, "msdsr": fid(real, fake), **reference[str(side)]})
        print(rows[-1], flush=True)
    return rows


def figures(rows: list[dict[str, Any]], others: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what the page of benchmarks shows."""
    machine = f"{platform.machine()}, {os.environ.get('OMP_NUM_THREADS', 'all')} thread(s)"
    found: list[dict[str, Any]] = []
    for row in rows:
        setting = f"{row['images']} images a set ({row['way']}), D = {DIMENSIONS}"
        found += [
            {
                "what": f"{setting}: relative difference from scipy's sqrtm",
                "value": f"{row['relative_difference']:.1e}",
                "target": f"≤ {AGREEMENT:g}",
                "machine": machine,
            },
            {
                "what": f"{setting}: {row['seconds']:g} s against {row['seconds_sqrtm']:g} s, "
                "times as fast",
                "value": f"{row['seconds_sqrtm'] / row['seconds']:.0f}",
                "target": f"≥ {FASTER}",
                "machine": machine,
            },
        ]
    for row in others:
        for package in [name for name in row if name not in ("side", "msdsr")]:
            found.append(
                {
                    "what": f"{COUNT} + {COUNT} pictures of {row['side']} pixels: our FID "
                    f"{row['msdsr']:.4f}, {package}'s {row[package]:.4f}, apart",
                    "value": f"{abs(row['msdsr'] - row[package]):.1e}",
                    "target": f"≤ {APART:g}" if row["side"] == SIDES[0] else "",
                    "machine": machine,
                }
            )
    return found


def main() -> None:
    """Measure everything and note the figures."""
    rows = [measure(n) for n in (FEW, MANY)]
    others = against_others(sys.argv[1]) if len(sys.argv) > 1 else []
    record = {
        "claim": "FID is scipy's to 1e-4 and at least ten times as fast at 2,048 features, and "
        "torch-fidelity's and pytorch-fid's of the same pictures to 1e-2",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        },
        "square_root": rows,
        "pictures": others,
        "figures": figures(rows, others),
    }
    OUT.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
