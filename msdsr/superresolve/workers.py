"""Several processes of one machine on the blocks of one volume, one GPU each."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from msdsr.errors import Stopped, UserError
from msdsr.manifest import write_text_atomically
from msdsr.superresolve.preview import Preview
from msdsr.superresolve.request import Request
from msdsr.superresolve.watch import GRACE_SECONDS, STOPPED, Display, Peaks, Stop
from msdsr.volume import Region, Work

JOB = "workers.json"
"""In the work folder: what the workers have to do."""

DEATHS_EACH = 3
"""Workers may die this often, times their number, before it is given up."""

POLL_SECONDS = 0.2


def restore_with_workers(
    request: Request,
    job: Work,
    store: Path,
    side: int,
    blocks: Sequence[Region],
    kind: torch.device,
    count: int,
    display: Display,
    stop: Stop,
    preview: Preview | None,
) -> None:
    """Restore blocks with several processes, and return when all are done.

    Workers claim blocks one at a time. When one dies, its claim falls with it: another takes the
    block, and a new worker its place.

    Parameters
    ----------
    request
        What to do; each worker prepares it for itself.
    job
        The work folder; this process holds it.
    store
        The unfinished store.
    side
        Of its blocks.
    blocks
        Those that are missing.
    kind
        ``cuda``: worker i takes GPU i; ``cpu``.
    count
        Workers.
    display
        Told of units of work that were done.
    stop
        Asked now and then.
    preview
        Shows blocks, or nothing.

    Raises
    ------
    UserError
        What a worker raised; or when they die again and again.
    Stopped
        After SIGTERM.
    """
    description = {
        "request": request.to_json(),
        "store": str(store),
        "side": side,
        "blocks": [block.key for block in blocks],
        "device": kind.type,
        "preview": preview and {"folder": str(preview.folder), "every": preview.every},
        "threads": max(1, len(os.sched_getaffinity(0)) // count),
    }
    name = JOB if job.part is None else f"part-{job.part}.{JOB}"
    write_text_atomically(job.path / name, json.dumps(description) + "\n")
    crew = _Crew(job.path / name, count, display)
    deaths = 0
    try:
        while missing := _missing(job, blocks):
            crew.fill_up(min(count, len(missing)))
            for rank, code in crew.wait():
                if code == 0:
                    continue
                deaths += 1
                print(f"superresolve: worker {rank} died ({_how(code)})", file=sys.stderr)
                if deaths > DEATHS_EACH * count:
                    raise UserError(
                        job.path,
                        f"{deaths} workers died (the last: {_how(code)})",
                        "workers that come to an end",
                        "read the log above; run again to go on",
                    )
            if stop.wanted:
                crew.terminate()
                raise Stopped(STOPPED)
    finally:
        crew.kill()


def _missing(job: Work, blocks: Sequence[Region]) -> list[Region]:
    done = job.done()
    return [block for block in blocks if block.key not in done]


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


@dataclass
class _Worker:
    process: subprocess.Popen[str]
    listener: threading.Thread


class _Crew:
    """The living workers, by rank."""

    def __init__(self, job: Path, size: int, display: Display) -> None:
        self.job, self.size, self.display = job, size, display
        self._workers: dict[int, _Worker] = {}
        self._words: queue.Queue[dict[str, Any]] = queue.Queue()

    def fill_up(self, wanted: int) -> None:
        """Start workers until there are as many as wanted."""
        for rank in range(self.size):
            if len(self._workers) >= wanted:
                return
            if rank not in self._workers:
                self._workers[rank] = self._start(rank)

    def _start(self, rank: int) -> _Worker:
        process = subprocess.Popen(
            [sys.executable, "-m", "msdsr.superresolve.worker", str(self.job), str(rank)],
            stdin=subprocess.PIPE,  # closes when this process dies, and ends the worker
            stdout=subprocess.PIPE,
            text=True,
        )
        listener = threading.Thread(target=self._listen, args=(process,), daemon=True)
        listener.start()
        return _Worker(process, listener)

    def _listen(self, process: subprocess.Popen[str]) -> None:
        if process.stdout is not None:
            with process.stdout:
                for line in process.stdout:
                    self._words.put(json.loads(line))

    def wait(self) -> list[tuple[int, int]]:
        """Wait a moment, pass on what workers say, and return (rank, exit code) of the ended.

        Raises
        ------
        UserError
            What a worker raised.
        """
        deadline = time.monotonic() + POLL_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            try:
                self._heed(self._words.get(timeout=left))
            except queue.Empty:
                break
        ended = [
            (r, code) for r, w in self._workers.items() if (code := w.process.poll()) is not None
        ]
        for rank, _ in ended:
            self._bury(rank)
        while not self._words.empty():
            self._heed(self._words.get())
        return ended

    def _heed(self, word: dict[str, Any]) -> None:
        if "user_error" in word:
            raise UserError(*word["user_error"])
        if "skip" in word:
            self.display.skip(word["skip"])
        else:
            self.display.advance(word["advance"], Peaks(word["host_mb"], word["device_mb"]))

    def _bury(self, rank: int) -> None:
        worker = self._workers.pop(rank)
        worker.process.wait()
        worker.listener.join()
        if worker.process.stdin is not None:
            worker.process.stdin.close()

    def terminate(self) -> None:
        """Ask all to stop, and give them time."""
        for worker in self._workers.values():
            worker.process.terminate()
        deadline = time.monotonic() + 2 * GRACE_SECONDS
        while self._workers and time.monotonic() < deadline:
            for rank in [r for r, w in self._workers.items() if w.process.poll() is not None]:
                self._bury(rank)
            time.sleep(POLL_SECONDS / 4)

    def kill(self) -> None:
        """End all that still live."""
        for rank, worker in list(self._workers.items()):
            worker.process.kill()
            self._bury(rank)
