"""Resume states: written whole or not at all, checked when read, the newest sound one wins."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from msdsr.manifest import sha256_file, write_text_atomically

PREFIX = "state-"


@dataclass
class Progress:
    """Where a training is; saved with the weights.

    ``checked`` is the image count of the last validation of each kind; ``loss_sum`` and ``batches``
    are since the last record; ``nonfinite`` counts skipped batches, ``in_a_row`` those since the
    last good one.
    """

    images: int = 0
    checked: dict[str, int] = field(default_factory=dict)
    loss_sum: float = 0.0
    batches: int = 0
    nonfinite: int = 0
    in_a_row: int = 0


@dataclass(frozen=True)
class Checkpoints:
    """The resume states of one training.

    A state is ``state-<images seen>.pt`` with a seal ``state-<images seen>.json`` that holds its
    SHA-256. The seal is written last, so a state without one was never finished, and a state that
    disagrees with its seal was damaged later.

    Attributes
    ----------
    folder
        Where they are.
    keep
        How many are kept.
    """

    folder: Path
    keep: int

    def save(self, images: int, state: dict[str, Any]) -> Path:
        """Write a state for ``images`` images seen, and drop the oldest beyond ``keep``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{PREFIX}{images:012d}.pt"
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as handle:
            torch.save(state, handle)
            handle.flush()
            os.fsync(handle.fileno())
        digest = sha256_file(temporary)
        temporary.replace(path)
        seal = {"images": images, "sha256": digest}
        write_text_atomically(_seal(path), json.dumps(seal) + "\n")
        self._drop_old(path)
        return path

    def _drop_old(self, newest: Path) -> None:
        kept = _sealed(self.folder)[: self.keep]
        for path in self.folder.glob(f"{PREFIX}*"):
            state = path.with_suffix(".pt")
            if path.suffix != ".damaged" and state not in kept and state.name < newest.name:
                path.unlink()


def newest_state(folder: Path) -> tuple[Path | None, list[str]]:
    """Return the newest sound state, and the names of damaged ones, which are put aside."""
    damaged: list[str] = []
    for path in _sealed(folder):
        if _is_sound(path):
            return path, damaged
        damaged.append(path.name)
        _seal(path).unlink()
        path.rename(path.with_suffix(".damaged"))
    return None, damaged


def read_state(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a state onto a device; nothing but tensors and plain values is unpickled."""
    return dict(torch.load(path, map_location=device, weights_only=True))


def _sealed(folder: Path) -> list[Path]:
    """Return the finished states, newest first."""
    states = sorted(folder.glob(f"{PREFIX}*.pt"), reverse=True)
    return [path for path in states if _seal(path).exists()]


def _seal(path: Path) -> Path:
    return path.with_suffix(".json")


def _is_sound(path: Path) -> bool:
    try:
        seal = json.loads(_seal(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        return False
    return bool(seal.get("sha256") == sha256_file(path))
