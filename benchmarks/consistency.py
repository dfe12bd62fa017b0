"""How XZ and YZ slices should be brought together: every mode, step by step, against the truth.

The same trained weights restore the same volumes in every mode of `superresolve`, at 2×, 4× and
8×; whole volumes are known (benchmarks/beds.py). A row is kept as soon as it is finished, so a
killed run goes on, and nothing is computed twice.

    python benchmarks/consistency.py phantom blastocyst tuning [--results results] [--minutes 60]
    python benchmarks/consistency_write.py
    python benchmarks/consistency_pictures.py

Needs results/resources/inception.pt, and for the blastocyst what `make example` leaves. The rows
become benchmarks/results/consistency.json and .csv, and pictures in docs/pictures/.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import beds
import numpy as np
import scoring
import torch
from numpy.typing import NDArray

from msdsr.diffusion.denoiser import NetworkDenoiser
from msdsr.diffusion.network import Model, load_model
from msdsr.superresolve.engine import Block, Mode, Tiling, Walk, restore
from msdsr.volume import Region, acquired_rows
from msdsr.volume.interpolate import interpolate

CACHE = beds.REPOSITORY / "benchmarks/.cache/consistency"
INTERPOLATIONS = ("nearest", "linear", "cubic")
BATCH = 64
SEED = 2024


@dataclass(frozen=True)
class Way:
    """One way to fill a volume; of an interpolation only the mode counts."""

    mode: str
    steps: int = 0
    noise_strength: float = 0.0
    noise_length: float = 2.0
    eta: float = 1.0
    sigma_max: float = 80.0
    order: int = 1

    @property
    def key(self) -> str:
        """A name for files and tables."""
        parts = [self.mode] + ([str(self.steps)] if self.steps else [])
        if self.noise_strength:
            parts.append(f"k{self.noise_strength:g}l{self.noise_length:g}")
        parts += [f"eta{self.eta:g}"] if self.eta != 1 else []
        parts += [f"s{self.sigma_max:g}"] if self.sigma_max != 80 else []
        parts += [f"o{self.order}"] if self.order != 1 else []
        return "-".join(parts)

    @property
    def evaluations(self) -> int:
        """Network evaluations that each voxel takes part in."""
        return self.steps * (2 if self.mode in ("average", "joint") else 1)


def ways(mode: str, *steps: int, **options: float) -> list[Way]:
    """Return one mode at several numbers of steps."""
    return [Way(mode, n, **options) for n in steps]  # type: ignore[arg-type]


CORRELATED = {"noise_strength": 0.5, "noise_length": 2.0}
BASELINES = [Way("truth"), *(Way(name) for name in INTERPOLATIONS)]
DECISIVE = [
    *BASELINES,
    *ways("average", 200),
    *ways("alternate", 20, 12),
    *ways("alternate", 12, 20, **CORRELATED),
    *ways("joint", 12),
    *ways("average", 12, 20),
    *ways("alternate", 8),
    *ways("joint", 20, 8),
    *ways("alternate", 60),
    *ways("average", 8),
    *ways("xz", 200),
    *ways("alternate", 8, **CORRELATED),
]
REDUCED = [
    *BASELINES,
    *ways("average", 200),
    *ways("alternate", 12, 20, **CORRELATED),
    *ways("alternate", 12, 20),
    *ways("joint", 12),
    *ways("average", 12),
    *ways("alternate", 8, **CORRELATED),
    *ways("xz", 200),
    *ways("alternate", 60),
]
REST = [
    *ways("alternate", 4),
    *ways("joint", 4),
    *ways("average", 4, 60),
    *ways("alternate", 60, **CORRELATED),
    *ways("joint", 60),
    *ways("yz", 200),
    *ways("alternate", 4, **CORRELATED),
    *ways("xz", 20, 12, 8, 4, 60),
    *ways("yz", 20, 12, 8, 4, 60),
    *ways("alternate", 200),
    *ways("alternate", 200, **CORRELATED),
    *ways("joint", 200),
]


TUNING = [
    *ways("alternate", 12, **CORRELATED),
    *ways("alternate", 12, sigma_max=20.0, **CORRELATED),
    *ways("alternate", 12, noise_strength=0.8, noise_length=2.0),
    *ways("alternate", 16, **CORRELATED),
    *ways("alternate", 12, noise_strength=0.5, noise_length=4.0),
    *ways("alternate", 12, eta=0.7, **CORRELATED),
    *ways("joint", 8, order=2),
    *ways("alternate", 12, noise_strength=0.5, noise_length=1.0),
    *ways("alternate", 12),
]
"""Tried on the patients beds.TUNING, which no table of modes shows."""


class Bench:
    """One bed, its model, and the rows that are there already."""

    def __init__(self, bed: beds.Bed, inception: Path, cache: Path = CACHE) -> None:
        self.bed, self.cache = bed, cache / bed.name
        self.cache.mkdir(parents=True, exist_ok=True)
        self.model: Model = load_model(bed.model)
        self.denoiser = NetworkDenoiser(self.model, "bfloat16")
        self.seer = scoring.Seer(scoring.HalfInception(inception))
        self.real = beds.real_images(bed, self.seer)
        self.ledger = self.cache / "rows.jsonl"
        lines = self.ledger.read_text().splitlines() if self.ledger.exists() else []
        self.done = {(row["factor"], row["way"]) for row in map(json.loads, lines)}

    def row(self, way: Way, factor: int) -> None:
        """Restore, score and note one row, unless it is there."""
        if (factor, way.key) in self.done:
            return
        volumes, seconds = self.volumes(way, factor)
        acquired = np.zeros(beds.PLANES, bool)
        acquired[::factor] = True
        start = time.monotonic()
        features = scoring.see(self.bed, volumes, acquired, self.real, self.seer)
        np.savez(self._file("features", way, factor), **features.by_plane)
        row: dict[str, Any] = {
            "bed": self.bed.name, "factor": factor, "way": way.key, **asdict(way),
            "evaluations": way.evaluations, "seconds": round(seconds, 2),
            **scoring.distances(features, self.real),
            **scoring.paired(self.bed.specimens, volumes, acquired, self.real),
            **scoring.texture(self.bed.specimens, volumes, acquired),
            "crops": len(features.by_plane["XY"]),
        }  # fmt: skip
        with self.ledger.open("a") as handle:
            handle.write(json.dumps(row) + "\n")
        self.done.add((factor, way.key))
        decibels, lags = (
            " ".join(f"{row[f'{name} {axis}']:4.2f}" for axis in "zyx")
            for name in ("spectrum", "lag")
        )
        print(
            f"{self.bed.name} {factor}x {way.key:22s} SliceFID {row['SliceFID']:6.1f} "
            f"XY {row['FID XY']:6.1f} XZ {row['FID XZ']:6.1f} YZ {row['FID YZ']:6.1f}  "
            f"PSNR {row.get('PSNR', 0):5.2f}  dB {decibels}  lag {lags}  "
            f"{seconds:5.1f} + {time.monotonic() - start:4.1f} s",
            flush=True,
        )

    def volumes(self, way: Way, factor: int) -> tuple[list[NDArray[Any]], float]:
        """Return the restored specimens, and the seconds that the network took for all of them."""
        if way.mode == "truth":
            return [s.imaged for s in self.bed.specimens], 0.0
        if way.mode in INTERPOLATIONS:
            start = time.monotonic()
            given = [s.imaged[:, ::factor] for s in self.bed.specimens]
            made = [interpolate(g, factor, way.mode) for g in given]  # type: ignore[arg-type]
            return made, time.monotonic() - start
        if way.mode == "average":
            each = [self.volumes(Way(p, *_rest(way)), factor) for p in ("xz", "yz")]
            pairs = zip(*(volumes for volumes, _ in each), strict=True)
            means = [_mean(a, b) for a, b in pairs]
            return means, sum(seconds for _, seconds in each)
        path = self._file("volumes", way, factor)
        if not path.exists():
            start = time.monotonic()
            made = [self._restore(s, way, factor) for s in self.bed.specimens]
            seconds = time.monotonic() - start
            np.savez(path.with_suffix(".part.npz"), seconds=seconds, volumes=np.stack(made))
            path.with_suffix(".part.npz").rename(path)
        with np.load(path) as file:
            return list(file["volumes"]), float(file["seconds"])

    def _restore(self, specimen: beds.Specimen, way: Way, factor: int) -> NDArray[Any]:
        size = self.model.image_size
        given = specimen.imaged[:, ::factor]
        channels, _, rows, columns = specimen.imaged.shape
        above = (size - beds.PLANES) // 2
        where = above + torch.from_numpy(acquired_rows(given.shape[1], factor))
        known = self.model.transform.forward(torch.from_numpy(given.astype(np.float32)), 0)
        clean, mask = (
            torch.zeros(channels, size, rows, columns),
            torch.zeros(size, dtype=torch.bool),
        )
        clean[:, where], mask[where] = known, True
        block = Block(clean, mask, Region(-above, size - above, 0, rows, 0, columns), rows, columns)
        mode: Mode = way.mode  # type: ignore[assignment]
        tiling = Tiling(size, min(40, size), BATCH)
        restored = restore(self.denoiser, block, mode, self._walk(way), tiling)
        inside = restored[:, above : above + beds.PLANES]
        raw = self.model.transform.inverse(inside, channel_axis=0).numpy()
        limits = np.iinfo(specimen.imaged.dtype)
        voxels = np.clip(np.rint(raw), limits.min, limits.max).astype(specimen.imaged.dtype)
        voxels[:, ::factor] = given
        return voxels

    def _walk(self, way: Way) -> Walk:
        grid = self.model.sigma_grid(way.steps, way.sigma_max)
        options: dict[str, Any] = {"order": way.order} if way.order != 1 else {}
        return Walk(grid, way.eta, SEED, way.noise_length, way.noise_strength, **options)

    def _file(self, kind: str, way: Way, factor: int) -> Path:
        folder = self.cache / kind
        folder.mkdir(exist_ok=True)
        return folder / f"{factor}x-{way.key}.npz"


def _rest(way: Way) -> tuple[Any, ...]:
    return tuple(asdict(way).values())[1:]


def _mean(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """Return the mean of two volumes (Eq. 9), rounded."""
    return np.rint((a.astype(np.float64) + b) / 2).astype(a.dtype)


def plan(names: Sequence[str]) -> Iterator[tuple[str, int, Way]]:
    """Yield what is to be done: what decides first."""
    if "phantom" in names:
        for factor in (4, 8, 2):
            yield from (("phantom", factor, way) for way in DECISIVE)
    if "tuning" in names:
        for way in TUNING:
            yield from (("tuning", factor, way) for factor in (4, 8))
    if "blastocyst" in names:
        for factor in (4, 8, 2):
            yield from (("blastocyst", factor, way) for way in REDUCED)
    for bed in ("phantom", "blastocyst"):
        if bed in names:
            for way in REST:
                yield from ((bed, factor, way) for factor in (4, 8, 2))


def run(names: Sequence[str], results: Path, minutes: float) -> None:
    """Work through the plan until the time is up."""
    end = time.monotonic() + 60 * minutes
    benches: dict[str, Bench] = {}
    for name, factor, way in plan(names):
        if time.monotonic() > end:
            print("time is up; run again to go on")
            return
        if name not in benches:
            benches[name] = Bench(beds.named(name, results), results / "resources/inception.pt")
        benches[name].row(way, factor)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("beds", nargs="+", choices=("phantom", "blastocyst", "tuning"))
    parser.add_argument("--results", type=Path, default=beds.REPOSITORY / "results")
    parser.add_argument("--minutes", type=float, default=1e9)
    given = parser.parse_args()
    torch.set_num_threads(1)
    run(given.beds, given.results, given.minutes)


if __name__ == "__main__":
    main()
