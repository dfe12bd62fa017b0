"""``msdsr trainset``: the images of a slide, and the set of many slides."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msdsr.arguments import cohort_slides, failed_slides, parse_pairs, parse_settings
from msdsr.cli_options import Results, Settings, WithoutFailed, Work, close
from msdsr.config import TrainsetConfig
from msdsr.errors import UserError
from msdsr.sheet import read_sheet, refuse_leaks

trainset_app = typer.Typer(help="2D training images from XY planes.")


@trainset_app.command("slide")
def trainset_slide(
    volume: Annotated[Path, typer.Argument(help="Denoised store.")],
    patches: Annotated[Path, typer.Argument(help="Patch table.")],
    out: Annotated[Path, typer.Argument(help="Store to make (…/images.zarr).")],
    work: Work,
    settings: Settings = "{}",
) -> None:
    """Decode the training images of one slide."""
    from msdsr.trainset import gather_slide as run

    parsed = parse_settings(TrainsetConfig, settings)
    close(run(volume, patches, out, work, settings=parsed), out)


@trainset_app.command("build")
def trainset_build(
    out: Annotated[Path, typer.Argument(help="Training set to make (…/trainset.zarr).")],
    sheet: Annotated[list[str], typer.Option(help="COHORT=SHEET, once for each cohort.")],
    work: Work,
    results: Results = Path("results"),
    without_failed: WithoutFailed = False,
    settings: Settings = "{}",
) -> None:
    """Gather the images of cohorts; slides that were not decoded yet are decoded."""
    from msdsr.failures import teaches
    from msdsr.trainset import TrainSlide, build_trainset

    sheets = parse_pairs("--sheet", sheet)
    tables = {cohort: read_sheet(path, check_files=False) for cohort, path in sheets.items()}
    refuse_leaks(list(tables), tables)
    failed = {
        cohort: [f.slide for f in failed_slides(cohort, results, without_failed) if not teaches(f)]
        for cohort in sheets
    }
    found = [
        (cohort, files)
        for cohort, path in sheets.items()
        for files in cohort_slides(cohort, path, results, ("train", "val"), without=failed[cohort])
    ]
    channels = {files.channels for _, files in found}
    if len(channels) > 1:
        raise UserError(
            "--sheet", f"cohorts with different channels {sorted(channels)}", "the same channels"
        )
    if not found:
        raise UserError("--sheet", "no slide of split train or val", "some to learn from")
    manifest = build_trainset(
        [
            TrainSlide(f.slide, f.patient, f.split, f.volume, f.patches, cohort, f.label, f.images)
            for cohort, f in found
        ],
        out,
        work,
        channels=channels.pop(),
        settings=parse_settings(TrainsetConfig, settings),
    )
    close(manifest, out)
