"""SIGTERM as a request to stop in good order, not as an end."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def on_sigterm(ask: Callable[[], object]) -> Iterator[None]:
    """Call ``ask`` on SIGTERM inside the ``with`` block, in place of ending.

    Only the main thread may handle signals; in any other this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda signum, frame: ask())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
