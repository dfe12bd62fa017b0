"""What a user got wrong, told in one line, with exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

EXIT_USER_ERROR = 2
"""The input, the configuration or the request is wrong; running again will not help."""

EXIT_RESUME = 75
"""Stopped in good order before the end (SIGTERM, budget); run again to go on (EX_TEMPFAIL)."""


class UserError(Exception):
    """Something the user can put right.

    Parameters
    ----------
    where
        The file, the key or the option that is wrong.
    found
        What was found there.
    expected
        What should have been there.
    fix
        What to do about it.
    """

    def __init__(
        self, where: str | Path, found: str, expected: str | None = None, fix: str | None = None
    ) -> None:
        self.where = str(where)
        self.found = found
        self.expected = expected
        self.fix = fix
        super().__init__(self.line())

    def line(self) -> str:
        """Return the whole message as one line."""
        parts = [f"{self.where}: {self.found}"]
        if self.expected:
            parts.append(f"expected {self.expected}")
        if self.fix:
            parts.append(self.fix)
        return " ".join("; ".join(parts).split())


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word most like ``word``, or None when nothing comes near."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return matches[0] if matches else None


def require_file(path: str | Path, fix: str = "check the path") -> Path:
    """Return ``path`` as a Path, or refuse it when nothing is there.

    Raises
    ------
    UserError
        When the path does not exist.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(path, "no such file or folder", "an existing path", fix)
    return path


class Stopped(Exception):  # noqa: N818 - it is no error
    """A long stage stopped in good order before its end; the same command goes on (code 75)."""
