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
    parse_pairs,
    parse_settings,
    parse_voxel,
)
from msdsr.config import (
    DenoiseConfig,
    EvaluateConfig,
    IngestConfig,
    ModelConfig,
    PatchConfig,
    PhantomConfig,
    ReportConfig,
    SuperresolveConfig,
    TrainsetConfig,
)
from msdsr.configfile import read_config, render_docs, render_schema, render_yaml
from msdsr.errors import EXIT_RESUME, EXIT_USER_ERROR, Stopped, UserError, require_file
from msdsr.manifest import Manifest, write_text_atomically

app = typer.Typer(
    name="msdsr",
    help="Isotropic volumes from sparse tissue z-stacks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(help="The configuration: make it, describe it, check it.")
fetch_app = typer.Typer(help="Fetch what the workflow needs from public places, checked by hash.")
phantom_app = typer.Typer(help="The synthetic cohort with known truth.")
evaluate_app = typer.Typer(help="Numbers that say how good a volume is.")
app.add_typer(config_app, name="config")
app.add_typer(fetch_app, name="fetch")
app.add_typer(phantom_app, name="phantom")
app.add_typer(evaluate_app, name="evaluate")

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


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and stop.")] = False,
) -> None:
    """Isotropic volumes from sparse tissue z-stacks."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


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
    from msdsr.sheet import read_sheet

    config = read_config(path)
    for name, cohort in config.cohorts.items():
        rows = read_sheet(cohort.sheet, check_files=cohort.source == "files")
        splits = ", ".join(f"{n} {split}" for split, n in rows["split"].value_counts().items())
        typer.echo(f"{name}: {len(rows)} slides of {rows['patient'].nunique()} patients ({splits})")
    for name, model in config.models.items():
        if model.path is not None:
            require_file(model.path, f"correct models.{name}.path")
    typer.echo(f"config: {path} is right")


@app.command()
def ingest(
    path: Annotated[Path, typer.Argument(help="TIFF, ImageJ TIFF or OME-TIFF of one slide.")],
    out: Annotated[Path, typer.Argument(help="Store to make (…/raw.ome.zarr).")],
    slide: Annotated[str, typer.Option(help="Slide id.")],
    patient: Annotated[str, typer.Option(help="Patient id.")],
    voxel_um: Annotated[str, typer.Option(help="Spacing z,y,x (µm).")],
    channels: Annotated[str, typer.Option(help="Channel names with commas between.")],
    work: Work,
    settings: Settings = "{}",
) -> None:
    """Turn a raw z-stack into OME-Zarr, voxel for voxel."""
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
    settings: Settings = "{}",
) -> None:
    """Lay the patch grid over a slide and find its tissue."""
    from msdsr.patch import patch as run

    close(run(volume, out, settings=parse_settings(PatchConfig, settings)), out)


@app.command()
def denoise(
    volume: Annotated[Path, typer.Argument(help="Ingested store.")],
    out: Annotated[Path, typer.Argument(help="Store to make (…/denoised.ome.zarr).")],
    work: Work,
    settings: Settings = "{}",
) -> None:
    """Hand a volume to a denoiser, or pass it on as it is."""
    from msdsr.denoise import denoise as run

    close(run(volume, out, work, settings=parse_settings(DenoiseConfig, settings)), out)


@app.command()
def trainset(
    out: Annotated[Path, typer.Argument(help="Training set to make (…/trainset.zarr).")],
    sheet: Annotated[list[str], typer.Option(help="COHORT=SHEET, once for each cohort.")],
    work: Work,
    results: Results = Path("results"),
    settings: Settings = "{}",
) -> None:
    """Gather 2D training images from the XY planes of cohorts."""
    from msdsr.trainset import TrainSlide, build_trainset

    found = [
        files
        for cohort, path in parse_pairs("--sheet", sheet).items()
        for files in cohort_slides(cohort, path, results, ("train", "val"))
    ]
    channels = {files.channels for files in found}
    if len(channels) > 1:
        raise UserError(
            "--sheet", f"cohorts with different channels {sorted(channels)}", "the same channels"
        )
    if not found:
        raise UserError("--sheet", "no slide of split train or val", "some to learn from")
    manifest = build_trainset(
        [TrainSlide(f.slide, f.patient, f.split, f.volume, f.patches) for f in found],
        out,
        work,
        channels=channels.pop(),
        settings=parse_settings(TrainsetConfig, settings),
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
        float | None, typer.Option(min=0, help="Save and stop (exit code 75) before this (min).")
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
        budget_seconds=None if budget_minutes is None else 60 * budget_minutes,
    )
    close(manifest, out)


@app.command()
def superresolve(
    volume: Annotated[Path, typer.Argument(help="Store with sparse planes.")],
    out: Annotated[Path, typer.Argument(help="Store to make (…/msdsr_2x.ome.zarr).")],
    factor: Annotated[int, typer.Option(min=2, max=8, help="Planes become this much denser.")],
    work: Work,
    method: Annotated[str, typer.Option(help="msdsr, nearest or linear.")] = "msdsr",
    model: Annotated[Path | None, typer.Option(help="Folder of the model (msdsr).")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    settings: Settings = "{}",
) -> None:
    """Fill the missing planes of a volume; acquired planes stay bit for bit."""
    from msdsr.superresolve import superresolve as run

    manifest = run(
        volume,
        out,
        work,
        method=method,
        factor=factor,
        model=model,
        seed=seed,
        device=device,
        settings=parse_settings(SuperresolveConfig, settings),
    )
    close(manifest, out)


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


@evaluate_app.command("reference")
def evaluate_reference(
    out: Annotated[Path, typer.Argument(help="File to make (…/reference.npz).")],
    cohort: Cohort,
    cohort_sheet: Sheet,
    inception: Inception,
    work: Work,
    results: Results = Path("results"),
    seed: Seed = 0,
    device: Device = "auto",
    settings: Settings = "{}",
) -> None:
    """Compute the features of a cohort's real XY planes (split val)."""
    from msdsr.evaluate import build_reference as run

    found = cohort_slides(cohort, cohort_sheet, results, ("val",))
    if not found:
        raise UserError(
            cohort_sheet, "no slide of split val", "real planes to compare with", "add one"
        )
    manifest = run(
        [files.volume for files in found],
        [files.patches for files in found],
        out,
        work,
        inception=inception,
        settings=parse_settings(EvaluateConfig, settings),
        seed=seed,
        device=device,
    )
    close(manifest, out)


