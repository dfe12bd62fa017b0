"""``msdsr phantom``, ``fetch`` and ``sheet``: where raw data and their sheets come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from msdsr.arguments import parse_settings, parse_voxel
from msdsr.cli_options import Cohort, Fetched, Seed, Settings, close
from msdsr.config import PhantomConfig

fetch_app = typer.Typer(help="Fetch what the workflow needs from public places, checked by hash.")
phantom_app = typer.Typer(help="The synthetic cohort with known truth.")
sheet_app = typer.Typer(help="Sample sheets from the tables of public data sets.")


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


@sheet_app.command("opensrh")
def sheet_opensrh(
    tree: Annotated[Path, typer.Argument(help="Folder that holds meta/opensrh.json.")],
    out: Annotated[Path, typer.Argument(help="Sample sheet to write (….tsv).")],
    voxel_um: Annotated[str, typer.Option(help="Spacing z,y,x (µm).")] = "1,0.5,0.5",
    label: Annotated[
        Literal["patch", "diagnosis"],
        typer.Option(help="Class of a tumor patch: `tumor`, or the diagnosis."),
    ] = "patch",
    nondiagnostic: Annotated[bool, typer.Option(help="List nondiagnostic patches too.")] = False,
) -> None:
    """Write the sample sheet of an OpenSRH tree, one row a slide, and a list of images for each."""
    from msdsr.ingest.opensrh import convert_opensrh as run

    found = run(tree, out, voxel=parse_voxel(voxel_um), label=label, nondiagnostic=nondiagnostic)
    for reason, count in found.left_out.items():
        typer.echo(f"warning: left out: {count} {reason}", err=True)
    images = ", ".join(f"{count} {kind}" for kind, count in found.images.items())
    patients = found.rows["patient"].nunique()
    typer.echo(f"sheet: {out} ({len(found.rows)} slides of {patients} patients; images: {images})")
