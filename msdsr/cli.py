"""The command line: one verb a stage; parsing, progress and a closing line, nothing else."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from msdsr import __version__
from msdsr.arguments import (
    cohort_manifests,
    cohort_slides,
    failed_slides,
    parse_factor,
    parse_pairs,
    parse_planes,
    parse_settings,
    parse_side,
    parse_voxel,
)
from msdsr.cli_cluster import cluster_app
from msdsr.cli_cohort import cohort_app, plan
from msdsr.cli_config import config_app
from msdsr.cli_options import (
    Cohort,
    Device,
    Results,
    Seed,
    Settings,
    Sheet,
    WithoutFailed,
    Work,
    close,
    left_of_job,
)
from msdsr.cli_share import compare, export, view
from msdsr.cli_sources import fetch_app, phantom_app, sheet_app
from msdsr.cli_tables import evaluate_app
from msdsr.cli_trainset import trainset_app
from msdsr.cli_weights import weights_app
from msdsr.config import (
    DenoiseConfig,
    IngestConfig,
    ModelConfig,
    PatchConfig,
    ReportConfig,
    SuperresolveConfig,
)
from msdsr.errors import EXIT_RESUME, EXIT_USER_ERROR, Stopped, UserError

app = typer.Typer(
    name="msdsr",
    help="Isotropic volumes from sparse tissue z-stacks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(cluster_app, name="cluster")
app.add_typer(config_app, name="config")
app.add_typer(cohort_app, name="cohort")
app.command()(plan)
app.add_typer(fetch_app, name="fetch")
app.add_typer(phantom_app, name="phantom")
app.add_typer(sheet_app, name="sheet")
app.add_typer(trainset_app, name="trainset")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(weights_app, name="weights")
app.command()(export)
app.command()(compare)
app.command()(view)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and stop.")] = False,
) -> None:
    """Isotropic volumes from sparse tissue z-stacks."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def ingest(
    path: Annotated[
        Path, typer.Argument(help="TIFF, ImageJ TIFF or OME-TIFF of one slide, or ….images.tsv.")
    ],
    out: Annotated[Path, typer.Argument(help="Store to make (…/raw.ome.zarr).")],
    slide: Annotated[str, typer.Option(help="Slide id.")],
    patient: Annotated[str, typer.Option(help="Patient id.")],
    voxel_um: Annotated[str, typer.Option(help="Spacing z,y,x (µm).")],
    channels: Annotated[str, typer.Option(help="Channel names with commas between.")],
    work: Work,
    settings: Settings = "{}",
) -> None:
    """Turn a raw z-stack, or a list of 2D images, into OME-Zarr, voxel for voxel."""
    from msdsr.ingest import ingest as run

    manifest = run(
        path,
        out,
        work,
        voxel=parse_voxel(voxel_um),
        channels=[name.strip() for name in channels.split(",")],
        slide=slide,
        patient=patient,
        settings=parse_settings(IngestConfig, settings),
    )
    close(manifest, out)


@app.command()
def patch(
    volume: Annotated[Path, typer.Argument(help="Ingested store.")],
    out: Annotated[Path, typer.Argument(help="Table to make (…/patches.parquet).")],
    flagged: Annotated[
        str, typer.Option(help="Planes to leave out, from 0, with commas between.")
    ] = "",
    settings: Settings = "{}",
) -> None:
    """Lay the patch grid over a slide, find its tissue and the planes that are of no use."""
    from msdsr.patch import patch as run

    planes = parse_planes("--flagged", flagged)
    close(run(volume, out, settings=parse_settings(PatchConfig, settings), flagged=planes), out)


