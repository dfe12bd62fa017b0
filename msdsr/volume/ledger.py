"""An append-only record of finished keys, one JSON object a line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from msdsr.manifest import write_text_atomically

Entry = dict[str, Any]


class Ledger:
    """The ledger of one process; others may read it at any moment.

    A kill can tear the last line. Readers leave it out, and the next writer cuts it off, since what
    follows must start on a line of its own.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._healed = False

    def read(self) -> list[tuple[str, Entry]]:
        """Return the whole entries in their order: key, and what was noted of it."""
        return self._read()[0]

    def _read(self) -> tuple[list[tuple[str, Entry]], int]:
        """Return the whole entries, and the byte after the last of them."""
        entries: list[tuple[str, Entry]] = []
        end = 0
        try:
            handle = self.path.open("rb")
        except FileNotFoundError:
            return entries, end
        with handle:
            for line in handle:
                if not line.endswith(b"\n"):
                    break
                try:
                    entry = json.loads(line)
                    key = entry.pop("key")
                except (json.JSONDecodeError, KeyError, AttributeError):
                    break
                end += len(line)
                entries.append((str(key), entry))
        return entries, end

    def append(self, key: str, **info: Any) -> None:
        """Add one entry and force it to the disk."""
        if not self._healed:
            self._heal()
        line = json.dumps({"key": key, **info}, default=str) + "\n"
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(line)
            handle.flush()
            os.fsync(handle.fileno())

    def rewrite(self, entries: Iterable[tuple[str, Entry]]) -> None:
        """Replace all entries at one stroke."""
        lines = [json.dumps({"key": key, **info}, default=str) + "\n" for key, info in entries]
        write_text_atomically(self.path, "".join(lines))

    def _heal(self) -> None:
        end = self._read()[1]
        if self.path.exists() and self.path.stat().st_size > end:
            os.truncate(self.path, end)
        self._healed = True
