"""``msdsr evaluate --table N``: the paper's tables for a cohort."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from msdsr.cli_evaluate import evaluate_app
from msdsr.cli_options import Device, Results
from msdsr.configfile import read_config
from msdsr.errors import UserError

__all__ = ["evaluate_app"]


@evaluate_app.callback(invoke_without_command=True)
def evaluate_tables(
    context: typer.Context,
    table: Annotated[
        int | None,
        typer.Option(
            help="One of the paper's tables, for a cohort that the workflow has been through: 1 "
            "paired 2D, 2 in 3D, 3 one direction, 4 blur. 3 and 4 restore the cohort's slides in "
            "three further ways."
        ),
    ] = None,
    cohort: Annotated[str | None, typer.Option(help="Name of the cohort, for --table.")] = None,
    config: Annotated[
        Path, typer.Option(help="Configuration of the workflow's run, for --table.")
    ] = Path("config/config.yaml"),
    results: Results = Path("results"),
    protocol: Annotated[
        Literal["v2", "paper"],
        typer.Option(help="One fixed window (v2), or equalised patches as in the paper."),
    ] = "v2",
    images: Annotated[int, typer.Option(min=2, help="Most crops of --table 1.")] = 1000,
    inception: Annotated[
        Path | None, typer.Option(help="The Inception network; default: the workflow's.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Page to write (….md), its CSV beside it.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Numbers that say how good a volume is."""
    if context.invoked_subcommand is not None:
        if table is not None:
            raise UserError(
                "--table",
                f"given with {context.invoked_subcommand}",
                "one of them",
                "leave one out",
            )
        return
    if table is None:
        typer.echo(context.get_help())
        raise typer.Exit
    from msdsr.tables import TABLES, make_table
    from msdsr.tables.source import TableSource

    if table not in TABLES:
        raise UserError("--table", str(table), "1, 2, 3 or 4")
    settings = read_config(config)
    name = cohort or (next(iter(settings.cohorts)) if len(settings.cohorts) == 1 else None)
    if name is None:
        raise UserError("--cohort", "not given", f"one of {', '.join(settings.cohorts)}")
    network = inception or settings.evaluate.inception or results / "resources/inception.pt"
    source = TableSource(settings, name, results, protocol, Path(network), device, images)
    made, page = make_table(table, source, out)
    typer.echo(made.markdown())
    typer.echo(f"evaluate: {page} and {page.with_suffix('.csv').name}")
