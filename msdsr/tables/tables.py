"""One of the paper's tables, written as a page and as numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from msdsr.errors import UserError
from msdsr.manifest import Manifest, Stopwatch, identity, write_manifest, write_text_atomically
from msdsr.metrics.fid import fid_notes
from msdsr.tables.layout import Table, by_plane, counted
from msdsr.tables.slices import paired_slices
from msdsr.tables.source import RESCALING, TableSource
from msdsr.tables.volumes import ALGORITHM, BLURRED, ablation, read_slicefid, ways_of

PLANES = {"XY": "XY", "YZ": "YZ", "XZ": "XZ", "mean": "SliceFID"}
"""Planes of the tables, as the metrics call them and as the paper does."""

SHOWN = {
    "v2": "protocol v2: one size of crop, shown through one fixed window.",
    "paper": "protocol paper: without a border of 4 voxels, each patch equalised.",
}


def restored_volumes(source: TableSource) -> Table:
    """Return Table 2: SliceFID and its parts, and what a truth says, of every method evaluated."""
    if not source.metrics.exists():
        raise source.missing(source.metrics)
    rows = _fid_rows(source, source.metrics)
    notes = _notes(source, rows)
    paired = paired_rows(source.metrics / "paired.csv")
    if paired.empty:
        notes.append("no PSNR and SSIM: no slide has a true volume.")
    else:
        notes.append(f"PSNR and SSIM against the truth: {counted(paired)} slices or volumes.")
    groups = list(dict.fromkeys(rows["group"]))
    table = by_plane(pd.concat([rows, paired], ignore_index=True), groups)
    return Table(2, "3D restoration", table, notes)


def one_direction(source: TableSource) -> Table:
    """Return Table 3: slices restored in one direction, averaged, and as configured."""
    rows = _fid_rows(source, ablation(source, blur=False))
    names = {way: name for way, (name, _) in ways_of(source.config.superresolve).items()}
    rows = rows[rows["row"].isin(names)].assign(row=lambda r: r["row"].map(names))
    notes = [*_notes(source, rows), *_restored_notes(source)]
    groups = list(dict.fromkeys(rows["group"]))
    order = tuple(names.values())
    return Table(3, "slices restored in one direction", by_plane(rows, groups), notes, order)


def blurred(source: TableSource) -> Table:
    """Return Table 4: the same after a 3 × 3 × 3 Gaussian, and what that changed."""
    rows = _fid_rows(source, ablation(source, blur=True))
    names = {way: name for way, (name, _) in ways_of(source.config.superresolve).items()}
    sharp = rows[rows["row"].isin(names)].set_index(["row", "group", "column"])["value"]
    soft = rows[rows["row"].str.endswith(BLURRED)].copy()
    soft["row"] = soft["row"].str.removesuffix(BLURRED)
    keys = pd.MultiIndex.from_frame(soft[["row", "group", "column"]])
    soft["delta"] = soft["value"].to_numpy() - sharp.reindex(keys).to_numpy()
    soft["row"] = soft["row"].map(names) + " + blur"
    parentheses = (
        "in parentheses: the change by the blur (σ 0.5). Acquired planes are not blurred here; in "
        "the paper they are."
    )
    notes = [*_notes(source, soft), *_restored_notes(source), parentheses]
    groups = list(dict.fromkeys(soft["group"]))
    order = tuple(f"{name} + blur" for name in names.values())
    return Table(4, "Gaussian blur", by_plane(soft, groups), notes, order)


TABLES: dict[int, Callable[[TableSource], Table]] = {
    1: paired_slices,
    2: restored_volumes,
    3: one_direction,
    4: blurred,
}
"""The paper's tables by their numbers."""


def make_table(number: int, source: TableSource, out: Path | None = None) -> tuple[Table, Path]:
    """Make one of the paper's tables for a cohort and write it.

    Parameters
    ----------
    number
        1 to 4.
    source
        The cohort, which the workflow has been through.
    out
        File for the page; by default ``results/<cohort>/tables/table<N>.md`` (of the paper's
        protocol ``table<N>_paper.md``). The numbers stand beside it as CSV, in the same layout,
        and so does its manifest.

    Returns
    -------
    tuple
        The table, and where its page is.

    Raises
    ------
    UserError
        When there is no such table, or something it is made from is missing.
    """
    watch = Stopwatch()
    if number not in TABLES:
        raise UserError("--table", str(number), "1, 2, 3 or 4")
    table = TABLES[number](source)
    ending = "" if source.protocol == "v2" else f"_{source.protocol}"
    page = out or source.folder / f"table{number}{ending}.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    table.wide().to_csv(page.with_suffix(".csv"), index=False)
    write_text_atomically(page, table.markdown())
    config = source.config
    write_manifest(
        page,
        Manifest(
            stage="tables",
            algorithm=ALGORITHM,
            inputs={"reference": identity(source.reference)},
            settings={
                "superresolve": config.superresolve.model_dump(mode="json"),
                "evaluate": config.evaluate.model_dump(mode="json", exclude={"inception"}),
                "protocol": source.protocol,
            },
            seed=config.seed,
            device=source.device,
            counts={"table": number, "values": len(table.rows)},
            seconds=watch.seconds(),
        ),
    )
    return table, page


def _fid_rows(source: TableSource, metrics: Path) -> pd.DataFrame:
    """Return tidy rows of the FIDs of a cohort's merged metrics."""
    found = read_slicefid(metrics, RESCALING[source.protocol], source.protocol)
    found = found[found["plane"].isin(PLANES)]
    return pd.DataFrame(
        {
            "row": found["method"],
            "group": found["factor"].map("{}×".format),
            "column": found["plane"].map(PLANES),
            "value": found["value"],
            "n": found["n"],
        }
    )


def paired_rows(path: Path) -> pd.DataFrame:
    """Return tidy rows of the joint PSNR and SSIM in 3D, or of the mean of planes without one."""
    table = pd.read_csv(path) if path.exists() else pd.DataFrame()
    if table.empty:
        return pd.DataFrame(columns=["row", "group", "column", "value", "n"])
    if "channel" in table:
        table = table[table["channel"] == "all"]
    table = table[table["metric"].isin(["PSNR", "SSIM"]) & table["plane"].isin(["3D", "mean"])]
    # The whole volume's score comes first, where it has one.
    table = table.sort_values("plane").drop_duplicates(["factor", "method", "metric"])
    return pd.DataFrame(
        {
            "row": table["method"],
            "group": table["factor"].map("{}×".format),
            "column": table["metric"],
            "value": table["value"],
            "n": table["n"],
        }
    )


def _notes(source: TableSource, rows: pd.DataFrame) -> list[str]:
    n = int(rows["n"].min())
    reference = len(source.real.slide_of_row)
    shown = (
        f"{SHOWN[source.protocol]} {counted(rows)} crops a plane against {reference} real ones of "
        "other patients; SliceFID is the mean of XY, YZ and XZ (Eq. 10)."
    )
    return [shown, *fid_notes(min(n, reference))]


def _restored_notes(source: TableSource) -> list[str]:
    settings = source.config.superresolve
    alike = (
        f"all ways: {settings.steps} steps (schedule {settings.schedule}), one sample, the same "
        "model and seed; the average restores both directions, so it calls the network twice as "
        "often."
    )
    return [alike]
