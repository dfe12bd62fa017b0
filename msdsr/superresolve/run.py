"""Restoring blocks one after another, with a ledger of what is done."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from msdsr.errors import UserError
from msdsr.superresolve.filler import Filler
from msdsr.superresolve.outputs import Outputs
from msdsr.superresolve.watch import Peaks, Watch
from msdsr.volume import Helper, Region, Work

CLAIM_SECONDS = 60.0
"""How long to wait for a block that another process holds, if nobody else ought to."""


def restore_blocks(
    blocks: Sequence[Region],
    filler: Filler,
    outputs: Outputs,
    place: Work | Helper,
    watch: Watch,
    *,
    shared: bool = False,
) -> int:
    """Restore the blocks that no ledger has; return how many.

    A block is restored under a lock of its own, so no shard ever has two writers, and it is
    recorded after its voxels are on the disk.

    Parameters
    ----------
    blocks
        In the order of work.
    filler, outputs
        What makes voxels, and what takes them.
    place
        The work folder, or this process's place in it.
    watch
        Follows the work.
    shared
        Leave out blocks that another process holds: it is a worker on the same blocks.

    Raises
    ------
    UserError
        When another process holds a block, and ``shared`` is false.
    Stopped
        When this process was asked to stop.
    """
    count = 0
    for region in blocks:
        watch.check()
        with place.claim(region.key) as claim:
            if not claim.acquire(patience=0 if shared else CLAIM_SECONDS):
                if shared:
                    continue
                raise UserError(
                    f"{place.path}, block {region.key}",
                    "another process restores it",
                    "one process a part",
                    "give all processes the same number of parts",
                )
            if region.key in place.done():
                continue
            _restore_block(region, filler, outputs, place, watch)
            count += 1
    return count


def _restore_block(
    region: Region,
    filler: Filler,
    outputs: Outputs,
    place: Work | Helper,
    watch: Watch,
) -> None:
    began = time.monotonic()
    try:
        outputs.fill(region, filler, watch)
    except torch.OutOfMemoryError:
        raise UserError(
            f"{place.path}, block {region.key}",
            f"does not fit the memory of {watch.device}",
            "a smaller block, or fewer tiles at a time",
            "set `superresolve.block` or `superresolve.batch`",
        ) from None
    peaks = Peaks.of_this_process(watch.device)
    place.record(
        region.key,
        units=filler.cost([region]),
        spared=filler.spared(region),
        seconds=round(time.monotonic() - began, 3),
        device=str(watch.device),
        peak_host_mb=peaks.host_mb,
        peak_device_mb=peaks.device_mb,
    )
    watch.finished(region)
