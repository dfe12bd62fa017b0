"""``msdsr superresolve --calibrate``: held-out planes restored, compared, and published."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch

from msdsr.config import SuperresolveConfig
from msdsr.diffusion.device import choose_device
from msdsr.manifest import Manifest
from msdsr.metrics.coverage import Coverage
from msdsr.progress import progress
from msdsr.superresolve.blocks import settle_side
from msdsr.superresolve.calibration import (
    Held,
    calibration_counts,
    calibration_warnings,
    hold_out,
    reliability,
    require_samples,
)
from msdsr.superresolve.plan import ALGORITHM, SAMPLED_METHODS
from msdsr.superresolve.request import Request, filler_of
from msdsr.superresolve.sampled import Sampled
from msdsr.superresolve.saved import SavedSteps
from msdsr.superresolve.watch import Display, Peaks, Stop, Watch
from msdsr.volume import Region, ShardGrid, Work, held_out, open_volume, read_spec

CHUNK_YX = 64


def calibrate(
    volume: str | Path,
    out: str | Path,
    work: str | Path,
    *,
    method: str,
    factor: int | Literal["auto"],
    settings: SuperresolveConfig,
    model: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    patches: str | Path | None = None,
) -> Manifest:
    """Find what the standard deviation of samples must be multiplied by, and publish the evidence.

    Parameters
    ----------
    volume
        Store of acquired planes.
    out
        Table to publish (parquet): the reliability curve of each channel and distance. The scales
        stand in its manifest.
    work
        Work folder, on the file system of ``out``.
    method
        ``msdsr``.
    factor, settings, model, seed, device, patches
        Those of the run that the scales are for; see `msdsr.superresolve.superresolve`.
        ``settings.calibrate`` is the side of the square that is restored.

    Raises
    ------
    UserError
        As `superresolve`; or when fewer than two samples are asked for, or the stack has too few
        planes.
    Stopped
        After SIGTERM; call again to go on after the last finished block.
    """
    volume, out = Path(volume), Path(out)
    require_samples(settings, method, SAMPLED_METHODS)
    kind = choose_device(device)
    request = Request.of(volume, method, factor, settings, model, seed, patches)
    ready = request.settled(kind).prepare(kind)
    every = held_out(ready.task.factor, read_spec(volume).voxel)
    held = hold_out(ready.task, every, open_volume(volume), volume, settings.calibrate)
    filler = filler_of(held.task, ready.network)
    if not isinstance(filler, Sampled):
        raise TypeError(f"{type(filler).__name__} takes no samples")
    plan = {**ready.plan, "product": "calibration"}
    with Work(work, plan) as job:
        side = settle_side(job.path, settings.block, _grid(held), filler, kind)
        coverage = _compare(held, list(_grid(held).blocks(side)), filler, job, kind)
        curve = reliability(coverage, held.task.target.channels, held.distances)
        curve.to_parquet(job.path / out.name, index=False)
        return job.publish_product(
            job.path / out.name,
            out,
            Manifest(
                stage="superresolve",
                algorithm=ALGORITHM,
                inputs=ready.inputs,
                settings={**ready.settings, "block": side},
                seed=seed,
                device=str(kind),
                counts=calibration_counts(held, coverage),
                measured={"peak_host_mb": Peaks.of_this_process(kind).host_mb},
                warnings=calibration_warnings(held, coverage),
            ),
        )


def _grid(held: Held) -> ShardGrid:
    """Return a grid to cut the square into blocks by; nothing is written in shards."""
    spec = held.task.target
    return ShardGrid.plan(spec.shape, spec.dtype.itemsize, CHUNK_YX, 1e-6)


def _compare(
    held: Held, blocks: list[Region], filler: Sampled, job: Work, device: torch.device
) -> Mapping[str, Coverage]:
    """Restore the blocks that the ledger does not have, and add all counts up."""
    missing = [block for block in blocks if block.key not in job.done()]
    label = f"superresolve, calibrate {held.task.target.name}"
    with (
        Stop().listening() as stop,
        progress(label, filler.cost(missing), filler.unit) as bar,
    ):
        display = Display(bar)
        watch = Watch(
            device,
            lambda units: display.advance(units, Peaks.of_this_process(device)),
            display.skip,
            stop,
            SavedSteps(job.path, held.task.settings.checkpoint_minutes),
        )
        for region in missing:
            watch.check()
            found = held.compare(region, filler, watch)
            job.record(region.key, **{key: c.to_json() for key, c in found.items()})
            watch.finished(region)
    total: dict[str, Coverage] = {}
    done = job.done()
    for region in blocks:
        for key, values in done[region.key].items():
            total[key] = total.get(key, Coverage()) + Coverage.from_json(values)
    return total
