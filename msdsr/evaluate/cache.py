"""What was computed once is not computed again: a cache of files by what they depend on.

Snakemake deletes the outputs of a job before it starts it again, and a slide is judged again
whenever a method, a factor, a protocol or a rescaling is added. What was found for the others lives
on in the work folder. A published file and its copy there are one file with two names (a hard
link), so the copies take no space.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msdsr.manifest import fingerprint, write_text_atomically


class Cache:
    """Files by the fingerprint of all that their content depends on.

    Parameters
    ----------
    folder
        Where they are, on the file system of the products; made when there is something to keep.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._used: set[str] = set()

    def path(self, facts: Mapping[str, Any], suffix: str) -> Path:
        """Return where the file that depends on these facts is, or will be."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{fingerprint(facts)[:32]}{suffix}"
        self._used.add(path.name)
        return path

    def read(self, facts: Mapping[str, Any]) -> Any:
        """Return the JSON value that was kept under these facts; None where there is none."""
        try:
            return json.loads(self.path(facts, ".json").read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    def write(self, facts: Mapping[str, Any], value: Any) -> None:
        """Keep a JSON value."""
        write_text_atomically(self.path(facts, ".json"), json.dumps(value) + "\n")

    def forget_unused(self) -> None:
        """Remove what this process neither read nor wrote: of volumes that are no longer there."""
        for path in self._folder.glob("*"):
            if path.name not in self._used and path.is_file():
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()


def publish_link(kept: Path, product: Path) -> None:
    """Give a kept file a second name; a copy where the file system has no hard links."""
    product.unlink(missing_ok=True)
    try:
        os.link(kept, product)
    except OSError:
        shutil.copy2(kept, product)
