"""What goes on beside the arithmetic of a block: counting, saving, showing, being stopped."""

from __future__ import annotations

import contextlib
import copy
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from msdsr.errors import Stopped
from msdsr.progress import Bar
from msdsr.signals import on_sigterm
from msdsr.superresolve.block import Block
from msdsr.superresolve.engine import State
from msdsr.superresolve.preview import Preview
from msdsr.superresolve.samples import Samples
from msdsr.superresolve.saved import SavedSteps
from msdsr.volume import Region

GRACE_SECONDS = 10.0
"""After SIGTERM, how long a block may go on to the end of a step, where it can be saved."""

STOPPED = "superresolve: stopped; what is done is kept: run again to go on"


class Stop:
    """Whether this process was asked to stop by SIGTERM."""

    def __init__(self) -> None:
        self._since: float | None = None

    @property
    def wanted(self) -> bool:
        """Whether to stop at the next good moment."""
        return self._since is not None

    @property
    def overdue(self) -> bool:
        """Whether to stop at any moment."""
        return self._since is not None and time.monotonic() - self._since > GRACE_SECONDS

    def _terminate(self) -> None:
        self._since = self._since or time.monotonic()

    @contextlib.contextmanager
    def listening(self) -> Iterator[Stop]:
        """Take SIGTERM as a request, not as an end, inside the ``with`` block."""
        with on_sigterm(self._terminate):
            yield self


@dataclass(frozen=True)
class Peaks:
    """The most memory that processes have had so far (MB = 10⁶ bytes)."""

    host_mb: int = 0
    device_mb: int = 0

    @classmethod
    def of_this_process(cls, device: torch.device) -> Peaks:
        """Return the peaks of this process and of its share of a GPU."""
        # Linux counts in KiB.
        host = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)
        if device.type != "cuda":
            return cls(host)
        return cls(host, round(torch.cuda.max_memory_allocated(device) / 1e6))

    def __or__(self, other: Peaks) -> Peaks:
        return Peaks(max(self.host_mb, other.host_mb), max(self.device_mb, other.device_mb))

    def text(self) -> str:
        """Return the peaks for people."""
        gpu = f", GPU {self.device_mb / 1000:.1f} GB" if self.device_mb else ""
        return f"memory {self.host_mb / 1000:.1f} GB{gpu}"


class Display:
    """The bar of a whole run, which one process or several move.

    Parameters
    ----------
    bar
        Shows units and, behind them, the most memory so far.
    """

    def __init__(self, bar: Bar) -> None:
        self._bar, self._peaks = bar, Peaks()

    def advance(self, units: int, peaks: Peaks) -> None:
        """Count units that a process with these peaks has done."""
        self._peaks |= peaks
        self._bar.advance(units, self._peaks.text())

    def skip(self, units: int) -> None:
        """Count units that an earlier attempt had done."""
        self._bar.skip(units)


class Watch:
    """Follows the blocks of one process.

    Parameters
    ----------
    device
        Where its arithmetic runs.
    tell, skip
        Told of every few units that were done, and of those that an earlier attempt had done.
    stop
        Asked between units.
    saved
        Keeps blocks that take long, or nothing.
    preview
        Shows them, or nothing.
    """

    def __init__(
        self,
        device: torch.device,
        tell: Callable[[int], None],
        skip: Callable[[int], None],
        stop: Stop,
        saved: SavedSteps | None = None,
        preview: Preview | None = None,
    ) -> None:
        self.device, self._tell, self.skip, self._stop = device, tell, skip, stop
        self._saved, self._preview = saved, preview
        self._sample = ""

    def for_sample(self, k: int) -> Watch:
        """Return a watch over sample k of the same block, which is saved and shown by itself."""
        other = copy.copy(self)
        other._sample = f".sample-{k}"
        return other

    def _key(self, region: Region) -> str:
        return region.key + self._sample

    def advance(self, count: int = 1) -> None:
        """Count units of work.

        Raises
        ------
        Stopped
            When the process was asked to stop and cannot wait any longer.
        """
        self._tell(count)
        if self._stop.overdue:
            raise Stopped(STOPPED)

    def check(self) -> None:
        """Stop here, if that is wanted.

        Raises
        ------
        Stopped
            When the process was asked to stop.
        """
        if self._stop.wanted:
            raise Stopped(STOPPED)

    def saved_state(self, region: Region) -> State | None:
        """Return where an earlier attempt at a block was."""
        return self._saved.load(self._key(region), self.device) if self._saved else None

    def after_step(self, region: Region, block: Block, state: State, *, order: int) -> None:
        """Save and show a block that has just taken a step, where that is due.

        Parameters
        ----------
        region
            The block without its halo.
        block, state
            What the engine has of it.
        order
            Of the sampler: one of order 2 goes on with the last x0.

        Raises
        ------
        Stopped
            When the process was asked to stop; the state is saved.
        """
        if self._preview is not None and state.x0 is not None and self._preview.wanted(state.step):
            middle = (region.y0 + region.y1) // 2 - block.region.y0
            name = f"{self._key(region)}_walk-{state.walk}_step-{state.step:04}"
            self._preview.write(name, state.x0[:, :, middle], block.acquired)
        if self._saved is not None and (self._saved.due() or self._stop.wanted):
            self._saved.save(self._key(region), state, with_x0=order == 2)
        self.check()

    def finished(self, region: Region) -> None:
        """Forget what was saved of a block, now that it is recorded."""
        if self._saved is not None:
            self._saved.forget(self._key(region))

    def saved_samples(self, region: Region) -> Samples | None:
        """Return the samples of a block that an earlier attempt had finished."""
        return self._saved.load_samples(self._key(region)) if self._saved else None

    def after_sample(self, region: Region, k: int, samples: Samples) -> None:
        """Save the samples of a block up to the k-th, which has just been finished."""
        if self._saved is not None:
            self._saved.save_samples(self._key(region), samples)
            self.for_sample(k).finished(region)
        self.check()
