"""Filling a volume block by block, with a ledger of what is done."""

from __future__ import annotations

from msdsr.progress import progress
from msdsr.superresolve.filler import Filler
from msdsr.superresolve.plan import Task
from msdsr.volume import StoreWriter, Work


def fill(task: Task, filler: Filler, writer: StoreWriter, job: Work) -> int:
    """Fill the blocks that the ledger does not have; return the units of work this took."""
    done = job.done()
    left = [b for b in writer.grid.blocks(task.settings.block) if b.key not in done]
    total = filler.cost(left)
    with progress(f"superresolve {task.target.name}", total, filler.unit) as bar:
        for region in left:
            writer.write(region, filler.restore(region, bar))
            job.record(region.key)
    return total
