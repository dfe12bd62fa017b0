"""The verbs on weights that were trained elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msdsr.cli_options import close

weights_app = typer.Typer(help="Weights that were trained elsewhere.")


@weights_app.callback()
def weights() -> None:
    """Weights that were trained elsewhere."""


@weights_app.command("import")
def weights_import(
    checkpoint: Annotated[Path, typer.Argument(help="The published checkpoint (d17986ac.ckpt).")],
    out: Annotated[Path, typer.Argument(help="Folder of the model to make.")],
    raw: Annotated[
        bool, typer.Option("--raw", help="The last weights, not their moving average.")
    ] = False,
) -> None:
    """Turn the published checkpoint into a model; nothing in the file is run."""
    from msdsr.diffusion.published import import_published

    close(import_published(checkpoint, out, raw=raw), out)