@evaluate_app.command("slide")
def evaluate_slide(
    acquired: Annotated[Path, typer.Argument(help="Store that was restored.")],
    out: Annotated[Path, typer.Argument(help="Folder to make (…/metrics_2x).")],
    slide: Annotated[str, typer.Option(help="Slide id.")],
    patient: Annotated[str, typer.Option(help="Patient id.")],
    factor: Annotated[int, typer.Option(min=2, max=8, help="Factor of the restored stores.")],
    reference: Annotated[Path, typer.Option(help="The cohort's reference.npz.")],
    inception: Inception,
    work: Work,
    restored: Annotated[list[str] | None, typer.Option(help="METHOD=STORE, repeated.")] = None,
    patches: Annotated[Path | None, typer.Option(help="Patch table: crops from tissue.")] = None,
    truth: Annotated[Path | None, typer.Option(help="Store of the isotropic truth.")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    settings: Settings = "{}",
) -> None:
    """Judge the restored volumes of one slide."""
    from msdsr.evaluate import evaluate_slide as run

    manifest = run(
        acquired,
        parse_pairs("--restored", restored or []),
        out,
        work,
        slide=slide,
        patient=patient,
        factor=factor,
        truth=truth,
        patches=patches,
        reference=reference,
        inception=inception,
        settings=parse_settings(EvaluateConfig, settings),
        seed=seed,
        device=device,
    )
    close(manifest, out)


@evaluate_app.command("cohort")
def evaluate_cohort(
    out: Annotated[Path, typer.Argument(help="Folder to make (…/metrics).")],
    cohort: Cohort,
    sheet: Sheet,
    reference: Annotated[Path, typer.Option(help="The cohort's reference.npz.")],
    factor: Annotated[list[int], typer.Option(help="A factor, repeated.")],
    results: Results = Path("results"),
    settings: Settings = "{}",
) -> None:
    """Merge the slides' numbers into the cohort's tables."""
    from msdsr.evaluate import evaluate_cohort as run

    slides = cohort_slides(cohort, sheet, results, ("infer",))
    manifest = run(
        [files.metrics(f) for files in slides for f in factor],
        reference,
        out,
        cohort=cohort,
        settings=parse_settings(EvaluateConfig, settings),
    )
    close(manifest, out)


@app.command()
def report(
    out: Annotated[Path, typer.Argument(help="Folder to make (…/report).")],
    cohort: Cohort,
    sheet: Sheet,
    metrics: Annotated[Path, typer.Option(help="The cohort's merged metrics.")],
    curve: Annotated[list[str] | None, typer.Option(help="MODEL=metrics.jsonl, repeated.")] = None,
    attribution: Annotated[str, typer.Option(help="Source and licence of the data.")] = "",
    results: Results = Path("results"),
    settings: Settings = "{}",
) -> None:
    """Build the cohort's page."""
    from msdsr.report import ReportSlide, build_report

    curves = parse_pairs("--curve", curve or [])
    slides = cohort_slides(cohort, sheet, results)
    manifest = build_report(
        cohort=cohort,
        metrics_dir=metrics,
        slides=[
            ReportSlide(
                f.slide, f.patient, f.volume, f.all_restored(), truth=f.truth, notes=f.notes
            )
            for f in slides
            if f.split == "infer"
        ],
        curves=curves,
        manifests=cohort_manifests(slides, metrics, curves.values()),
        out_dir=out,
        settings=parse_settings(ReportConfig, settings),
        attribution=attribution,
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
        typer.echo(f"msdsr: {stopped}; run the same command again to go on", err=True)
        return EXIT_RESUME
    return 0
