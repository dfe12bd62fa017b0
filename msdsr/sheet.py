"""Sample sheets: one row a slide, checked as a whole before anything runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from msdsr.errors import UserError, nearest
from msdsr.manifest import write_text_atomically

COLUMNS = ("slide", "patient", "path", "split", "z_um", "y_um", "x_um", "channels", "notes")
OPTIONAL = ("truth", "class", "flagged")
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
        store of the isotropic truth), ``class`` (such as a diagnosis, to balance the training by)
        and ``flagged`` (numbers of planes, from 0, that no model shall learn from).
    check_files
        Whether every ``path`` must exist; false where the workflow itself makes the files.

    Returns
    -------
    pandas.DataFrame
        The rows, indexed by slide; spacings in micrometres as floats, ``channels`` as tuples,
        ``flagged`` as tuples of integers, missing texts as empty strings.

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
    table["flagged"] = [tuple(int(n) for n in f.split(",") if n.strip()) for f in table["flagged"]]
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
    return table[[*COLUMNS, *OPTIONAL]]


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
    _check_optional(where, row)
    if not row["path"]:
        raise UserError(where, "path is empty", "the raw file of the slide")
    if row["split"] == "infer" and row["path"].lower().endswith(".images.tsv"):
        raise UserError(
            where, "split is 'infer' for a list of 2D images", "a z-stack, or train or val"
        )
    if check_files:
        for column in ("path", "truth"):
            if row[column] and not Path(row[column]).exists():
                raise UserError(
                    where,
                    f"{column} {row[column]} does not exist",
                    "a file, relative to the working directory",
                    "check the path or where the command is run",
                )


def _check_optional(where: str, row: dict[str, str]) -> None:
    if row["class"] and not ID.fullmatch(row["class"]):
        raise UserError(
            where, f"class is {row['class']!r}", "letters, digits, '.', '_' and '-'", "rename it"
        )
    if not re.fullmatch(r"(\d+(\s*,\s*\d+)*)?", row["flagged"]):
        raise UserError(
            where, f"flagged is {row['flagged']!r}", "numbers of planes, from 0, commas between"
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


def refuse_leaks(teaching: Sequence[str], sheets: Mapping[str, pd.DataFrame]) -> None:
    """Refuse a patient who teaches a model and is also used to judge it, in whatever cohort.

    Parameters
    ----------
    teaching
        The cohorts that the model learns from.
    sheets
        The sheets (see `read_sheet`) of these cohorts and of those that the model restores, by
        cohort. Equal ids stand for one patient, in all of them.

    Raises
    ------
    UserError
        Names the patient and the two slides.
    """
    teachers: dict[str, tuple[str, str]] = {}
    for cohort in teaching:
        table = sheets[cohort]
        for row in table[table["split"] == "train"].to_dict("records"):
            teachers.setdefault(row["patient"], (cohort, row["slide"]))
    for cohort, table in sheets.items():
        for row in table[table["split"] != "train"].to_dict("records"):
            if row["patient"] in teachers:
                other, slide = teachers[row["patient"]]
                raise UserError(
                    f"cohort {cohort}",
                    f"patient {row['patient']!r} is in `{row['split']}` with slide "
                    f"{row['slide']!r} and in `train` with slide {slide!r} of cohort {other}",
                    "one split a patient, in all cohorts that a model learns from or restores",
                    "move the patient to one split, or rename one of them if they are two people",
                )


def write_sheet(path: str | Path, table: pd.DataFrame) -> None:
    """Write rows as a sample sheet (columns in their order, channels with commas)."""
    rows = table.copy()
    for column in {"channels", "flagged"} & set(rows.columns):
        texts = [v if isinstance(v, str) else ",".join(map(str, v)) for v in rows[column]]
        rows[column] = texts
    columns = [c for c in (*COLUMNS, *OPTIONAL) if c in rows.columns]
    write_text_atomically(path, rows[columns].to_csv(sep="\t", index=False, lineterminator="\n"))
