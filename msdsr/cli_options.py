"""Options that verbs share, and the line they close with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msdsr.manifest import Manifest

Settings = Annotated[
    str,
    typer.Option(
        help="The stage's section of the configuration: JSON, or @ and the name of a YAML file."
    ),
]
Work = Annotated[Path, typer.Option(help="Work folder, on the file system of the product.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Results = Annotated[Path, typer.Option(help="Where the cohorts' folders are.")]
Cohort = Annotated[str, typer.Option(help="Name of the cohort.")]
Sheet = Annotated[Path, typer.Option(help="The cohort's sample sheet.")]
WithoutFailed = Annotated[
    bool,
    typer.Option(
        "--without-failed", help="Leave out the slides that results/COHORT/failed.csv names."
    ),
]
Inception = Annotated[Path, typer.Option(help="The Inception network (`msdsr fetch inception`).")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of all randomness.")]
Fetched = Annotated[
    Path | None, typer.Option("--from", help="Package file got earlier, in place of a download.")
]


def close(manifest: Manifest, product: Path) -> None:
    """Print the closing summary of a stage."""
    for warning in manifest.warnings:
        typer.echo(f"warning: {warning}", err=True)
    counted = ", ".join(f"{k} {v}" for k, v in manifest.counts.items() if not isinstance(v, dict))
    typer.echo(f"{manifest.stage}: {product} ({counted}; {manifest.seconds:.1f} s)")


BEFORE_US_SECONDS = 180.0
"""Of a job's time: two Snakemakes and Python's imports, on a slow file system, and the end."""


def left_of_job(seconds: float) -> float:
    """Return what a job's time limit leaves to the command that it runs (s)."""
    return max(0.0, seconds - BEFORE_US_SECONDS)
