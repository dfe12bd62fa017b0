"""``msdsr cohort add`` and ``msdsr plan``: a cohort checked and estimated before it is run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from msdsr.cli_options import Results
from msdsr.config import CohortConfig, Config
from msdsr.configfile import check_config, read_config
from msdsr.errors import UserError, require_file
from msdsr.manifest import write_text_atomically

cohort_app = typer.Typer(help="Cohorts: add one to the configuration.")

ConfigFile = Annotated[Path, typer.Option("--config", help="The configuration.")]
CONFIG = Path("config/config.yaml")


@cohort_app.callback()
def cohort_root() -> None:
    """Cohorts: add one to the configuration."""


@cohort_app.command("add")
def cohort_add(
    sheet: Annotated[Path, typer.Argument(help="Its sample sheet (….tsv).")],
    name: Annotated[str, typer.Option(help="Its name; otherwise the sheet's.")] = "",
    model: Annotated[
        str, typer.Option(help="Which of `models` restores it; otherwise the only frozen one.")
    ] = "",
    config: ConfigFile = CONFIG,
    results: Results = Path("results"),
) -> None:
    """Check a sheet against its files, estimate what it takes, and add it to the configuration."""
    from msdsr.cohort import check_slides, cohort_block, with_cohort
    from msdsr.sheet import read_sheet

    before = read_config(config)
    name = name or sheet.stem
    if name in before.cohorts:
        raise UserError(config, f"cohort {name!r} is there already", "a new name", "give --name")
    block = cohort_block(name, str(sheet), model or _only_frozen(before, config))
    after = _checked(before, block, config)
    rows = read_sheet(sheet).to_dict("records")
    _refuse_leaks(after, after.cohorts[name].model)
    slides = check_slides([{str(key): value for key, value in row.items()} for row in rows])
    bad = [slide for slide in slides if slide.problem]
    for slide in slides:
        for line in slide.warnings:
            typer.echo(f"warning: slide {slide.slide}: {line}", err=True)
    for slide in bad:
        typer.echo(f"slide {slide.slide}: {slide.problem}", err=True)
    if bad:
        raise UserError(
            sheet, f"{len(bad)} of {len(slides)} files cannot be used", "files that fit their rows",
            "put them right, or take their rows out",
        )  # fmt: skip
    _tell(after, name, slides, results)
    _write(config, block, with_cohort(config.read_text(encoding="utf-8"), block))
    chosen = "" if config == CONFIG else f" --configfile {config}"
    typer.echo(f"\nsnakemake --profile profiles/slurm{chosen} report_{name}")


def plan(
    cohort: Annotated[list[str] | None, typer.Argument(help="Cohorts; otherwise all.")] = None,
    config: ConfigFile = CONFIG,
    results: Results = Path("results"),
) -> None:
    """Estimate the hours of CPUs and GPUs, and the disk, that cohorts take."""
    from msdsr.cohort import check_slides
    from msdsr.sheet import read_sheet

    found = read_config(config)
    for name in cohort or found.cohorts:
        if name not in found.cohorts:
            raise UserError(config, f"no cohort {name!r}", f"one of {', '.join(found.cohorts)}")
        rows = read_sheet(found.cohorts[name].sheet, check_files=False).to_dict("records")
        named = [{str(key): value for key, value in row.items()} for row in rows]
        slides = check_slides(named, results / name / "slides")
        for slide in slides:
            if slide.problem:
                typer.echo(f"slide {slide.slide}: {slide.problem}", err=True)
        _tell(found, name, slides, results)


def _only_frozen(config: Config, where: Path) -> str:
    frozen = [n for n, m in config.models.items() if m.path is not None and m.kind == "msdsr"]
    if len(frozen) != 1:
        raise UserError(
            where,
            f"{len(frozen)} frozen models of kind msdsr ({', '.join(frozen)})",
            "the name of the one that restores the cohort",
            f"give --model, one of {', '.join(config.models)}",
        )
    return frozen[0]


def _checked(config: Config, block: str, where: Path) -> Config:
    """Return the configuration with the cohort in it."""
    values: dict[str, Any] = config.model_dump(exclude_unset=True)
    (new,) = yaml.safe_load(block).items()
    cohorts = config.cohorts | {new[0]: CohortConfig.model_validate(new[1])}
    values["cohorts"] = {key: one.model_dump(exclude_unset=True) for key, one in cohorts.items()}
    return check_config(values, where)


def _refuse_leaks(config: Config, model: str) -> None:
    """Refuse a patient of the new cohort who has taught the model that restores it."""
    from msdsr.sheet import read_sheet, refuse_leaks
    from msdsr.shipped import model_folder

    if (path := config.models[model].path) is not None:
        require_file(model_folder(path), f"correct models.{model}.path")
    cohorts = config.cohorts_of(model)
    sheets = {c: read_sheet(config.cohorts[c].sheet, check_files=False) for c in cohorts}
    refuse_leaks(config.models[model].cohorts, sheets)


def _tell(config: Config, name: str, slides: list[Any], results: Path) -> None:
    """Print what a cohort takes."""
    from msdsr.arguments import factors_of
    from msdsr.cohort.estimate import estimate_cohort
    from msdsr.cohort.rates import earlier_runs

    factors = factors_of(config, config.cohorts[name].sheet)
    found = estimate_cohort(config, name, slides, factors, earlier_runs(results))
    guessed = f", {found.guessed} of unknown size" if found.guessed else ""
    typer.echo(f"{name}: {found.slides} slides{guessed}")
    typer.echo(f"  {'':<28}{'jobs':>6}{'hours':>10}  on   rate")
    for line in found.lines:
        hours = f"{line.hours:.2f}" if line.hours >= 0.005 or not line.hours else "<0.01"
        typer.echo(f"  {line.what:<28}{line.jobs:>6}{hours:>10}  {line.on}  {line.source}")
    typer.echo(
        f"  CPU-hours {found.hours('CPU'):.1f} (one core), GPU-hours {found.hours('GPU'):.1f}, "
        f"disk at most {found.disk_gb:.1f} GB"
    )
    typer.echo(f"  without a GPU: {found.cpu_hours_without_gpu():.1f} hours of one core with AMX")


def _write(config: Path, block: str, changed: str | None) -> None:
    if changed is None:
        typer.echo(f"\n{config} is not written in the usual way; add below `cohorts:`\n\n{block}")
        return
    write_text_atomically(config, changed)
    typer.echo(f"\nadded to {config}:\n{block}", nl=False)
