"""The index of a training set: one row an image, written slide by slide."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = pa.schema(
    [
        ("image", pa.int64()),
        ("cohort", pa.string()),
        ("slide", pa.string()),
        ("patient", pa.string()),
        ("split", pa.string()),
        ("class", pa.string()),
        ("stacked", pa.bool_()),
        ("plane", pa.int64()),
        ("y0", pa.int64()),
        ("x0", pa.int64()),
        ("height", pa.int64()),
        ("width", pa.int64()),
        ("tissue_fraction", pa.float64()),
    ]
)
INDEX_COLUMNS = tuple(SCHEMA.names)
ROWS = 1 << 16


@dataclass
class Tally:
    """What a training set holds, by split."""

    images: Counter[str] = field(default_factory=Counter)
    slides: Counter[str] = field(default_factory=Counter)
    patients: dict[str, set[str]] = field(default_factory=dict)
    classes: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, table: pd.DataFrame) -> None:
        """Count the rows of one slide."""
        if table.empty:
            return
        split, patient = table["split"].iloc[0], table["patient"].iloc[0]
        self.images[split] += len(table)
        self.slides[split] += 1
        self.patients.setdefault(split, set()).add(patient)
        named = table["class"][table["class"] != ""].astype(str).tolist()
        self.classes.setdefault(split, Counter()).update(named)

    def counts(self) -> dict[str, dict[str, object]]:
        """Return the figures for the manifest."""
        return {
            "images": dict(sorted(self.images.items())),
            "patients": {split: len(names) for split, names in sorted(self.patients.items())},
            "slides": dict(sorted(self.slides.items())),
            "classes": {
                split: dict(sorted(n.items())) for split, n in sorted(self.classes.items())
            },
        }


class IndexWriter:
    """Writes the index as parquet, so many rows at a time, and counts what it writes.

    Parameters
    ----------
    path
        File to write.
    """

    def __init__(self, path: Path) -> None:
        self.tally = Tally()
        self._writer = pq.ParquetWriter(path, SCHEMA)
        self._waiting: list[pa.Table] = []
        self._rows = 0

    def add(self, table: pd.DataFrame) -> None:
        """Add the rows of one slide, columns `INDEX_COLUMNS`."""
        self.tally.add(table)
        part = table[list(INDEX_COLUMNS)]
        self._waiting.append(pa.Table.from_pandas(part, SCHEMA, preserve_index=False))
        self._rows += len(table)
        if self._rows >= ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting))
        self._waiting, self._rows = [], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._flush()
        self._writer.close()
