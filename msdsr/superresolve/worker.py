"""One of several processes on the blocks of one volume; see `msdsr.superresolve.workers`."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from msdsr.errors import EXIT_RESUME, Stopped, UserError
from msdsr.superresolve.outputs import Outputs
from msdsr.superresolve.preview import Preview
from msdsr.superresolve.request import Request
from msdsr.superresolve.run import restore_blocks
from msdsr.superresolve.saved import SavedSteps
from msdsr.superresolve.watch import Peaks, Stop, Watch
from msdsr.volume import Helper

TELL_SECONDS = 0.5
"""How often progress is told, at most."""


class _Voice:
    """Tells the parent what was done, on the standard output."""

    def __init__(self, device: torch.device) -> None:
        self._untold, self._last, self._device = 0, time.monotonic(), device

    def advance(self, count: int) -> None:
        self._untold += count
        if time.monotonic() - self._last >= TELL_SECONDS:
            self.flush()

    def skip(self, count: int) -> None:
        tell({"skip": count})

    def flush(self) -> None:
        if self._untold:
            tell({"advance": self._untold, **asdict(Peaks.of_this_process(self._device))})
        self._untold, self._last = 0, time.monotonic()


def tell(word: dict[str, Any]) -> None:
    """Say one thing to the parent."""
    print(json.dumps(word), flush=True)


def _die_with_parent() -> None:
    """End this process when its parent has gone and the pipe to it is closed."""

    def wait_for_the_end() -> None:
        sys.stdin.buffer.read()
        os._exit(EXIT_RESUME)

    threading.Thread(target=wait_for_the_end, daemon=True).start()


def main(description: Path, rank: int) -> int:
    """Restore blocks as the job file says, until none is left to be claimed.

    Returns
    -------
    int
        0 when nothing is left to do here, also after a user's mistake, which the parent was told;
        75 when it was asked to stop.
    """
    values = json.loads(description.read_text(encoding="utf-8"))
    device = torch.device(values["device"])
    if device.type == "cuda":
        device = torch.device("cuda", rank)
        torch.cuda.set_device(device)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(values["threads"])
    voice = _Voice(device)
    with Stop().listening() as stop:
        try:
            _work(
                description.parent,
                values,
                rank,
                _watch(description.parent, values, device, voice, stop),
            )
        except UserError as error:
            tell({"user_error": [error.where, error.found, error.expected, error.fix]})
        except Stopped:
            return EXIT_RESUME
        finally:
            voice.flush()
    return 0


def _watch(
    folder: Path, values: dict[str, Any], device: torch.device, voice: _Voice, stop: Stop
) -> Watch:
    show = values["preview"]
    return Watch(
        device,
        voice.advance,
        voice.skip,
        stop,
        SavedSteps(folder, values["request"]["settings"]["checkpoint_minutes"]),
        Preview(Path(show["folder"]), show["every"]) if show else None,
    )


def _work(folder: Path, values: dict[str, Any], rank: int, watch: Watch) -> None:
    ready = Request.from_json(values["request"]).prepare(watch.device)
    outputs = Outputs.reopen(Path(values["store"]), ready.task)
    mine = set(values["blocks"])
    blocks = [block for block in outputs.grid.blocks(values["side"]) if block.key in mine]
    blocks = blocks[rank % len(blocks) :] + blocks[: rank % len(blocks)]
    place = Helper(folder, f"worker-{socket.gethostname()}-{os.getpid()}")
    while restore_blocks(blocks, ready.filler, outputs, place, watch, shared=True):
        pass


if __name__ == "__main__":
    _die_with_parent()
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
