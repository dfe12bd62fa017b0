"""Where the numbers come from: the manifests of a run, one entry a stage."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msdsr.manifest import Manifest, fingerprint, identity

MOST_PRODUCTS = 50
ENERGY = "energy_kwh"
ORDER = (
    "phantom",
    "fetch",
    "ingest",
    "patch",
    "denoise",
    "images",
    "trainset",
    "train",
    "superresolve",
    "reference",
    "evaluate",
)


@dataclass(frozen=True)
class Product:
    """One product of a stage."""

    path: str
    seconds: str
    device: str
    seed: str
    identity: str
    created: str


@dataclass(frozen=True)
class Stage:
    """What one stage did in this run, all its products together."""

    name: str
    algorithm: str
    count: int
    seconds: str
    devices: str
    settings: tuple[str, ...]
    products: tuple[Product, ...]
    left_out: int


def duration(seconds: float) -> str:
    """Return seconds in words of the size a reader thinks in."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def stages(manifests: Sequence[tuple[Path, Manifest]]) -> list[Stage]:
    """Return the stages in the order in which data passes through them."""
    known = {name: i for i, name in enumerate(ORDER)}
    names = dict.fromkeys(m.stage for _, m in manifests)
    return [
        _stage(name, [(path, m) for path, m in manifests if m.stage == name])
        for name in sorted(names, key=lambda n: known.get(n, len(known)))
    ]


def _stage(name: str, members: Sequence[tuple[Path, Manifest]]) -> Stage:
    settings = {fingerprint(m.settings): m.settings for _, m in members if m.settings}
    shown = members[:MOST_PRODUCTS]
    return Stage(
        name,
        ", ".join(sorted({str(m.algorithm) for _, m in members})),
        len(members),
        duration(sum(m.seconds for _, m in members)),
        _joined(m.device for _, m in members),
        tuple(json.dumps(each, indent=2, ensure_ascii=False) for each in settings.values()),
        tuple(
            Product(
                str(path.parent / m.product) if m.product else str(path),
                duration(m.seconds),
                m.device,
                "–" if m.seed is None else str(m.seed),
                identity(path)[:12],
                m.created,
            )
            for path, m in shown
        ),
        len(members) - len(shown),
    )


def gpu_hours(manifests: Iterable[Manifest]) -> float:
    """Return the hours that GPUs were held: wall-clock time by the devices a manifest names."""
    devices = ((m.seconds, [d for d in m.device.split(", ") if d != "cpu"]) for m in manifests)
    return sum(seconds * len(names) for seconds, names in devices) / 3600


def energy(manifests: Iterable[Manifest]) -> float | None:
    """Return the energy (kWh) that stages measured; None where none of them did."""
    found = [m.measured[ENERGY] for m in manifests if ENERGY in m.measured]
    return sum(map(float, found)) if found else None


def models(manifests: Iterable[Manifest]) -> list[tuple[str, str]]:
    """Return each method that a network restored with, and the SHA-256 of its weights."""
    found = {
        (str(m.settings.get("method", "")), m.inputs["weights"])
        for m in manifests
        if m.stage == "superresolve" and "weights" in m.inputs
    }
    return sorted(found)


def versions(manifests: Iterable[Manifest]) -> list[tuple[str, str]]:
    """Return every package and the version, or versions, that the products were made with."""
    found: dict[str, list[Any]] = {}
    for manifest in manifests:
        for name, version in manifest.versions.items():
            found.setdefault(name, []).append(version)
    return [(name, _joined(each)) for name, each in sorted(found.items())]


def _joined(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))
