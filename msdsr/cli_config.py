"""``msdsr config``: make the configuration, describe it, check it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msdsr.configfile import read_config, render_docs, render_schema, render_yaml
from msdsr.errors import UserError, require_file
from msdsr.manifest import write_text_atomically

config_app = typer.Typer(help="The configuration: make it, describe it, check it.")


@config_app.command("init")
def config_init(
    out: Annotated[Path, typer.Argument(help="File to write.")] = Path("config/config.yaml"),
    force: Annotated[bool, typer.Option(help="Replace a file that is there.")] = False,
) -> None:
    """Write the default configuration, every key with its meaning."""
    if out.exists() and not force:
        raise UserError(out, "exists already", "a free name", "give --force to replace it")
    write_text_atomically(out, render_yaml())
    typer.echo(f"config: {out}")


@config_app.command("schema")
def config_schema(
    out: Annotated[Path, typer.Argument()] = Path("workflow/schemas/config.schema.yaml"),
) -> None:
    """Write the JSON schema of the configuration."""
    write_text_atomically(out, render_schema())
    typer.echo(f"config: {out}")


@config_app.command("docs")
def config_docs(
    out: Annotated[Path, typer.Argument()] = Path("docs/reference/config.md"),
) -> None:
    """Write the table of all keys for the documentation."""
    write_text_atomically(out, render_docs())
    typer.echo(f"config: {out}")


@config_app.command("check")
def config_check(
    path: Annotated[Path, typer.Argument()] = Path("config/config.yaml"),
) -> None:
    """Check a configuration, its sample sheets and the files they name."""
    from msdsr.sheet import read_sheet, refuse_leaks
    from msdsr.shipped import model_folder

    config = read_config(path)
    sheets = {}
    for name, cohort in config.cohorts.items():
        sheets[name] = rows = read_sheet(cohort.sheet, check_files=cohort.source == "files")
        splits = ", ".join(f"{n} {split}" for split, n in rows["split"].value_counts().items())
        typer.echo(f"{name}: {len(rows)} slides of {rows['patient'].nunique()} patients ({splits})")
    for name, model in config.models.items():
        refuse_leaks(model.cohorts, {c: sheets[c] for c in config.cohorts_of(name)})
        if model.path is not None:
            require_file(model_folder(model.path), f"correct models.{name}.path")
    typer.echo(f"config: {path} is right")
