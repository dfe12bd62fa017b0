"""The training's diary: metrics.jsonl always, and the curves of trackers beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msdsr.train.tracking import open_tracker

FILE = "metrics.jsonl"


class Diary:
    """Appends records to ``metrics.jsonl``; a resume takes back what lies after its state.

    Parameters
    ----------
    folder
        Work folder; trackers write under ``tracking/`` in it.
    images
        Images seen at the state from which the training goes on; later records are dropped, as
        they will be written again.
    checked
        Images seen at the last validation of each kind that the state knows of.
    tracking
        Names of trackers that are told the same.
    """

    def __init__(
        self,
        folder: Path,
        images: int,
        checked: Mapping[str, int] | None = None,
        tracking: Sequence[str] = (),
    ) -> None:
        self.path = folder / FILE
        known = checked or {}
        kept = [
            line
            for line in _whole_lines(self.path)
            if line["images"] <= (images if line["kind"] == "train" else known.get(line["kind"], 0))
        ]
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        temporary.replace(self.path)
        self._trackers = [open_tracker(name, folder, images) for name in tracking]

    def write(self, kind: str, images: int, **values: Any) -> None:
        """Append one record: its kind (``train``, ``validation``, …), images seen, and figures."""
        record = {"kind": kind, "images": images, **values}
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(record) + "\n")
        curves = {
            f"{kind}/{name}": float(value)
            for name, value in values.items()
            if isinstance(value, int | float) and math.isfinite(value)
        }
        for tracker in self._trackers:
            tracker.write(images, curves)

    def close(self) -> None:
        """Write out what trackers hold back."""
        for tracker in self._trackers:
            tracker.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the records of a ``metrics.jsonl``, oldest first."""
    return _whole_lines(path)


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """Return the records up to the first torn line, which a kill may have left."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records
