"""What goes on beside the arithmetic of a block: counting, and being asked to stop."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from msdsr.errors import Stopped

GRACE_SECONDS = 10.0
"""After SIGTERM, how long a block may go on to the end of a step, where it can be saved."""


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

    def _terminate(self, signum: int, frame: FrameType | None) -> None:
        self._since = self._since or time.monotonic()

    @contextlib.contextmanager
    def listening(self) -> Iterator[Stop]:
        """Take SIGTERM as a request, not as an end, inside the ``with`` block."""
        if threading.current_thread() is not threading.main_thread():
            # Only the main thread may handle signals.
            yield self
            return
        before = signal.signal(signal.SIGTERM, self._terminate)
        try:
            yield self
        finally:
            signal.signal(signal.SIGTERM, before)


class Watch:
    """Follows the blocks of one process.

    Parameters
    ----------
    count
        Told of every few units that were done.
    stop
        Asked between units.
    """

    def __init__(self, count: Callable[[int], None], stop: Stop) -> None:
        self._count, self._stop = count, stop
        self.units = 0

    def advance(self, count: int = 1) -> None:
        """Count units of work.

        Raises
        ------
        Stopped
            When the process was asked to stop and cannot wait any longer.
        """
        self.units += count
        self._count(count)
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


STOPPED = "superresolve: stopped; what is done is kept: run again to go on"
