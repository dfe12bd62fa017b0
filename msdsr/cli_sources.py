"""``msdsr phantom`` and ``msdsr fetch``: where raw data come from that nobody brings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msdsr.arguments import parse_settings
from msdsr.cli_options import Cohort, Fetched, Seed, Settings, close
from msdsr.config import PhantomConfig

fetch_app = typer.Typer(help="Fetch what the workflow needs from public places, checked by hash.")
phantom_app = typer.Typer(help="The synthetic cohort with known truth.")


@fetch_app.command("inception")
def fetch_inception(
    out: Annotated[Path, typer.Argument(help="File to make (…/inception.pt).")],
    source: Fetched = None,
) -> None:
    """Fetch the standard Inception network that FID is defined with."""
    from msdsr.fetch.inception import fetch_inception as run

    close(run(out, source), out)


@fetch_app.command("blastocyst")
def fetch_blastocyst(
    root: Annotated[Path, typer.Option(help="Folder of the cohort.")] = Path("results/blastocyst"),
    source: Fetched = None,
) -> None:
    """Fetch the public example: a mouse blastocyst, IDR idr0062A, CC BY 4.0."""
    from msdsr.fetch.blastocyst import make_blastocyst as run

    close(run(root, source), root)


@phantom_app.command("slide")
def phantom_slide(
    cohort: Cohort,
    slide: Annotated[str, typer.Option(help="Which slide of the cohort.")],
    raw: Annotated[Path, typer.Option(help="Raw file to make (TIFF).")],
    truth: Annotated[Path | None, typer.Option(help="Store of the truth to make.")] = None,
    seed: Seed = 0,
    settings: Settings = "{}",
) -> None:
    """Make one slide of the synthetic cohort."""
    from msdsr.phantom.cohort import make_slide

    manifest = make_slide(slide, parse_settings(PhantomConfig, settings), cohort, seed, raw, truth)
    close(manifest, raw)


@phantom_app.command("sheet")
def phantom_sheet(
    cohort: Cohort,
    out: Annotated[Path, typer.Argument(help="Sample sheet to write.")],
    settings: Settings = "{}",
) -> None:
    """Write the sample sheet of a synthetic cohort of any size."""
    from msdsr.phantom.cohort import sheet_rows
    from msdsr.sheet import write_sheet

    rows = sheet_rows(parse_settings(PhantomConfig, settings), cohort)
    write_sheet(out, rows)
    typer.echo(f"phantom: {out} ({len(rows)} slides)")
