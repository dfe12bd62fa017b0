"""Several ranks as one: who takes which part of a batch, and leaving together."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from msdsr.signals import on_sigterm

PATIENCE = timedelta(hours=1)
"""How long ranks wait for each other: rank 0 validates and saves while the others wait."""


@dataclass(frozen=True)
class Ranks:
    """One process among its equals."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this rank speaks, validates and saves for all."""
        return self.rank == 0

    def share(self, batch: int) -> tuple[int, int]:
        """Return this rank's part of a global batch (start, stop); parts differ by one at most."""
        return self.rank * batch // self.world, (self.rank + 1) * batch // self.world

    def sum(self, values: list[float]) -> list[float]:
        """Return the sums of some values over all ranks; the same bits on every rank."""
        if self.world == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return [float(v) for v in total.cpu()]

    def agree(self, value: Any) -> Any:
        """Return rank 0's value on every rank."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def wait(self) -> None:
        """Wait until every rank is here."""
        if self.world > 1:
            self.sum([0.0])


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Join the ranks that torchrun started (its environment variables), or be the only one."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if world == 1:
        yield Ranks(0, 1, device)
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield Ranks(rank, world, device)
    finally:
        dist.destroy_process_group()


class StopRequest:
    """Whether this process was asked to stop: by SIGTERM, or by its time running out.

    Parameters
    ----------
    deadline
        Moment of `time.monotonic` at which all must be on the disk, or None.
    file
        A file that asks to stop by being there, or None.
    """

    def __init__(self, deadline: float | None, file: Path | None = None) -> None:
        self.deadline, self.file = deadline, file
        self._terminated = False

    def wanted(self, reserve: float) -> bool:
        """Tell whether to stop now, if what is left to do takes ``reserve`` seconds."""
        late = self.deadline is not None and time.monotonic() + reserve >= self.deadline
        return self._terminated or late or (self.file is not None and self.file.exists())

    def _terminate(self) -> None:
        self._terminated = True

    @contextlib.contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Take SIGTERM as a request, not as an end, inside the ``with`` block."""
        with on_sigterm(self._terminate):
            yield self
