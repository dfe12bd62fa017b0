"""A cohort's lines in a configuration file, put there without touching the others."""

from __future__ import annotations

import json
import re

import yaml


def cohort_block(name: str, sheet: str, model: str) -> str:
    """Return a cohort as it stands under ``cohorts:``, indented by two spaces."""
    quoted = sheet if re.fullmatch(r"[\w./-]+", sheet) else json.dumps(sheet)
    return f"  {name}:\n    sheet: {quoted}\n    model: {model}\n"


def with_cohort(text: str, block: str) -> str | None:
    """Return a configuration's text with one more cohort, comments and all else as they were.

    Parameters
    ----------
    text
        The configuration.
    block
        See `cohort_block`; it goes behind the last cohort, indented as the others are.

    Returns
    -------
    str or None
        None where the text is not written in the usual way, so that what came out would not mean
        the same with one more cohort: then a person has to do it.
    """
    lines = text.splitlines(keepends=True)
    start = next((i for i, line in enumerate(lines) if re.match(r"cohorts:\s*(#.*)?$", line)), None)
    if start is None:
        return None
    end = start + 1
    for i in range(start + 1, len(lines)):
        if re.match(r"\S", lines[i]) and not lines[i].startswith("#"):
            break
        if lines[i].startswith(" ") and not lines[i].lstrip().startswith("#"):
            end = i + 1
    indent = re.match(r" *", lines[start + 1 if end == start + 1 else _first(lines, start)])
    step = len(indent.group()) if indent else 2
    shifted = re.sub(r"^  ", " " * step, block, flags=re.M) if step else block
    ending = "" if lines[end - 1].endswith("\n") else "\n"
    changed = "".join(lines[:end]) + ending + shifted + "".join(lines[end:])
    return changed if _means(text, block, changed) else None


def _first(lines: list[str], start: int) -> int:
    """Return the first line below ``cohorts:`` that holds something."""
    return next(
        i for i in range(start + 1, len(lines)) if lines[i].strip() and "#" not in lines[i][:1]
        and not lines[i].lstrip().startswith("#")
    )  # fmt: skip


def _means(text: str, block: str, changed: str) -> bool:
    """Return whether the changed text is the old one and the block, to a reader of YAML."""
    try:
        expected = yaml.safe_load(text)
        expected["cohorts"] = (expected["cohorts"] or {}) | yaml.safe_load(block)
        return bool(yaml.safe_load(changed) == expected)
    except (yaml.YAMLError, TypeError, KeyError):
        return False
