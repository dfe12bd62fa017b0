"""Slides that failed: one row each in results/<cohort>/failed.csv, from what their job left.

Nothing here makes or fakes a product. The table is written when a run has ended, and the run that
follows leaves these slides out of what is made of a whole cohort.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from msdsr.errors import UserError
from msdsr.manifest import write_text_atomically

ERROR = "msdsr: error: "
"""How the command line begins the one line that tells a user's mistake."""

LONGEST = 300
TAIL_BYTES = 1 << 14


@dataclass(frozen=True)
class Failure:
    """A slide that could not be processed.

    Attributes
    ----------
    slide, patient, split
        Its row in the sample sheet.
    stage
        Where it failed.
    cause
        ``data``: a stage found the slide wrong and said so; running again will not help.
        ``job``: killed, out of memory or time, crashed; running again may help.
    reason
        One line.
    log
        The log of the job, relative to the working directory.
    """

    slide: str
    patient: str
    split: str
    stage: str
    cause: Literal["data", "job"]
    reason: str
    log: str


COLUMNS = tuple(field.name for field in fields(Failure))


def failures_path(results: str | Path, cohort: str) -> Path:
    """Return where the table of a cohort stands."""
    return Path(results) / cohort / "failed.csv"


def reason_in(log: str | Path) -> tuple[Literal["data", "job"], str]:
    """Return the cause of a failure and its one line, from the log of its job.

    Parameters
    ----------
    log
        What the stage wrote; it may be missing, or end in the middle.
    """
    try:
        with Path(log).open("rb") as handle:
            handle.seek(0, io.SEEK_END)
            handle.seek(max(0, handle.tell() - TAIL_BYTES))
            text = handle.read().decode("utf-8", errors="replace")
    except OSError:
        text = ""
    lines = [" ".join(line.split()) for line in text.replace("\r", "\n").splitlines()]
    for line in reversed(lines):
        if line.startswith(ERROR):
            return "data", _shortened(line.removeprefix(ERROR))
    last = next((line for line in reversed(lines) if line), None)
    if last is None:
        return "job", "ended without a word: killed, or out of memory or time"
    return "job", _shortened(f"ended after: {last}")


def _shortened(line: str) -> str:
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def read_failures(path: str | Path) -> list[Failure]:
    """Return the slides of a table of failures; none where there is no table.

    Raises
    ------
    UserError
        When the file is not such a table.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as handle:
            return [_parse(row) for row in csv.DictReader(handle)]
    except FileNotFoundError:
        return []
    except (KeyError, TypeError, UnicodeDecodeError):
        raise UserError(
            path, "not a table of failed slides", ", ".join(COLUMNS), "delete it and run again"
        ) from None


def _parse(row: dict[str, str]) -> Failure:
    cause: Literal["data", "job"] = "data" if row["cause"] == "data" else "job"
    who = (row["slide"], row["patient"], row["split"], row["stage"])
    return Failure(*who, cause, row["reason"], row["log"])


def write_failures(path: str | Path, failures: Iterable[Failure]) -> None:
    """Write a table of failures, one row a slide."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(failure) for failure in failures)
    write_text_atomically(path, text.getvalue())


def teaches(failure: Failure | None) -> bool:
    """Return whether a training waits for this slide.

    It goes on without a slide whose file is wrong, and waits for one whose job was broken off: that
    one will be there the next time, and would have the model trained again.
    """
    return failure is None or failure.cause == "job"
