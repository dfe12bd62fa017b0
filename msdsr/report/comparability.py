"""Whether the numbers of two cohorts may be compared, and what else is different."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from msdsr.report.sides import Side, joined


@dataclass(frozen=True)
class Fact:
    """Something that stands on both sides."""

    name: str
    a: str
    b: str

    @property
    def same(self) -> bool:
        """Whether both say the same."""
        return self.a == self.b


@dataclass(frozen=True)
class Judgement:
    """What of the numbers may be compared.

    Attributes
    ----------
    distances
        Why FID, KID and MMD may not be compared; empty where they may.
    window
        Why those on one fixed window may not, though others may.
    scores
        Why PSNR, SSIM and NRMSE may not be compared.
    notes
        What limits any comparison.
    """

    distances: tuple[str, ...]
    window: tuple[str, ...]
    scores: tuple[str, ...]
    notes: tuple[str, ...]


def judge(a: Side, b: Side) -> Judgement:
    """Tell what of two cohorts' numbers may be compared."""
    distances = _different(
        a,
        b,
        {
            "inception_sha256": "another Inception network",
            "crop": "crops of another size",
            "channels": "other channels",
            "pixel_um": "another pixel size",
            "reference_slides": "another reference of real images",
            "reference_images": "another number of real images",
        },
    )
    window = _different(a, b, {"window": "another window of intensities"})
    scores = _different(
        a, b, {"channels": "other channels", "data_range": "another data range (PSNR, SSIM, NRMSE)"}
    )
    notes = []
    mine, yours = set(a.summary["slides"]), set(b.summary["slides"])
    if mine != yours:
        shared = len(mine & yours)
        notes.append(
            f"The cohorts hold different slides ({len(mine)} and {len(yours)}, {shared} of the "
            "same name): a difference may be one of the tissue as well as one of the method."
        )
    versions = [s.evaluation.algorithm for s in (a, b) if s.evaluation is not None]
    if len(set(versions)) > 1:
        text = f"evaluated by another version of the evaluation ({versions[0]} and {versions[1]})"
        distances, scores = [*distances, text], [*scores, text]
    return Judgement(tuple(distances), tuple(window), tuple(scores), tuple(notes))


def _different(a: Side, b: Side, keys: Mapping[str, str]) -> list[str]:
    return [
        f"{text}: {_shown(a.summary.get(key))} and {_shown(b.summary.get(key))}"
        for key, text in keys.items()
        if a.summary.get(key) != b.summary.get(key)
    ]


def _shown(value: Any) -> str:
    if value is None:
        return "not stated"
    if isinstance(value, str):
        return value[:16]
    if isinstance(value, list):
        return joined(value)
    if isinstance(value, dict):
        return "; ".join(f"{key} {_shown(each)}" for key, each in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def facts(a: Side, b: Side) -> list[Fact]:
    """Return what was measured, on what, by which models and with which software, side by side."""
    by_summary: dict[str, Callable[[Mapping[str, Any]], Any]] = {
        "slides": lambda s: len(s["slides"]),
        "patients": lambda s: len(s["patients"]),
        "factors": lambda s: joined(f"{f}×" for f in s["factors"]),
        "methods": lambda s: joined(s["methods"], 12),
        "channels": lambda s: _shown(s.get("channels")),
        "pixel size (µm)": lambda s: _shown(s.get("pixel_um")),
        "reference": lambda s: (
            f"{_shown(s.get('reference_images'))} crops of {_shown(s.get('crop'))}² pixels, slides "
            f"{_shown(s.get('reference_slides'))}"
        ),
        "crops of a slide and plane, at most": lambda s: _shown(s.get("max_images")),
        "window of intensities": lambda s: _shown(s.get("window")),
        "Inception network": lambda s: _shown(s.get("inception_sha256")),
        "protocols": lambda s: _shown(s.get("protocols", s.get("protocol"))),
        "intervals": lambda s: _shown(s.get("intervals")),
    }
    found = [
        Fact(name, str(read(a.summary)), str(read(b.summary))) for name, read in by_summary.items()
    ]
    return found + _records(a, b)


def _records(a: Side, b: Side) -> list[Fact]:
    """Return models, settings and software of the restored volumes, of every method and factor."""
    sides = [_gathered(a), _gathered(b)]
    keys = sorted(set(sides[0]) | set(sides[1]))
    return [Fact(key, *(joined(side.get(key, ["–"])) for side in sides)) for key in keys]


def _gathered(side: Side) -> dict[str, list[str]]:
    """Return the values of every fact of a side's manifests, each once, by the fact's name."""
    found: dict[str, dict[str, None]] = {}

    def note(name: str, values: Iterable[str]) -> None:
        found.setdefault(name, {}).update(dict.fromkeys(values))

    for what, record in side.records():
        note(f"{what}: algorithm", [str(record.algorithm)])
        note(f"{what}: seed", ["–" if record.seed is None else str(record.seed)])
        models = [v[:12] for k, v in record.inputs.items() if k in ("model", "weights")]
        if models:
            note(f"{what}: model", models)
        for key, value in record.settings.items():
            note(f"{what}: {key}", [json.dumps(value, ensure_ascii=False)])
    records = [record for _, record in side.records()]
    for record in [*records, *([side.evaluation] if side.evaluation else [])]:
        for name, version in record.versions.items():
            note(f"software: {name}", [version])
    return {name: list(values) for name, values in found.items()}