@app.command()
def denoise(
    volume: Annotated[Path, typer.Argument(help="Ingested store.")],
    out: Annotated[Path, typer.Argument(help="Store to make (…/denoised.ome.zarr).")],
    work: Work,
    prior: Annotated[Path | None, typer.Option(help="Folder of the prior (mode rscd).")] = None,
    calibrator: Annotated[
        Path | None, typer.Option(help="Folder of the calibrator (mode rscd).")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    settings: Settings = "{}",
) -> None:
    """Hand a volume to a denoiser, or pass it on as it is."""
    from msdsr.denoise import denoise as run

    manifest = run(
        volume,
        out,
        work,
        settings=parse_settings(DenoiseConfig, settings),
        prior=prior,
        calibrator=calibrator,
        seed=seed,
        device=device,
    )
    close(manifest, out)


@app.command()
def train(
    trainset: Annotated[Path, typer.Argument(help="Training set.")],
    out: Annotated[Path, typer.Argument(help="Folder of the model to make.")],
    model: Annotated[str, typer.Option(help="The model's section: JSON or @file.")],
    work: Work,
    seed: Seed = 0,
    device: Device = "auto",
    gpus: Annotated[int, typer.Option(min=0, help="GPUs of this machine to train on.")] = 0,
    budget_minutes: Annotated[
        float | None,
        typer.Option(
            min=0, help="The job's time limit (min): save and stop (exit code 75) in good time."
        ),
    ] = None,
    inception: Annotated[
        Path | None, typer.Option(help="Inception network: FID of restored validation crops.")
    ] = None,
) -> None:
    """Train a model; stopped at any moment, it goes on where it was."""
    from msdsr.train import train as run

    manifest = run(
        trainset,
        out,
        work,
        model=parse_settings(ModelConfig, model, "--model"),
        seed=seed,
        device=device,
        gpus=gpus,
        inception=inception,
        budget_seconds=None if budget_minutes is None else left_of_job(60 * budget_minutes),
    )
    close(manifest, out)


@app.command()
def superresolve(
    volume: Annotated[Path, typer.Argument(help="Store with sparse planes.")],
    out: Annotated[Path, typer.Argument(help="Store to make (…/msdsr_2x.ome.zarr).")],
    factor: Annotated[
        str, typer.Option(help="Planes become this much denser: 2 to 8, or auto (z over xy).")
    ],
    work: Work,
    method: Annotated[
        str, typer.Option(help="msdsr, ms_unet, e2e_unet, nearest, linear or cubic.")
    ] = "msdsr",
    model: Annotated[
        Path | None, typer.Option(help="Folder of the model, of the method's kind.")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    gpus: Annotated[int, typer.Option(min=0, help="GPUs of this machine to work on.")] = 0,
    part: Annotated[
        str | None, typer.Option(help="Restore this part of the blocks alone, such as 2/3.")
    ] = None,
    finish: Annotated[
        bool, typer.Option("--finish", help="Publish what all parts have restored.")
    ] = False,
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="Make, in place of a store, a calibration (….parquet)."),
    ] = False,
    calibration: Annotated[
        Path | None, typer.Option(help="Calibration of the samples' standard deviation.")
    ] = None,
    held_out: Annotated[
        str | None,
        typer.Option(
            help="Restore planes that were acquired without showing them: side of a square (px), "
            "or whole."
        ),
    ] = None,
    patches: Annotated[
        Path | None, typer.Option(help="The slide's patch table, for its background.")
    ] = None,
    preview: Annotated[
        Path | None, typer.Option(help="Folder for pictures of what is being restored.")
    ] = None,
    preview_every: Annotated[int, typer.Option(min=1, help="Steps between pictures.")] = 5,
    settings: Settings = "{}",
) -> None:
    """Fill the missing planes of a volume; acquired planes stay bit for bit."""
    from msdsr.superresolve import Part, Preview, restore_held_out, superresolve_part
    from msdsr.superresolve import calibrate as run_calibration
    from msdsr.superresolve import superresolve as run

    options: dict[str, Any] = {
        "method": method,
        "factor": parse_factor(factor),
        "model": model,
        "seed": seed,
        "device": device,
        "patches": patches,
        "settings": parse_settings(SuperresolveConfig, settings),
    }
    if calibrate:
        close(run_calibration(volume, out, work, **options), out)
        return
    if held_out is not None:
        side = parse_side("--held-out", held_out)
        close(restore_held_out(volume, out, work, side=side, **options), out)
        return
    options |= {
        "gpus": gpus,
        "calibration": calibration,
        "preview": None if preview is None else Preview(preview, preview_every),
    }
    if part is None:
        close(run(volume, out, work, finish=finish, **options), out)
        return
    if finish:
        raise UserError("--finish", "given with --part", "one of them", "finish after all parts")
    done = superresolve_part(volume, out, work, Part.parse(part), **options)
    typer.echo(f"superresolve: part {done.part.name}, {done.blocks} of {done.blocks_of_all} blocks")


@app.command()
def report(
    out: Annotated[Path, typer.Argument(help="Folder to make (…/report).")],
    cohort: Cohort,
    sheet: Sheet,
    metrics: Annotated[Path, typer.Option(help="The cohort's merged metrics.")],
    curve: Annotated[list[str] | None, typer.Option(help="MODEL=metrics.jsonl, repeated.")] = None,
    attribution: Annotated[str, typer.Option(help="Source and licence of the data.")] = "",
    results: Results = Path("results"),
    without_failed: WithoutFailed = False,
    settings: Settings = "{}",
) -> None:
    """Build the cohort's page, and a page of each slide with the viewer."""
    from msdsr.report import ReportSlide, build_report

    curves = parse_pairs("--curve", curve or [])
    failed = failed_slides(cohort, results, without_failed)
    slides = cohort_slides(cohort, sheet, results, without=[f.slide for f in failed])
    manifest = build_report(
        cohort=cohort,
        metrics_dir=metrics,
        slides=[
            ReportSlide(
                f.slide,
                f.patient,
                f.volume,
                f.all_restored(),
                truth=f.truth,
                notes=f.notes,
                spread=f.all_spreads(),
            )
            for f in slides
            if f.split == "infer"
        ],
        curves=curves,
        manifests=cohort_manifests(slides, metrics, curves.values()),
        out_dir=out,
        settings=parse_settings(ReportConfig, settings),
        attribution=attribution,
        failed=failed,
    )
    close(manifest, out / "index.html")


def main() -> NoReturn:
    """Run the command line; a user's mistake is one line and exit code 2."""
    sys.exit(run_guarded(app))


def run_guarded(command: Callable[[], Any]) -> int:
    """Run a command and turn how it ends into an exit code."""
    try:
        command()
    except UserError as error:
        typer.echo(f"msdsr: error: {error.line()}", err=True)
        return EXIT_USER_ERROR
    except Stopped as stopped:
        typer.echo(f"msdsr: {stopped}", err=True)
        return EXIT_RESUME
    return 0
