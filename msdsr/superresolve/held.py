"""``msdsr superresolve --held-out``: planes that were imaged, restored without being shown.

The product is a store like any other, of the planes between every second (or further) acquired one,
in a square in the middle of the slide; `evaluate` compares it with the planes that were left out.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

from msdsr.config import SuperresolveConfig
from msdsr.diffusion.device import choose_device
from msdsr.manifest import Manifest
from msdsr.superresolve.calibration import hold_out
from msdsr.superresolve.plan import ALGORITHM
from msdsr.superresolve.request import Prepared, Request, filler_of
from msdsr.superresolve.superresolve import restore_prepared
from msdsr.volume import HeldOut, Work, held_out, open_volume, read_spec, std_path
from msdsr.volume.heldout import Side

NOTE = "the planes around the held-out ones lie twice as far apart as in the run this judges"


def restore_held_out(
    volume: str | Path,
    out: str | Path,
    work: str | Path,
    *,
    side: Side,
    method: str,
    factor: int | Literal["auto"],
    settings: SuperresolveConfig,
    model: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    patches: str | Path | None = None,
) -> Manifest:
    """Restore acquired planes as if they had not been imaged, and publish the result.

    Parameters
    ----------
    volume
        Store of acquired planes.
    out
        Store to publish. Its provenance has ``held_out_planes`` (of the input), ``keep_every``,
        ``factor`` and ``field``; of several samples the standard deviation, not calibrated, becomes
        a store beside it. Where nothing can be held out (too few planes, or a factor that no model
        has learnt) it is an empty folder, ``held_planes`` in its manifest is 0, and a warning says
        why: a thin slide of a cohort is no mistake of the user's.
    work
        Work folder, on the file system of ``out``.
    side
        Of the square in the middle of the slide that is restored (pixels), or ``whole``.
    method, factor, settings, model, seed, device, patches
        Those of the run that is judged; see `msdsr.superresolve.superresolve`.

    Raises
    ------
    UserError
        As `superresolve`.
    Stopped
        After SIGTERM; call again to go on where it was.
    """
    volume, out = Path(volume), Path(out)
    kind = choose_device(device)
    request = Request.of(volume, method, factor, settings, model, seed, patches)
    ready = request.settled(kind).prepare(kind)
    spec = read_spec(volume)
    every = held_out(ready.task.factor, spec.voxel)
    if reason := _why_not(every, spec.shape[1]):
        return _publish_nothing(ready, out, work, side, every, reason)
    held = hold_out(ready.task, every, open_volume(volume), volume, side)
    inner = dataclasses.replace(ready, task=held.task, filler=filler_of(held.task, ready.network))
    counts = {
        "held_planes": len(held.rows),
        "gap": every.gap,
        "field": held.task.target.provenance["field"],
    }
    warnings = [NOTE] if every.gap > 1 else []
    return restore_prepared(
        inner, _plan(ready, side), out, work, kind, counts=counts, warnings=warnings
    )


def _plan(ready: Prepared, side: Side) -> dict[str, Any]:
    return {**ready.plan, "product": "held out", "side": side}


def _why_not(every: HeldOut, planes: int) -> str | None:
    if not every.learnt:
        return (
            f"nothing is held out: every second plane would have to be restored at "
            f"{every.factor}×, and models learn up to 8×"
        )
    if not every.planes(planes):
        return (
            f"nothing is held out: {planes} planes, and it takes {every.step + 1} for one that "
            "lies between shown ones"
        )
    return None


def _publish_nothing(
    ready: Prepared, out: Path, work: str | Path, side: Side, every: HeldOut, reason: str
) -> Manifest:
    with Work(work, _plan(ready, side)) as job:
        manifest = Manifest(
            stage="superresolve",
            algorithm=ALGORITHM,
            inputs=ready.inputs,
            settings=ready.settings,
            seed=ready.request.seed,
            counts={"held_planes": 0, "gap": every.gap},
            warnings=[reason],
        )
        paths = [out] if ready.task.samples == 1 else [std_path(out), out]
        products = []
        for path in paths:
            (job.path / path.name).mkdir(exist_ok=True)
            products.append((job.path / path.name, path, manifest))
        return job.publish_products(products)[-1]
