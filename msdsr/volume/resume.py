"""Work that survives being killed: a plan, a lock, a ledger, and publication by one rename."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from msdsr.errors import UserError
from msdsr.manifest import (
    Manifest,
    fingerprint,
    manifest_path,
    write_manifest,
    write_text_atomically,
)
from msdsr.volume.ledger import Entry, Ledger
from msdsr.volume.locks import Lock
from msdsr.volume.store import replace_path

PUBLISHING = "publishing"
ATTEMPT = "attempt"
LOCKS = "locks"
ENTRY_SECONDS = 600.0
"""Longest wait for another process that is just preparing the same folder."""


class Work:
    """One stage's work folder, entered with ``with``.

    Parameters
    ----------
    path
        The folder, on the file system of the product.
    plan
        What the work depends on: inputs, settings, weights, algorithm number. Work that was done
        under another plan is set aside, never mixed in.
    part
        Name of the part of the work that this process does; processes of different parts may be in
        the folder at a time, on any node. None: all of it, alone.

    Raises
    ------
    UserError
        When another process works on it, or on this part of it.

    Notes
    -----
    A key is recorded in the ledger only after what it stands for is on the disk; work between two
    records is done again after a kill. Every part has a ledger of its own, and so has every helper
    process (`Helper`); `done` joins them. The locks are the operating system's, so they fall with
    the process that held them.
    """

    def __init__(self, path: str | Path, plan: Mapping[str, Any], part: str | None = None) -> None:
        self.path = Path(path)
        self.plan = dict(plan)
        self.part = part
        self._hash = fingerprint(self.plan)
        self._lock = Lock(self.path.with_name(f"{self.path.name}.lock"))
        self._entry = Lock(self.path.with_name(f"{self.path.name}.entry.lock"))
        self._part_lock = Lock(self.path / LOCKS / f"part-{part}.lock")
        name = "ledger.jsonl" if part is None else f"ledger.part-{part}.jsonl"
        self._ledger = Ledger(self.path / name)
        self._start = time.monotonic()

    def __enter__(self) -> Self:
        with self.preparing():
            try:
                self._enter()
            except BaseException:
                self._let_go()
                raise
        self._start = time.monotonic()
        return self

    @contextlib.contextmanager
    def preparing(self) -> Iterator[None]:
        """Hold the door while something is made that all parts share, such as an empty store.

        Parts may be started at the same moment; inside the ``with`` block there is one at a time.
        """
        if not self._entry.acquire(patience=ENTRY_SECONDS):
            raise self._refusal(self.path)
        try:
            yield
        finally:
            self._entry.release()

    def _enter(self) -> None:
        same = self._found_plan() == self._hash
        shared = same and self.part is not None
        if not self._lock.acquire(shared=shared):
            raise self._refusal(self.path)
        if not same:
            self._set_aside()
        (self.path / LOCKS).mkdir(parents=True, exist_ok=True)
        if not same:
            record = {"hash": self._hash, "plan": self.plan}
            write_text_atomically(self._plan_file, json.dumps(record, indent=2, default=str) + "\n")
        if self.part is None:
            self._undo_publication()
            return
        if not (self._lock.acquire(shared=True) and self._part_lock.acquire()):
            raise self._refusal(f"{self.path}, part {self.part}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.path.exists():
            self.record(ATTEMPT, seconds=time.monotonic() - self._start)
        self._let_go()

    def _let_go(self) -> None:
        self._part_lock.release()
        self._lock.release()

    @staticmethod
    def _refusal(where: str | Path) -> UserError:
        return UserError(
            where,
            "another process works here",
            "one process a work folder, or a part of it",
            "wait for it, or stop it",
        )

    @property
    def _plan_file(self) -> Path:
        return self.path / "plan.json"

    def _found_plan(self) -> str | None:
        try:
            return str(json.loads(self._plan_file.read_text(encoding="utf-8"))["hash"])
        except (FileNotFoundError, json.JSONDecodeError, KeyError):
            return None

    def _set_aside(self) -> None:
        if self.path.exists():
            aside = self.path.with_name(f"{self.path.name}.stale")
            shutil.rmtree(aside, ignore_errors=True)
            self.path.rename(aside)

    def _entries(self) -> list[tuple[str, Entry]]:
        """Return the entries of all ledgers."""
        files = sorted(self.path.glob("ledger*.jsonl"))
        return [entry for file in files for entry in Ledger(file).read()]

    def done(self) -> dict[str, Entry]:
        """Return what was recorded by any process, by key."""
        return {key: info for key, info in self._entries() if key != ATTEMPT}

    def record(self, key: str, **info: Any) -> None:
        """Append one finished key to the ledger and force it to the disk."""
        self._ledger.append(key, **info)

    def claim(self, key: str) -> Lock:
        """Return the lock that a process holds while it works on a key."""
        return claim(self.path, key)

    def seconds(self) -> float:
        """Return the seconds spent on this plan, earlier attempts and all parts included."""
        earlier = sum(float(info["seconds"]) for key, info in self._entries() if key == ATTEMPT)
        return earlier + time.monotonic() - self._start

    def _undo_publication(self) -> None:
        """Take back a publication that was killed between two renames.

        A product that has gone since (Snakemake deletes outputs before it starts a job again) is
        lost; the ledgers may speak of it, so then they are emptied. What else lies in the folder
        stays.
        """
        begun = [info["products"] for key, info in self._entries() if key == PUBLISHING]
        if not begun:
            return
        lost = False
        for source, target in begun[-1]:
            if not Path(source).exists() and Path(target).exists():
                replace_path(Path(target), Path(source))
            lost = lost or not Path(source).exists()
        for file in sorted(self.path.glob("ledger*.jsonl")):
            kept = [
                (key, info)
                for key, info in Ledger(file).read()
                if key == ATTEMPT or not (lost or key == PUBLISHING)
            ]
            Ledger(file).rewrite(kept)

    def _join_ledgers(self) -> None:
        """Make one ledger of all.

        The folder is removed after the publication, file by file; a kill then must not leave a
        ledger that speaks of finished keys without the one that says that all was published.
        """
        own = self._ledger.path
        others = [file for file in self.path.glob("ledger*.jsonl") if file != own]
        if others:
            self._ledger.rewrite(self._entries())
            for file in others:
                file.unlink()

    def publish(self, products: Mapping[Path, Path]) -> None:
        """Rename finished products to their final names and remove the work folder.

        Parameters
        ----------
        products
            From a path in the work folder to its final path, in the order of renaming.
        """
        if self.part is not None:
            raise ValueError("a part of a work publishes nothing")
        missing = [str(source) for source in products if not source.exists()]
        if missing:
            raise FileNotFoundError(f"to be published, but never made: {', '.join(missing)}")
        for source in products:
            _sweep(source)
        self._join_ledgers()
        pairs = [[str(source), str(target)] for source, target in products.items()]
        self.record(PUBLISHING, products=pairs)
        for source, target in products.items():
            replace_path(source, target)
        shutil.rmtree(self.path)

    def publish_product(self, source: Path, target: Path, manifest: Manifest) -> Manifest:
        """Publish one product and, after it, its manifest with the seconds of all attempts."""
        return self.publish_products([(source, target, manifest)])[0]

    def publish_products(self, products: Sequence[tuple[Path, Path, Manifest]]) -> list[Manifest]:
        """Publish products (source, target, manifest), each followed by its manifest."""
        published: list[Manifest] = []
        pairs: dict[Path, Path] = {}
        for source, target, manifest in products:
            timed = manifest.model_copy(update={"seconds": self.seconds(), "product": target.name})
            record = write_manifest(source, timed)
            pairs |= {source: target, record: manifest_path(target)}
            published.append(timed)
        self.publish(pairs)
        return published


def _sweep(product: Path) -> None:
    """Remove what killed writes left in a store: zarr writes to ``….partial`` and renames it."""
    for left in product.rglob("*.partial"):
        left.unlink()


class Helper:
    """A process that helps the one that holds the work folder, with a ledger of its own.

    Parameters
    ----------
    path
        The work folder.
    name
        No other helper of the folder has it, now or later.
    """

    def __init__(self, path: str | Path, name: str) -> None:
        self.path = Path(path)
        self._ledger = Ledger(self.path / f"ledger.{name}.jsonl")

    def done(self) -> dict[str, Entry]:
        """Return what was recorded by any process, by key."""
        found = [e for f in sorted(self.path.glob("ledger*.jsonl")) for e in Ledger(f).read()]
        return {key: info for key, info in found if key != ATTEMPT}

    def record(self, key: str, **info: Any) -> None:
        """Append one finished key to this helper's ledger and force it to the disk."""
        self._ledger.append(key, **info)

    def claim(self, key: str) -> Lock:
        """Return the lock that a process holds while it works on a key."""
        return claim(self.path, key)


def claim(path: Path, key: str) -> Lock:
    """Return the lock of one key of a work folder."""
    return Lock(path / LOCKS / f"{key}.lock")
