"""Work that survives being killed: a plan, a lock, a ledger, and publication by one rename."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

from msdsr.errors import UserError
from msdsr.manifest import (
    Manifest,
    fingerprint,
    manifest_path,
    write_manifest,
    write_text_atomically,
)
from msdsr.volume.store import replace_path

PUBLISHING = "publishing"
ATTEMPT = "attempt"


class Work:
    """One stage's work folder, entered with ``with``.

    Parameters
    ----------
    path
        The folder, on the file system of the product.
    plan
        What the work depends on: inputs, settings, weights, algorithm number. Work that was done
        under another plan is set aside, never mixed in.

    Raises
    ------
    UserError
        When another process works on it.

    Notes
    -----
    A key is recorded in the ledger only after what it stands for is on the disk; work between two
    records is done again after a kill. The lock is the operating system's, so it falls with the
    process that held it.
    """

    def __init__(self, path: str | Path, plan: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.plan = dict(plan)
        self._hash = fingerprint(self.plan)
        self._lock = FileLock(self.path.with_name(f"{self.path.name}.lock"))
        self._start = time.monotonic()
        self._done: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                self.path,
                "another process works here",
                "one process a work folder",
                "wait for it, or stop it",
            ) from None
        self._set_aside_other_plans()
        self.path.mkdir(exist_ok=True)
        if not self._plan_file.exists():
            record = {"hash": self._hash, "plan": self.plan}
            write_text_atomically(self._plan_file, json.dumps(record, indent=2, default=str) + "\n")
        self._done = self._read_ledger()
        if PUBLISHING in self._done:
            self._take_back(self._done.pop(PUBLISHING)["products"])
        self._start = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.path.exists():
            self.record(ATTEMPT, seconds=time.monotonic() - self._start)
        self._lock.release()

    @property
    def _plan_file(self) -> Path:
        return self.path / "plan.json"

    @property
    def _ledger_file(self) -> Path:
        return self.path / "ledger.jsonl"

    def _set_aside_other_plans(self) -> None:
        if not self.path.exists():
            return
        try:
            found = json.loads(self._plan_file.read_text(encoding="utf-8"))["hash"]
        except (FileNotFoundError, json.JSONDecodeError, KeyError):
            found = None
        if found == self._hash:
            return
        aside = self.path.with_name(f"{self.path.name}.stale")
        shutil.rmtree(aside, ignore_errors=True)
        self.path.rename(aside)

    def _read_ledger(self) -> dict[str, dict[str, Any]]:
        done: dict[str, dict[str, Any]] = {}
        if not self._ledger_file.exists():
            return done
        with self._ledger_file.open("r+b") as handle:
            end = 0
            for line in handle:
                try:
                    entry = json.loads(line)
                except json.JSONDecodeError:
                    break
                if not line.endswith(b"\n"):
                    break
                end += len(line)
                key = entry.pop("key")
                if key == ATTEMPT:
                    entry["seconds"] += done.get(key, {}).get("seconds", 0.0)
                done[key] = entry
            # A kill can tear the last line; what follows must start on a line of its own.
            handle.truncate(end)
        return done

    def done(self) -> dict[str, dict[str, Any]]:
        """Return what was recorded, by key."""
        return {key: info for key, info in self._done.items() if key != ATTEMPT}

    def record(self, key: str, **info: Any) -> None:
        """Append one finished key to the ledger and force it to the disk."""
        line = json.dumps({"key": key, **info}, default=str) + "\n"
        with self._ledger_file.open("a", encoding="utf-8") as handle:
            handle.write(line)
            handle.flush()
            os.fsync(handle.fileno())
        self._done[key] = info

    def seconds(self) -> float:
        """Return the seconds spent on this plan, earlier attempts included."""
        earlier = float(self._done.get(ATTEMPT, {}).get("seconds", 0.0))
        return earlier + time.monotonic() - self._start

    def _take_back(self, products: list[list[str]]) -> None:
        """Undo a publication that was killed between two renames.

        A product that has gone since (Snakemake deletes outputs before it starts a job again) is
        lost; the ledger may speak of it, so then it is emptied. What else lies in the folder stays.
        """
        lost = False
        for source, target in products:
            if not Path(source).exists() and Path(target).exists():
                replace_path(Path(target), Path(source))
            lost = lost or not Path(source).exists()
        if lost:
            self._done = {k: v for k, v in self._done.items() if k == ATTEMPT}
        lines = [json.dumps({"key": key, **info}) for key, info in self._done.items()]
        write_text_atomically(self._ledger_file, "".join(f"{line}\n" for line in lines))

    def publish(self, products: Mapping[Path, Path]) -> None:
        """Rename finished products to their final names and remove the work folder.

        Parameters
        ----------
        products
            From a path in the work folder to its final path, in the order of renaming.
        """
        missing = [str(source) for source in products if not source.exists()]
        if missing:
            raise FileNotFoundError(f"to be published, but never made: {', '.join(missing)}")
        pairs = [[str(source), str(target)] for source, target in products.items()]
        self.record(PUBLISHING, products=pairs)
        for source, target in products.items():
            replace_path(source, target)
        shutil.rmtree(self.path)

    def publish_product(self, source: Path, target: Path, manifest: Manifest) -> Manifest:
        """Publish one product and, after it, its manifest with the seconds of all attempts."""
        timed = manifest.model_copy(update={"seconds": self.seconds(), "product": target.name})
        record = write_manifest(source, timed)
        self.publish({source: target, record: manifest_path(target)})
        return timed
