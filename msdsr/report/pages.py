"""What the pages of a report share: templates, names of files, what makes them self-contained."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from msdsr import __version__
from msdsr.report.charts import file_names

PAGES = (
    ("index.html", "Overview"),
    ("tables.html", "Tables"),
    ("figures.html", "Figures"),
    ("slides.html", "Slides"),
    ("pictures.html", "Pictures"),
    ("uncertainty.html", "Where to doubt"),
    ("method.html", "Method & provenance"),
)
"""The pages of a cohort, in the order of reading."""


def render(template: str, **values: Any) -> str:
    """Return a page; every value is escaped, and a name that is missing is an error."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return _environment().get_template(template).render(version=__version__, now=now, **values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("msdsr.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = lambda content, kind: data_uri(kind, content)
    environment.globals |= {"asset": asset, "csp_hash": csp_hash, "pages": PAGES}
    return environment


def asset(name: str) -> Markup:
    """Return a style sheet or a script of ours, to stand inside a page."""
    loader = _environment().loader
    assert loader is not None
    source, _, _ = loader.get_source(_environment(), name)
    return Markup(source)  # noqa: S704 - our own file, and no value enters it


def script(*names: str) -> Markup:
    """Return scripts of ours as one that leaves no name behind."""
    parts = "\n".join(asset(name) for name in names)
    return Markup(f'(() => {{\n"use strict";\n{parts}}})();')  # noqa: S704 - our own files


def csp_hash(script: str) -> str:
    """Return what a content security policy calls a script: so it runs, and no other does."""
    # A browser hashes what stands between the tags, with line ends as LF.
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def data_uri(kind: str, content: bytes | str) -> str:
    """Return content as a ``data:`` address, so that the page needs no other file."""
    raw = content.encode() if isinstance(content, str) else content
    return f"data:{kind};base64,{base64.b64encode(raw).decode('ascii')}"


def script_json(value: Any) -> Markup:
    r"""Return a value as JSON that can stand in a ``<script>``, whatever its strings hold.

    ``<``, ``>`` and ``&`` are written as ``\u003c`` and so on, so that no string ends the element
    or opens a comment; all that is not ASCII is escaped too, U+2028 and U+2029 among it.
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - escaped above


def page_names(slides: Sequence[str]) -> dict[str, str]:
    """Return the file of each slide's page: safe on every file system, and no two the same."""
    return {slide: f"{name}.html" for slide, name in file_names(slides).items()}
