"""Writes benchmarks/README.md from the results: `.venv/bin/python benchmarks/table.py`.

A file in benchmarks/results/*.json has a `claim`, and `figures`: a list of {"what", "value",
"target", "date", "machine"}, of which the last three may be left out (a `date` of the whole file
counts for all). A file without figures is only named.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parent
HEAD = """\
# Benchmarks

One script a claim; what it measured, with machine, versions and date, is in `results/`. This page
is written by `benchmarks/table.py`; a test fails when it is stale. Figures are what was seen on the
machine that is named, and missed targets stand beside those that were met.
"""


def page(results: Path) -> str:
    """Return the page as Markdown."""
    return "\n".join([HEAD, *(_section(path) for path in sorted(results.glob("*.json")))])


def _section(path: Path) -> str:
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    script = f"{path.stem}.py"
    source = f"`{script}`, " if (BENCHMARKS / script).exists() else ""
    lines = [f"## {path.stem}", "", f"{record.get('claim', '')} ({source}`results/{path.name}`)"]
    figures = record.get("figures", [])
    if figures:
        lines += ["", "| what | seen | target | when | where |", "|---|---|---|---|---|"]
    for figure in figures:
        when = figure.get("date", record.get("date", ""))
        cells = [figure["what"], figure["value"], figure.get("target", "")]
        lines.append("| " + " | ".join(map(str, [*cells, when, figure.get("machine", "")])) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the page."""
    (BENCHMARKS / "README.md").write_text(page(BENCHMARKS / "results"), encoding="utf-8")


if __name__ == "__main__":
    main()
