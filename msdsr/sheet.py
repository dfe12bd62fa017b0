"""Sample sheets: one row a slide, checked as a whole before anything runs."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from msdsr.errors import UserError, nearest
from msdsr.manifest import write_text_atomically

COLUMNS = ("slide", "patient", "path", "split", "z_um", "y_um", "x_um", "channels", "notes")
OPTIONAL = ("truth",)
SPLITS = ("train", "val", "infer")
ID = re.compile(r"[A-Za-z0-9._-]+")
MAX_CHANNELS = 8


def read_sheet(path: str | Path, check_files: bool = True) -> pd.DataFrame:
    """Read and check a sample sheet.

    Parameters
    ----------
    path
        A tab-separated file with the columns ``slide``, ``patient``, ``path``, ``split``, ``z_um``,
        ``y_um``, ``x_um``, ``channels`` (comma-separated), ``notes``, and optionally ``truth`` (a
        store of the isotropic truth).
    check_files
        Whether every ``path`` must exist; false where the workflow itself makes the files.

    Returns
    -------
    pandas.DataFrame
        The rows, indexed by slide; spacings in micrometres as floats, ``channels`` as tuples,
        missing ``truth`` and ``notes`` as empty strings.

    Raises
    ------
    UserError
        Names the sheet, the row and the column of the first thing that is wrong.
    """
    path = Path(path)
    table = _read_columns(path)
    for column, text in table.items():
        table[column] = text.str.strip()
    for row, record in enumerate(table.to_dict("records"), start=2):
        _check_row(f"{path} line {row}", {str(k): str(v) for k, v in record.items()}, check_files)
    for column in ("z_um", "y_um", "x_um"):
        table[column] = table[column].astype(float)
    table["channels"] = [tuple(name.strip() for name in c.split(",")) for c in table["channels"]]
    _check_together(path, table)
    return table.set_index("slide", drop=False)


def _read_columns(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, comment="#")
    except FileNotFoundError:
        raise UserError(
            path, "no such sample sheet", "a TSV file", "check `sheet` in the configuration"
        ) from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(path, f"unreadable ({error})", "a tab-separated table") from None
    known = (*COLUMNS, *OPTIONAL)
    for column in table.columns:
        if column not in known:
            hint = nearest(column, known)
            raise UserError(
                path,
                f"unknown column {column!r}",
                f"columns {', '.join(known)}",
                f"did you mean {hint!r}?" if hint else "remove it",
            )
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise UserError(
            path, f"column {missing[0]!r} is missing", f"columns {', '.join(COLUMNS)}", "add it"
        )
    if table.empty:
        raise UserError(path, "no slides", "at least one row below the heading", "add a slide")
    for column in OPTIONAL:
        if column not in table.columns:
            table[column] = ""
    return table


def _check_row(where: str, row: dict[str, str], check_files: bool) -> None:
    for column in ("slide", "patient"):
        if not ID.fullmatch(row[column]) or ".." in row[column] or row[column] == ".":
            raise UserError(
                where,
                f"{column} is {row[column]!r}",
                "letters, digits, '.', '_' and '-', and no '..'",
                "rename it",
            )
    if row["split"] not in SPLITS:
        raise UserError(where, f"split is {row['split']!r}", "train, val or infer")
    for column in ("z_um", "y_um", "x_um"):
        _check_spacing(where, column, row[column])
    channels = [name.strip() for name in row["channels"].split(",")]
    if not all(ID.fullmatch(name) for name in channels) or len(set(channels)) != len(channels):
        raise UserError(
            where, f"channels is {row['channels']!r}", "different names with commas between"
        )
    if len(channels) > MAX_CHANNELS:
        raise UserError(where, f"{len(channels)} channels", f"1 to {MAX_CHANNELS}")
    if not row["path"]:
        raise UserError(where, "path is empty", "the raw file of the slide")
    if check_files:
        for column in ("path", "truth"):
            if row[column] and not Path(row[column]).exists():
                raise UserError(
                    where,
                    f"{column} {row[column]} does not exist",
                    "a file, relative to the working directory",
                    "check the path or where the command is run",
                )


def _check_spacing(where: str, column: str, text: str) -> None:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise UserError(
            where,
            f"{column} is {text!r}",
            "a spacing above 0 in micrometres",
            "look it up in the microscope's metadata",
        )


def _check_together(path: Path, table: pd.DataFrame) -> None:
    twice = table["slide"][table["slide"].duplicated()]
    if len(twice):
        raise UserError(path, f"slide {twice.iloc[0]!r} stands twice", "each slide once")
    splits = table.groupby("patient", sort=False)["split"].unique()
    for patient, found in splits.items():
        if len(found) > 1:
            raise UserError(
                path,
                f"patient {patient!r} is in the splits {' and '.join(sorted(found))}",
                "one split a patient",
                "move all slides of the patient to one split, or the figures are worth nothing",
            )
    names = table["channels"].unique()
    if len(names) > 1:
        raise UserError(
            path,
            f"channels differ between slides ({','.join(names[0])} and {','.join(names[1])})",
            "the same channels in the same order in one cohort",
            "put the others into a cohort of their own",
        )


def write_sheet(path: str | Path, table: pd.DataFrame) -> None:
    """Write rows as a sample sheet (columns in their order, channels with commas)."""
    rows = table.copy()
    rows["channels"] = [c if isinstance(c, str) else ",".join(c) for c in rows["channels"]]
    columns = [c for c in (*COLUMNS, *OPTIONAL) if c in rows.columns]
    write_text_atomically(path, rows[columns].to_csv(sep="\t", index=False, lineterminator="\n"))
