"""What is done when a Snakemake run has ended in which slides failed: the rest is finished."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from types import FrameType

KEY = "without_failed"
"""The key of `--config` that leaves the slides of failed.csv out; it is no science."""


def command_without_failed(arguments: Sequence[str], given: Iterable[str]) -> list[str]:
    """Return the command that finishes a run without the slides that failed.

    Parameters
    ----------
    arguments
        The command line of the run, without the program.
    given
        The KEY=VALUE pairs of its configuration, from the command line or from a profile.
    """
    kept, rest = _split(list(_without_config(arguments)))
    pairs = [pair for pair in given if not pair.startswith(f"{KEY}=")]
    command = [sys.executable, "-m", "snakemake", *kept]
    return [*command, "--nolock", "--config", *pairs, f"{KEY}=true", *rest]


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Cut at ``--``, after which everything is a target."""
    if "--" in arguments:
        at = arguments.index("--")
        return arguments[:at], arguments[at:]
    return arguments, []


def _without_config(arguments: Sequence[str]) -> Iterator[str]:
    """Leave out ``--config`` and what it takes: everything up to the next option."""
    taken = False
    for argument in arguments:
        if argument.startswith("-"):
            taken = argument in ("--config", "-C")
            if taken or argument.startswith("--config=") or argument[:2] == "-C":
                continue
        elif taken:
            continue
        yield argument


def run_and_wait(command: Sequence[str]) -> int:
    """Run a command to its end; a signal to stop is handed on to it."""
    child = subprocess.Popen(command)

    def hand_on(number: int, frame: FrameType | None) -> None:
        child.send_signal(number)

    before = signal.signal(signal.SIGTERM, hand_on)
    try:
        while True:
            try:
                return child.wait()
            except KeyboardInterrupt:
                child.send_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before)
