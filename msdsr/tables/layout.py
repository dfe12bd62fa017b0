"""How a table looks: the paper's rows and columns, the best value of each column marked."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

NAMES = {
    "nearest": "NN",
    "linear": "Linear",
    "cubic": "Cubic",
    "e2e_unet": "E2E UNet",
    "ms_unet": "MS-UNet",
    "msdsr": "MSDSR",
    "acquired": "Acquired planes (floor)",
    "truth": "True volume (floor)",
    "real": "Real against real (floor)",
}
"""Names in the paper, in the paper's order; what is no method comes last."""

FLOORS = ("acquired", "truth", "real")
DIGITS = {"SSIM": 3, "NRMSE": 3}
HIGHER_IS_BETTER = ("SSIM", "PSNR")


@dataclass(frozen=True)
class Table:
    """A table in the paper's layout.

    Attributes
    ----------
    number
        Of the paper's table.
    title
        What it shows.
    rows
        Tidy: ``row`` (name of a method), ``group`` (heading over columns, such as 2×), ``column``,
        ``value``, ``n`` (images or slices; 0: unknown) and, where the paper prints a difference in
        parentheses, ``delta``.
    order
        Rows in order; left out, methods as in the paper, and what is no method last.
    notes
        What must be known to read it: protocol, numbers of images, what is missing and why.
    """

    number: int
    title: str
    rows: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    order: tuple[str, ...] = ()

    def wide(self) -> pd.DataFrame:
        """Return the values with a method a row and a column for each pair of group and column."""
        frame = self.rows.assign(column=_titles(self.rows))
        order = list(dict.fromkeys(frame["column"]))
        wide = frame.pivot_table("value", "row", "column", sort=False, dropna=False)
        methods = sorted(wide.index, key=self._place)
        return wide.loc[methods, order].rename_axis("method").reset_index()

    def markdown(self) -> str:
        """Return the page: the table, the best values in bold, and the notes."""
        frame = self.rows.assign(column=_titles(self.rows))
        columns = list(dict.fromkeys(frame["column"]))
        methods = sorted(dict.fromkeys(frame["row"]), key=self._place)
        cells = {(r["row"], r["column"]): r for r in frame.to_dict("records")}
        best = {column: self._best(frame, column) for column in columns}
        lines = [
            f"# Table {self.number}: {self.title}",
            "",
            "| | " + " | ".join(columns) + " |",
            "|---|" + "---:|" * len(columns),
        ]
        for method in methods:
            shown = [_cell(cells.get((method, c)), best[c]) for c in columns]
            lines.append(f"| {NAMES.get(method, method)} | " + " | ".join(shown) + " |")
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes), ""])

    def _place(self, method: str) -> tuple[bool, int]:
        known = list(self.order or NAMES)
        return (method in FLOORS, known.index(method) if method in known else len(known))

    @staticmethod
    def _best(frame: pd.DataFrame, column: str) -> float | None:
        """Return the best value of a column, if two methods compete for it."""
        judged = frame[(frame["column"] == column) & ~frame["row"].isin(FLOORS)]
        values = judged["value"].dropna()
        if len(values) < 2:
            return None
        better = max if column.endswith(HIGHER_IS_BETTER) else min
        return float(better(values))


def counted(rows: pd.DataFrame) -> str:
    """Return how many images stand behind the values of some rows."""
    counts = rows.loc[rows["n"] > 0, "n"]
    if counts.empty:
        return "an unknown number"
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low} to {high}"


def by_plane(rows: pd.DataFrame, group: Sequence[str]) -> pd.DataFrame:
    """Sort tidy rows as the paper's tables have their columns: XY, YZ, XZ, SliceFID."""
    order = ["XY", "YZ", "XZ", "SliceFID", "PSNR", "SSIM"]
    keys = rows["column"].map({name: i for i, name in enumerate(order)}).fillna(len(order))
    ordered = rows.assign(_at=keys, _group=rows["group"].map({g: i for i, g in enumerate(group)}))
    ordered = ordered.sort_values(["_group", "_at"], kind="stable")
    return ordered.drop(columns=["_at", "_group"]).reset_index(drop=True)


def _titles(rows: pd.DataFrame) -> pd.Series[str]:
    return rows["group"] + " " + rows["column"]


def _cell(row: dict[Hashable, Any] | None, best: float | None) -> str:
    if row is None or pd.isna(row["value"]):
        return "–"
    digits = next((d for name, d in DIGITS.items() if str(row["column"]).endswith(name)), 1)
    text = f"{row['value']:.{digits}f}"
    delta = row.get("delta", float("nan"))
    text += "" if pd.isna(delta) else f" ({delta:+.{digits}f})"
    judged = row["row"] not in FLOORS
    return f"**{text}**" if judged and best is not None and row["value"] == best else text
