"""``msdsr evaluate``: the reference, a slide, a cohort."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msdsr.arguments import cohort_slides, failed_slides, parse_pairs, parse_settings
from msdsr.cli_options import (
    Cohort,
    Device,
    Inception,
    Results,
    Seed,
    Settings,
    Sheet,
    WithoutFailed,
    Work,
    close,
)
from msdsr.config import EvaluateConfig
from msdsr.errors import UserError

evaluate_app = typer.Typer(help="Numbers that say how good a volume is.")


@evaluate_app.command("reference")
def evaluate_reference(
    out: Annotated[Path, typer.Argument(help="File to make (…/reference.npz).")],
    cohort: Cohort,
    cohort_sheet: Sheet,
    inception: Inception,
    work: Work,
    results: Results = Path("results"),
    without_failed: WithoutFailed = False,
    seed: Seed = 0,
    device: Device = "auto",
    settings: Settings = "{}",
) -> None:
    """Compute the features of a cohort's real XY planes (split val)."""
    from msdsr.evaluate import build_reference as run

    failed = [f.slide for f in failed_slides(cohort, results, without_failed)]
    found = cohort_slides(cohort, cohort_sheet, results, ("val",), without=failed)
    if not found:
        raise UserError(
            cohort_sheet, "no slide of split val", "real planes to compare with", "add one"
        )
    manifest = run(
        [files.volume for files in found],
        [files.patches for files in found],
        out,
        work,
        patients=[files.patient for files in found],
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
    held_out: Annotated[
        list[str] | None, typer.Option(help="METHOD=STORE of held-out planes, repeated.")
    ] = None,
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
        heldout=parse_pairs("--held-out", held_out or []),
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
    without_failed: WithoutFailed = False,
    settings: Settings = "{}",
) -> None:
    """Merge the slides' numbers into the cohort's tables."""
    from msdsr.evaluate import evaluate_cohort as run
    from msdsr.evaluate import summary_lines

    failed = [f.slide for f in failed_slides(cohort, results, without_failed)]
    slides = cohort_slides(cohort, sheet, results, ("infer",), without=failed)
    manifest = run(
        [files.metrics(f) for files in slides for f in factor],
        reference,
        out,
        cohort=cohort,
        settings=parse_settings(EvaluateConfig, settings),
    )
    close(manifest, out)
    for line in summary_lines(out):
        typer.echo(f"evaluate: {line}")
