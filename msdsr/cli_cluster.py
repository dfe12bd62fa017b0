"""``msdsr cluster``: what a run on a cluster needs beside Snakemake."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

cluster_app = typer.Typer(help="A run on a cluster: what it needs beside Snakemake.")


@cluster_app.callback()
def cluster() -> None:
    """Keep `recover` a command of its own while it is the only one."""


@cluster_app.command("recover")
def cluster_recover(
    folder: Annotated[Path, typer.Argument(help="Where Snakemake was started.")] = Path(),
) -> None:
    """After Snakemake was killed on Slurm: cancel its jobs, wait until they are gone, unlock."""
    from msdsr.slurm import recover

    jobs = recover(folder)
    for job in jobs:
        typer.echo(f"cluster: cancelled {job.id} ({job.what})")
    typer.echo(f"cluster: {len(jobs)} jobs were left; the folder is ready to start Snakemake again")
