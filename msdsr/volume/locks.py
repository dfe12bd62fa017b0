"""Locks of the operating system on files: they fall with the process that held them."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from msdsr.errors import UserError

POLL_SECONDS = 0.05


class Lock:
    """A lock on a file, which is made when it is not there and never removed.

    Parameters
    ----------
    path
        The file.

    Notes
    -----
    ``flock(2)``: another open of the same file, in this process or another, is another owner. On
    NFS the kernel turns it into a lock of the whole file that all nodes see.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._handle: int | None = None

    def acquire(self, *, shared: bool = False, patience: float = 0.0) -> bool:
        """Take the lock, or turn one that is held into the other kind.

        Parameters
        ----------
        shared
            Others may hold it too, as long as all of them share it.
        patience
            Seconds to wait for its holders.

        Returns
        -------
        bool
            Whether it is held now as wished. A lock that could not be turned is held no more.

        Raises
        ------
        UserError
            When the file system has no locks.
        """
        if self._handle is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(self._handle, kind | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    self.release()
                    raise UserError(
                        self.path,
                        f"cannot be locked ({os.strerror(error.errno or 0)})",
                        "a file system with locks",
                        "mount it with them, or keep results/ elsewhere",
                    ) from None
            else:
                return True
            if time.monotonic() >= deadline:
                self.release()
                return False
            time.sleep(POLL_SECONDS)

    def release(self) -> None:
        """Let go of it, if it is held."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
