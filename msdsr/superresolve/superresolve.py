"""The superresolve stage: from a store with sparse planes to an isotropic one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from msdsr.config import SuperresolveConfig
from msdsr.diffusion.device import choose_device, process_count
from msdsr.errors import UserError
from msdsr.manifest import Manifest
from msdsr.progress import progress
from msdsr.superresolve.blocks import Part, settle_side
from msdsr.superresolve.outputs import Outputs
from msdsr.superresolve.plan import ALGORITHM, warnings_of
from msdsr.superresolve.preview import Preview
from msdsr.superresolve.request import Prepared, Request
from msdsr.superresolve.run import restore_blocks
from msdsr.superresolve.saved import SavedSteps
from msdsr.superresolve.watch import Display, Peaks, Stop, Watch
from msdsr.superresolve.workers import restore_with_workers
from msdsr.volume import Region, Work, std_path
from msdsr.volume.store import volume_counts

SHARD_MB = 64.0
"""Small shards: a block is made of whole ones, and its memory grows with them."""


@dataclass(frozen=True)
class PartDone:
    """What a part has come to."""

    part: Part
    blocks: int
    blocks_of_all: int


def superresolve(
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
    gpus: int = 0,
    patches: str | Path | None = None,
    preview: Preview | None = None,
    calibration: str | Path | None = None,
    finish: bool = False,
) -> Manifest:
    """Fill the missing planes of a volume and publish the result as a store.

    Parameters
    ----------
    volume
        Store of ℓ acquired planes.
    out
        The store to publish, of (ℓ′ − 1)·s + 1 planes, where ℓ′ counts every m-th of the ℓ planes
        (`keep_every`); dtype as the input's. Its provenance lists the acquired planes. Of several
        samples, the standard deviation becomes a store beside it (``…_std.ome.zarr``).
    work
        Work folder, on the file system of ``out``.
    method
        ``msdsr``, ``nearest``, ``linear`` or ``cubic``.
    factor
        s, 2 to 8, or ``auto``: the slide's z/xy ratio, to the nearest whole number.
    settings
        Mode, steps, tiles.
    model
        Folder of a released model; needed by ``msdsr``.
    seed
        The result is a function of it.
    device
        ``auto``, ``cpu`` or ``cuda``.
    gpus
        GPUs of this machine to work on, one process each (with ``cpu``: that many processes); 0 is
        this process alone. The result is the same.
    patches
        The slide's patch table; with it, background takes linear interpolation, if ``settings``
        say so.
    preview
        Writes pictures of the blocks under way.
    calibration
        Table of `calibrate`: where several samples are drawn, their standard deviation is
        multiplied by its scales.
    finish
        Restore nothing: all blocks must have been restored by `superresolve_part`.

    Raises
    ------
    UserError
        When the volume has too few planes, its channels are not the model's, a choice is unknown,
        or, with ``finish``, blocks are missing.
    Stopped
        After SIGTERM; call again to go on.
    """
    request = Request.of(volume, method, factor, settings, model, seed, patches, calibration)
    kind = choose_device(device)
    alone = finish or process_count(kind, gpus) == 1
    ready = request.settled(kind).prepare(kind if alone else torch.device("cpu"))
    with Work(work, ready.plan) as job:
        stage = _Stage(ready, job, Path(out).name, kind)
        if finish:
            stage.require_all()
        else:
            stage.restore(stage.blocks, gpus, preview)
        return stage.publish(Path(out))


def restore_prepared(
    ready: Prepared,
    plan: Mapping[str, Any],
    out: Path,
    work: str | Path,
    kind: torch.device,
    *,
    counts: Mapping[str, Any],
    warnings: Sequence[str],
) -> Manifest:
    """Restore and publish what was prepared otherwise than by its request, in this process.

    Parameters
    ----------
    ready
        The task, its filler and its network, on ``kind``.
    plan
        What the work depends on.
    out, work
        See `superresolve`.
    counts, warnings
        What the manifest says beside the usual.
    """
    with Work(work, plan) as job:
        stage = _Stage(ready, job, out.name, kind, counts, warnings)
        stage.restore(stage.blocks, 0, None)
        return stage.publish(out)


def superresolve_part(
    volume: str | Path,
    out: str | Path,
    work: str | Path,
    part: Part,
    *,
    method: str,
    factor: int | Literal["auto"],
    settings: SuperresolveConfig,
    model: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    gpus: int = 0,
    patches: str | Path | None = None,
    preview: Preview | None = None,
    calibration: str | Path | None = None,
) -> PartDone:
    """Restore one part of a volume's blocks; `superresolve` with the same arguments publishes all.

    Parts may run at the same time, on any nodes that share the file system, and in any order. See
    `superresolve` for the other parameters.

    Raises
    ------
    UserError
        As `superresolve`; or when this part is being worked on.
    Stopped
        After SIGTERM; call again to go on.
    """
    request = Request.of(volume, method, factor, settings, model, seed, patches, calibration)
    kind = choose_device(device)
    alone = process_count(kind, gpus) == 1
    ready = request.settled(kind).prepare(kind if alone else torch.device("cpu"))
    with Work(work, ready.plan, part.name) as job:
        stage = _Stage(ready, job, Path(out).name, kind)
        mine = part.of(stage.blocks)
        stage.restore(mine, gpus, preview)
        return PartDone(part, len(mine), len(stage.blocks))


class _Stage:
    """The work on one volume: its unfinished store, its blocks, its figures."""

    def __init__(
        self,
        ready: Prepared,
        job: Work,
        name: str,
        kind: torch.device,
        counts: Mapping[str, Any] | None = None,
        warnings: Sequence[str] = (),
    ) -> None:
        self.ready, self.job = ready, job
        self.counts, self.warnings = dict(counts or {}), list(warnings)
        self.kind = kind if ready.network is not None else torch.device("cpu")
        task = ready.task
        with job.preparing():
            self.outputs = Outputs.create(job.path / name, task, SHARD_MB)
            self.side = settle_side(
                job.path, task.settings.block, self.outputs.grid, ready.filler, self.kind
            )
        self.blocks = list(self.outputs.grid.blocks(self.side))

    def missing(self, blocks: Sequence[Region]) -> list[Region]:
        """Return the blocks that are not restored yet."""
        done = self.job.done()
        return [block for block in blocks if block.key not in done]

    def require_all(self) -> None:
        """Refuse to go on when blocks are missing."""
        missing = self.missing(self.blocks)
        if missing:
            raise UserError(
                self.job.path,
                f"{len(missing)} of {len(self.blocks)} blocks are not restored",
                "all of them",
                "run the parts that are missing, or the command without --finish",
            )

    def restore(self, blocks: Sequence[Region], gpus: int, preview: Preview | None) -> None:
        """Restore the blocks that are missing, in this process or with workers."""
        missing, filler = self.missing(blocks), self.ready.filler
        total = filler.cost(missing)
        label = f"superresolve {self.ready.task.target.name}"
        if self.job.part is not None:
            label += f", part {self.job.part}"
        with Stop().listening() as stop, progress(label, total, filler.unit) as bar:
            display = Display(bar)
            count = min(process_count(self.kind, gpus), len(missing))
            if count > 1:
                restore_with_workers(
                    self.ready.request, self.job, self.outputs.volume.path, self.side, missing,
                    self.kind, count, display, stop, preview,
                )  # fmt: skip
                return
            watch = Watch(
                self.kind,
                lambda units: display.advance(units, Peaks.of_this_process(self.kind)),
                display.skip,
                stop,
                SavedSteps(self.job.path, self.ready.task.settings.checkpoint_minutes),
                preview,
            )
            restore_blocks(missing, filler, self.outputs, self.job, watch)

    def publish(self, out: Path) -> Manifest:
        """Complete the stores, publish them, and return the record of the volume."""
        self.outputs.finish(self.ready.network.image_size if self.ready.network else 0)
        return self.job.publish_products(self.products(out))[-1]

    def products(self, out: Path) -> list[tuple[Path, Path, Manifest]]:
        """Return what is published: source, target and manifest, the volume last."""
        manifest, volume = self.manifest(), self.outputs.volume
        products = [(volume.path, out, manifest)]
        if (spread := self.outputs.spread) is not None:
            scales = dict(spread.spec.provenance["scales"])
            counts = {**volume_counts(spread.spec), "scales": scales, "quantity": "std"}
            of_spread = manifest.model_copy(update={"counts": counts, "measured": {}})
            products.insert(0, (spread.path, std_path(out), of_spread))
        return products

    def manifest(self) -> Manifest:
        """Return the record of the finished volume."""
        ready = self.ready
        done = self.job.done()
        notes = [done[block.key] for block in self.blocks]
        return Manifest(
            stage="superresolve",
            algorithm=ALGORITHM,
            inputs=ready.inputs,
            settings={**ready.settings, "block": self.side},
            seed=ready.request.seed,
            device=", ".join(sorted({str(note["device"]) for note in notes})),
            counts={**volume_counts(ready.task.target), **ready.task.counts(), **self.counts},
            measured={
                **_measured(notes, ready.filler.unit, self.job.seconds()),
                "nfe_per_voxel": ready.filler.evaluations,
            },
            warnings=[*self.warnings, *warnings_of(ready.task, ready.network)],
        )


def _measured(notes: Sequence[dict[str, Any]], unit: str, seconds: float) -> dict[str, Any]:
    """Return what the blocks took, all processes together."""
    peaks = Peaks.of_this_process(torch.device("cpu"))
    for note in notes:
        peaks |= Peaks(int(note["peak_host_mb"]), int(note["peak_device_mb"]))
    measured: dict[str, Any] = {"blocks": len(notes), "tiles": 0, "peak_host_mb": peaks.host_mb}
    if peaks.device_mb:
        measured["peak_device_mb"] = peaks.device_mb
    if unit == "tiles":
        measured["tiles"] = sum(int(note["units"]) for note in notes)
        measured["background_tiles"] = sum(int(note["spared"]) for note in notes)
        measured["tiles_per_second"] = round(measured["tiles"] / max(seconds, 1e-9), 1)
    return measured
