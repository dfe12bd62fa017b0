"""What a cohort will take: hours of CPUs and of GPUs, and disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msdsr.cohort.check import CheckedSlide
from msdsr.cohort.rates import (
    BYTES_EACH,
    CPU_FLOPS,
    GPU_FLOPS,
    INCEPTION_FLOPS,
    INCEPTION_SECONDS,
    TABLE,
    TILES_EACH,
    TRAINING_OVER_RESTORING,
    Rate,
    Seen,
    seen_rates,
)
from msdsr.config import Config, ModelConfig
from msdsr.shipped import model_folder

ARITHMETIC = "arithmetic, not measured: 30 % of an H100's peak"
CORE = "measured with the demo's network, scaled by operations: one core with AMX"
INTERPOLATIONS = ("nearest", "linear", "cubic")
ORIENTATIONS = 4
"""XY, XZ, YZ, and XY of the generated planes alone."""

DATA_CHANNELS = 2


@dataclass(frozen=True)
class Line:
    """The jobs of a stage: how many, and their hours.

    Attributes
    ----------
    what, jobs
        The stage, with its method and factor where it has them.
    hours
        Of one core, or of one GPU.
    on
        ``CPU`` or ``GPU``.
    source
        Where the rate comes from.
    cpu_hours
        Where a GPU is counted on: hours of one core without.
    """

    what: str
    jobs: int
    hours: float
    on: str
    source: str
    cpu_hours: float | None = None


@dataclass
class Estimate:
    """What a cohort will take."""

    cohort: str
    slides: int
    guessed: int
    lines: list[Line] = field(default_factory=list)
    disk_gb: float = 0.0

    def hours(self, on: str) -> float:
        """Return the hours of one core (``CPU``) or of one GPU (``GPU``)."""
        return sum(line.hours for line in self.lines if line.on == on)

    def cpu_hours_without_gpu(self) -> float:
        """Return the hours of one core where no GPU is to be had."""
        return sum(line.hours if line.cpu_hours is None else line.cpu_hours for line in self.lines)


def estimate_cohort(
    config: Config,
    cohort: str,
    slides: Sequence[CheckedSlide],
    factors: Sequence[int],
    runs: Iterable[Seen] = (),
) -> Estimate:
    """Estimate what a cohort takes from the beginning, whatever of it is made already.

    Parameters
    ----------
    config
        The configuration, with the cohort in it.
    cohort
        Its name.
    slides
        Its slides; one with a problem counts as none.
    factors
        Along z, as numbers.
    runs
        What earlier runs took (see `earlier_runs`); where they have nothing to say, the committed
        table does, and where that has nothing, arithmetic.
    """
    good = [slide for slide in slides if not slide.problem]
    infer = [slide for slide in good if slide.split == "infer"]
    val = [slide for slide in good if slide.split == "val"]
    teaching = [name for name, m in config.models.items() if cohort in m.cohorts and not m.path]
    taught = [slide for slide in good if slide.split != "infer"] if teaching else []
    used = taught if len(taught) > len(val) else val
    out = Estimate(cohort, len(good), sum(not slide.known for slide in good))
    seen = seen_rates(runs)
    for stage in ("ingest", "patch", "denoise"):
        if stage == "denoise" and config.denoise.mode == "rscd":
            out.lines.append(Line("denoise (rscd)", len(infer + used), 0.0, "GPU", "not estimated"))
            continue
        out.lines.append(_slides_line(stage, infer + used, seen.get((stage, "", 0, False))))
    if taught:
        out.lines.append(_slides_line("trainset", taught, None))
    for name in teaching:
        out.lines.append(_training(name, config.models[name]))
    for factor in factors:
        for method in config.superresolve.methods:
            out.lines += _restoring(config, cohort, method, factor, infer, seen)
        out.lines.append(_evaluating(config, factor, infer))
    out.disk_gb = _disk(config, infer, used, taught, factors)
    return out


def _slides_line(stage: str, slides: Sequence[CheckedSlide], seen: Rate | None) -> Line:
    rate = seen or TABLE[stage]
    seconds = sum(rate.start + rate.each * slide.megavoxels for slide in slides)
    return Line(stage, len(slides), seconds / 3600, "CPU", rate.source)


def _training(name: str, model: ModelConfig) -> Line:
    network = model.network
    operations = model.optimiser.images * TRAINING_OVER_RESTORING * _operations(lambda: _new(model))
    scale = (network.image_size / 48) ** 2
    cpu, gpu = (operations * scale / each / 3600 for each in (CPU_FLOPS, GPU_FLOPS))
    return Line(f"train {name}", 1, gpu, "GPU", ARITHMETIC, cpu)


def _restoring(
    config: Config,
    cohort: str,
    method: str,
    factor: int,
    slides: Sequence[CheckedSlide],
    seen: dict[tuple[str, str, int, bool], Rate],
) -> list[Line]:
    """Return the lines of restoring by one method at one factor, and of its held-out planes."""
    what = f"superresolve {method} {factor}×"
    voxels = sum(slide.megavoxels for slide in slides)
    if method in INTERPOLATIONS:
        rate = TABLE["interpolate"]
        seconds = sum(rate.start + rate.each * s.megavoxels * factor / 2 for s in slides)
        return [Line(what, len(slides), seconds / 3600, "CPU", rate.source)]
    settings = config.superresolve
    one_pass = method != "msdsr"
    evaluations = 1 if one_pass else settings.steps * settings.samples
    if settings.mode == "average" or one_pass:
        evaluations *= 2
    places = sum(s.megavoxels / s.shape[0] * factor for s in slides)
    section = config.cohorts[cohort]
    name = section.model if method == "msdsr" else getattr(section.baseline_models, method)
    operations = places * TILES_EACH * evaluations * _of_model(config.models[name])
    cpu, gpu = (operations / each / 3600 for each in (CPU_FLOPS, GPU_FLOPS))
    steps = settings.steps * settings.samples
    source = ARITHMETIC
    if known := seen.get(("superresolve", method, steps, True)):
        gpu, source = known.each * voxels / 3600, known.source
    if known := seen.get(("superresolve", method, steps, False)):
        cpu = known.each * voxels / 3600
    lines = [Line(what, len(slides), gpu, "GPU", source, cpu)]
    side = config.evaluate.heldout
    if side != "none" and slides:
        sides = [float("inf") if side == "whole" else side for _ in slides]
        parts = [
            min(1.0, n * n / (s.shape[2] * s.shape[3])) for n, s in zip(sides, slides, strict=True)
        ]
        area = sum(parts) / len(parts)
        lines.append(
            Line("its held-out planes", len(slides), gpu * area, "GPU", source, cpu * area)
        )
    return lines


def _evaluating(config: Config, factor: int, slides: Sequence[CheckedSlide]) -> Line:
    settings = config.evaluate
    kinds = len(config.superresolve.methods) + len(settings.baselines) + 1
    pictures = kinds * ORIENTATIONS * settings.max_images * len(slides)
    cpu, gpu = pictures * INCEPTION_SECONDS / 3600, pictures * INCEPTION_FLOPS / GPU_FLOPS / 3600
    source = "arithmetic, not measured: features alone, at most, on an H100"
    return Line(f"evaluate {factor}×", len(slides), gpu, "GPU", source, cpu)


def _disk(
    config: Config,
    infer: Sequence[CheckedSlide],
    used: Sequence[CheckedSlide],
    taught: Sequence[CheckedSlide],
    factors: Sequence[int],
) -> float:
    """Return the disk that a cohort's results take at most (10⁹ bytes)."""

    def gigabytes(slides: Iterable[CheckedSlide], kind: str, itemsize: int = 0) -> float:
        each = BYTES_EACH[kind]
        return sum(s.megavoxels * (itemsize or s.itemsize) * each for s in slides) / 1e3

    denoised = "denoised" if config.denoise.mode == "none" else "raw"
    total = gigabytes([*infer, *used], "raw") + gigabytes([*infer, *used], denoised)
    total += gigabytes(taught, "images")
    for factor in factors:
        stores = len(config.superresolve.methods)
        total += stores * factor * gigabytes(infer, "restored")
        if config.superresolve.samples > 1 and "msdsr" in config.superresolve.methods:
            total += factor * gigabytes(infer, "std", 2)
    return total


def _of_model(model: ModelConfig) -> float:
    """Return the operations of one tile of 48 × 48 pixels."""
    if model.path is None:
        return _operations(lambda: _new(model))
    layout = json.loads(Path(model_folder(model.path), "config.json").read_text(encoding="utf-8"))
    return _operations(lambda: _laid_out(layout))


def _new(model: ModelConfig) -> object:
    from msdsr.diffusion.network import build_network

    return build_network(model, DATA_CHANNELS)


def _laid_out(layout: dict[str, object]) -> object:
    from diffusers import UNet2DModel

    network: object = UNet2DModel.from_config(layout)  # type: ignore[no-untyped-call]
    return network


def _operations(build: Callable[[], object]) -> float:
    """Count the operations (twice the multiplications) of one tile, without memory for weights."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        network = build()
        tile = torch.zeros(1, int(network.config.in_channels), 48, 48)  # type: ignore[attr-defined]
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(tile, torch.zeros(1))  # type: ignore[operator]
    return float(counter.get_total_flops())
