"""``msdsr export``, ``compare`` and ``view``: results for other people and other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msdsr.cli_options import Results, close


def export(
    source: Annotated[
        Path, typer.Argument(help="A store, or the folder of a slide or of a cohort.")
    ],
    target: Annotated[
        Path | None,
        typer.Argument(help="File or folder to make; without it export/<name of the source>."),
    ] = None,
    ozx: Annotated[
        bool, typer.Option("--ozx", help="Single-file OME-Zarr: one .ozx for each image.")
    ] = False,
    tiff: Annotated[
        bool, typer.Option("--tiff", help="OME-TIFF: one BigTIFF with a pyramid for each image.")
    ] = False,
    ome_zarr_version: Annotated[
        str | None,
        typer.Option(help="OME-Zarr in a folder: 0.4 (Zarr v2, no shards) or 0.5 (as it is)."),
    ] = None,
    level: Annotated[
        int, typer.Option(min=0, help="Finest level of the pyramid to keep; 0 is full resolution.")
    ] = 0,
) -> None:
    """Turn products into single files, OME-Zarr 0.4 or OME-TIFF, voxel for voxel."""
    from msdsr.export import export as run
    from msdsr.export.formats import choose_format

    how = choose_format(ozx, tiff, ome_zarr_version)
    if target is None:
        target = Path("export") / source.resolve().name.split(".")[0]
    manifest, product = run(source, target, how, level)
    close(manifest, product)


def compare(
    first: Annotated[
        str, typer.Argument(help="A cohort: results/<cohort>, its report, or its name.")
    ],
    second: Annotated[str, typer.Argument(help="The cohort to set beside it.")],
    out: Annotated[Path, typer.Option(help="Page to make (….html).")] = Path("comparison.html"),
    results: Results = Path("results"),
) -> None:
    """Set the reports of two cohorts side by side in one page."""
    from msdsr.report.compare import build_comparison

    typer.echo(f"compare: {build_comparison(first, second, out, results)}")


def view(
    paths: Annotated[list[str], typer.Argument(help="Stores, or folders of slides.")],
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on this machine; 0 takes a free one.")
    ] = 0,
    no_open: Annotated[
        bool, typer.Option("--no-open", help="Print the address, and open no browser.")
    ] = False,
    napari: Annotated[
        bool, typer.Option("--napari", help="Print the command for napari, and stop.")
    ] = False,
) -> None:
    """Open volumes at full resolution in neuroglancer, served to this machine alone."""
    import contextlib
    import sys
    import threading
    import webbrowser

    from msdsr.signals import on_sigterm
    from msdsr.view import find_shown, napari_command
    from msdsr.view.serve import Service

    stores = find_shown(paths)
    if napari:
        typer.echo(napari_command(stores))
        return
    asked = threading.Event()
    # First, so that a stop is heard from the moment the address is known.
    with on_sigterm(asked.set), Service(stores, port) as service:
        typer.echo(f"view: {', '.join(store.name for store in stores)}")
        typer.echo(f"view: {service.url} (Ctrl-C stops it)")
        sys.stdout.flush()
        if not no_open:
            webbrowser.open(service.url)
        with contextlib.suppress(KeyboardInterrupt):
            asked.wait()
