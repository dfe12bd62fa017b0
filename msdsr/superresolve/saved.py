"""A block between two of its steps, on the disk, so that a kill costs minutes and not hours."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file
from torch import Tensor

from msdsr.superresolve.engine import State
from msdsr.superresolve.samples import Samples

FOLDER = "steps"
"""In the work folder: one file for each block that is under way."""

SAMPLES = ".samples"
"""Behind the key of a block, for what its finished samples have come to."""

_TENSORS = ("x", "x0", "done")


@dataclass
class SavedSteps:
    """Saves the block that a process is restoring.

    Attributes
    ----------
    work
        The work folder; what is in it belongs to one plan, so a state fits the walk it is of.
    minutes
        How long a block goes on before it is saved, and again between saves. 0: every step.
    """

    work: Path
    minutes: float

    def _file(self, key: str) -> Path:
        return self.work / FOLDER / f"{key}.safetensors"

    def load(self, key: str, device: torch.device) -> State | None:
        """Return what an earlier attempt left of a block, and start the clock."""
        self._since = time.monotonic()
        try:
            with safe_open(self._file(key), "pt", device=str(device)) as file:
                notes = {name: int(v) for name, v in json.loads(file.metadata()["state"]).items()}
                tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (FileNotFoundError, SafetensorError):
            return None
        return State(
            notes["step"], tensors["x"], tensors.get("x0"), notes["walk"], tensors.get("done")
        )

    def due(self) -> bool:
        """Tell whether the time has come to save."""
        return time.monotonic() - self._since >= 60 * self.minutes

    def save(self, key: str, state: State, *, with_x0: bool) -> None:
        """Write a state so that a kill leaves either the one before or the whole new one.

        Parameters
        ----------
        key
            The block's.
        state
            Of its walk.
        with_x0
            The walk goes on with the last x0 (order 2), so it is saved too.
        """
        tensors = {
            name: tensor.contiguous().cpu()
            for name in _TENSORS
            if (tensor := getattr(state, name)) is not None and (name != "x0" or with_x0)
        }
        notes = {"state": json.dumps({"step": state.step, "walk": state.walk})}
        self._replace(key, lambda temporary: save_file(tensors, temporary, metadata=notes))
        self._since = time.monotonic()

    def _replace(self, key: str, write: Callable[[Path], None]) -> None:
        file = self._file(key)
        file.parent.mkdir(exist_ok=True)
        temporary = file.with_suffix(f".{os.getpid()}.tmp")
        write(temporary)
        _force_to_disk(temporary)
        temporary.replace(file)
        _force_to_disk(file.parent)

    def forget(self, key: str) -> None:
        """Remove what was saved of a block: it is finished."""
        self._file(key).unlink(missing_ok=True)
        self._file(f"{key}{SAMPLES}").unlink(missing_ok=True)

    def load_samples(self, key: str) -> Samples | None:
        """Return the finished samples of a block that an earlier attempt left."""
        try:
            with safe_open(self._file(f"{key}{SAMPLES}"), "numpy") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                return Samples.from_arrays(int(file.metadata()["count"]), arrays)
        except (FileNotFoundError, SafetensorError):
            return None

    def save_samples(self, key: str, samples: Samples) -> None:
        """Write the finished samples of a block, as `save` does a state."""
        count = {"count": str(samples.moments.count)}
        self._replace(f"{key}{SAMPLES}", lambda to: save_arrays(samples.arrays(), to, count))


def _force_to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
