"""How far a long stage is: a bar on a terminal, a plain line a minute in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

LOG_SECONDS = 60.0


class _Rate(ProgressColumn):
    """Units finished a second."""

    def render(self, task: Task) -> Text:
        unit = task.fields["unit"]
        return Text(f"{task.speed:.1f} {unit}/s" if task.speed else f"– {unit}/s")


class Bar:
    """Counts finished units; see `progress`."""

    def __init__(self, label: str, total: int, unit: str, done: int) -> None:
        self.label, self.total, self.unit, self.done = label, total, unit, done
        self._first = done
        self._start = self._last_line = time.monotonic()
        self._told = -1
        self._note = ""
        self._rich: Progress | None = None

    def advance(self, count: int = 1, note: str | None = None) -> None:
        """Count ``count`` more units as finished; a note stays until the next."""
        self.done += count
        self._note = self._note if note is None else note
        self._show()

    def skip(self, count: int) -> None:
        """Count units that an earlier attempt finished; they are not of this one's rate."""
        self._first += count
        self.advance(count)

    def note(self, text: str) -> None:
        """Show a short text, such as the loss, behind the figures."""
        self._note = text
        self._show()

    def _show(self) -> None:
        if self._rich is not None:
            self._rich.update(self._rich.task_ids[0], completed=self.done, note=self._note)
        elif time.monotonic() - self._last_line >= LOG_SECONDS:
            self._line()

    def _line(self) -> None:
        if self._told == self.done:
            return
        self._told = self.done
        self._last_line = time.monotonic()
        seconds = self._last_line - self._start
        rate = (self.done - self._first) / seconds if seconds else 0.0
        left = f"{(self.total - self.done) / rate:.0f} s left" if rate else "time left unknown"
        text = (
            f"{self.label}: {self.done}/{self.total} {self.unit}, {rate:.2f} {self.unit}/s, {left}"
        )
        print(f"{text} {self._note}".rstrip(), file=sys.stderr, flush=True)


@contextmanager
def progress(label: str, total: int, unit: str = "steps", done: int = 0) -> Iterator[Bar]:
    """Show the progress of a stage while its work is done inside the ``with`` block.

    Parameters
    ----------
    label
        Name of the stage or of the thing it works on.
    total
        Units of work in all.
    unit
        Plural name of a unit.
    done
        Units that were finished before, as after a resume.

    Yields
    ------
    Bar
        Call ``advance`` as units finish.
    """
    bar = Bar(label, total, unit, done)
    console = Console(stderr=True)
    if not console.is_terminal:
        yield bar
        if time.monotonic() - bar._start >= LOG_SECONDS:
            bar._line()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as shown:
        shown.add_task(label, total=total, completed=done, unit=unit, note="")
        bar._rich = shown
        yield bar
