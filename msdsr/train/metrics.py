"""The training's diary: metrics.jsonl always, TensorBoard when it is installed."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import warnings
from pathlib import Path
from typing import Any

FILE = "metrics.jsonl"


class Diary:
    """Appends records to ``metrics.jsonl``; a resume takes back what lies after its state.

    Parameters
    ----------
    folder
        Work folder; TensorBoard's files go to ``tensorboard/`` in it.
    images
        Images seen at the state from which the training goes on; later records are dropped, as
        they will be written again.
    """

    def __init__(self, folder: Path, images: int) -> None:
        self.path = folder / FILE
        kept = [line for line in _whole_lines(self.path) if line["images"] <= images]
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        temporary.replace(self.path)
        self._board = _tensorboard(folder / "tensorboard", images)

    def write(self, kind: str, images: int, **values: Any) -> None:
        """Append one record: its kind (``train`` or ``validation``), images seen, and figures."""
        record = {"kind": kind, "images": images, **values}
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(record) + "\n")
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, int | float) and math.isfinite(value):
                    self._board.add_scalar(f"{kind}/{name}", value, images)

    def close(self) -> None:
        """Write out what TensorBoard holds back."""
        if self._board is not None:
            self._board.close()


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


def _tensorboard(folder: Path, images: int) -> Any | None:
    """Return TensorBoard's writer, or None where it is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    with warnings.catch_warnings():
        # TensorBoard's own imports warn of its dependencies' ways, which are not ours to mend.
        warnings.simplefilter("ignore")
        module = importlib.import_module("torch.utils.tensorboard")
        return module.SummaryWriter(log_dir=str(folder), purge_step=images + 1)
