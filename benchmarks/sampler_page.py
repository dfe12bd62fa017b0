"""The tables of docs/explanation/sampler.md, made from benchmarks/results/*.csv and nothing else.

    python benchmarks/sampler_page.py

puts each table between its markers, `<!-- table NAME -->` and `<!-- end -->`. A test compares.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "benchmarks/results"
PAGE = REPOSITORY / "docs/explanation/sampler.md"
MARKER = re.compile(r"(<!-- table (?P<name>[^>]*?) -->\n).*?(<!-- end -->)", re.DOTALL)

Row = Mapping[str, str]


def read(name: str) -> list[Row]:
    """Return the rows of a results file."""
    with (RESULTS / name).open(newline="") as handle:
        return list(csv.DictReader(handle))


def number(digits: int, factor: float = 1.0) -> Callable[[str], str]:
    """Return how a column is printed."""
    return lambda text: f"{factor * float(text):.{digits}f}" if text else "–"


def way(row: Row) -> str:
    """Return a way's name as people read it."""
    steps = row["steps"]
    if steps == "0":
        return {"truth": "every plane imaged"}.get(row["mode"], row["mode"])
    name = (
        f"{row['mode']} {steps}+{steps}" if row["mode"] == "average" else f"{row['mode']} {steps}"
    )
    if float(row["noise_strength"]):
        name += f", k={float(row['noise_strength']):g} ℓ={float(row['noise_length']):g}"
    for key, usual in (("eta", 1.0), ("sigma_max", 80.0), ("order", 1.0)):
        if float(row[key]) != usual:
            name += f", {key} {float(row[key]):g}"
    return name


def difference(row: Row) -> str:
    """Return how far SliceFID is from that of the way a table compares with, and how sure (%)."""
    if not row["relative"] or float(row["low"]) == float(row["high"]):
        return "–"
    middle, low, high = (100 * float(row[k]) for k in ("relative", "low", "high"))
    return f"{middle:+.0f} % ({low:+.0f} … {high:+.0f})"


def triple(row: Row, name: str, digits: int) -> str:
    """Return one figure for each of z, y, x."""
    return " / ".join(f"{float(row[f'{name} {axis}']):.{digits}f}" for axis in "zyx")


AGAINST = {
    "phantom": "against average 200+200 (95 %)",
    "tuning": "against 12 steps, k=0.5 ℓ=2 (95 %)",
}
COLUMNS: dict[str, Callable[[Row], str]] = {
    "way": way,
    "NFE": lambda r: r["evaluations"] if r["evaluations"] != "0" else "–",
    "SliceFID": lambda r: number(1)(r["SliceFID"]),
    AGAINST["phantom"]: difference,
    "XY": lambda r: number(1)(r["FID XY"]),
    "XZ": lambda r: number(1)(r["FID XZ"]),
    "YZ": lambda r: number(1)(r["FID YZ"]),
    "KID ×10³": lambda r: number(1, 1e3)(r["KID"]),
    "PSNR (dB)": lambda r: number(2)(r["PSNR"]),
    "SSIM": lambda r: number(3)(r["SSIM"]),
    "spectrum z / y / x (dB)": lambda r: triple(r, "spectrum", 1),
    "step z / y / x (truth 1)": lambda r: triple(r, "lag", 2),
}


def markdown(rows: Sequence[Row], columns: Mapping[str, Callable[[Row], str]]) -> str:
    """Return rows as a Markdown table."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(show(row) for show in columns.values()) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def consistency(bed: str, factor: str) -> str:
    """Return the table of one bed and factor, in the order of the file."""
    rows = [r for r in read("consistency.csv") if (r["bed"], r["factor"]) == (bed, factor)]
    head = AGAINST.get(bed, AGAINST["phantom"])
    return markdown(rows, {head if show is difference else k: show for k, show in COLUMNS.items()})


def gaussian() -> str:
    """Return the table of exact scores: one row a way, one column a bed."""
    rows = read("gaussian.csv")
    names = list(dict.fromkeys(r["bed"] for r in rows))
    ways = list(dict.fromkeys(r["way"] for r in rows))
    cell = {(r["bed"], r["way"]): r for r in rows}

    def shown(bed: str) -> Callable[[Row], str]:
        def show(row: Row) -> str:
            found = cell[bed, row["way"]]
            design = f" ({float(found['design']):g})" if found["design"] else ""
            return f"{float(found['mean']):.1f}{design}"

        return show

    def nfe(row: Row) -> str:
        return row["evaluations"] if row["evaluations"] != "0" else "–"

    columns: dict[str, Callable[[Row], str]] = {"way": lambda r: r["way"], "NFE": nfe}
    columns |= {name: shown(name) for name in names}
    columns |= {
        f"variance at {names[1]} (truth {float(cell[names[1], 'truth']['variance']):.2f})": (
            lambda r: number(2)(cell[names[1], r["way"]]["variance"])
        ),
        f"step at {names[1]} (truth 1)": lambda r: number(2)(cell[names[1], r["way"]]["lag"]),
    }
    return markdown([cell[names[0], w] for w in ways], columns)


def table(name: str) -> str:
    """Return the table that a marker asks for: `gaussian`, or `consistency BED FACTOR`."""
    kind, *rest = name.split()
    return gaussian() if kind == "gaussian" else consistency(*rest)


def filled(page: str) -> str:
    """Return the page with each table made anew."""
    return MARKER.sub(lambda m: f"{m.group(1)}\n{table(m.group('name'))}\n{m.group(3)}", page)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
