"""Which blocks a volume is restored in, and whose they are."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from msdsr.errors import UserError
from msdsr.manifest import write_text_atomically
from msdsr.superresolve.filler import Filler
from msdsr.volume import Region, ShardGrid

HOST_BYTES = 2_000_000_000
"""What a block may take of a computer's memory: the same everywhere, so that `auto` blocks, of
which the result is a function, are too."""

DEVICE_SHARE = 0.5
"""What a block may take of a GPU's free memory; the rest is the network's."""

SIDE_FILE = "block.json"


@dataclass(frozen=True)
class Part:
    """Part ``index`` (from 1) of ``count``: a fixed set of whole blocks."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """Read ``2/3``, or ``2-of-3`` as Snakemake's scatter has it.

        Raises
        ------
        UserError
            When it is neither, or there is no such part.
        """
        found = re.fullmatch(r"(\d+)(?:/|-of-)(\d+)", text.strip())
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise UserError("--part", repr(text), "a part of all, such as 2/3")
        return cls(int(found[1]), int(found[2]))

    @property
    def name(self) -> str:
        """A name for files."""
        return f"{self.index}-of-{self.count}"

    def of(self, blocks: Sequence[Region]) -> list[Region]:
        """Return this part's blocks: neighbours, as many as the others' but for one at most."""
        start, stop = ((self.index + k) * len(blocks) // self.count for k in (-1, 0))
        return list(blocks[start:stop])


def memory_budget(device: torch.device) -> int:
    """Return the bytes that one block may take where the arithmetic runs."""
    if device.type != "cuda":
        return HOST_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    return int(DEVICE_SHARE * free)


def fitting_side(grid: ShardGrid, filler: Filler, budget: int) -> int:
    """Return the side of the largest blocks that fit: all of it, a half, a third and so on.

    Parameters
    ----------
    grid
        Of the output; no block is smaller than one shard.
    filler
        Says what a block takes.
    budget
        Bytes.
    """
    _, _, rows, columns = grid.shape
    most = max(rows, columns)
    smallest = min(grid.shard[2:])
    for pieces in range(1, most // smallest + 2):
        side = -(-most // pieces)
        if max(filler.memory(region) for region in grid.blocks(side)) <= budget:
            return side
    return smallest


def settle_side(
    folder: Path, wanted: int | str, grid: ShardGrid, filler: Filler, device: torch.device
) -> int:
    """Return the side of the blocks of this work (pixels), chosen once and kept in its folder.

    Where blocks meet, the result depends on where that is. What another attempt, worker or part
    has begun is therefore gone on with, whatever memory its device had.

    Parameters
    ----------
    folder
        The work folder; nobody else must be choosing.
    wanted
        The configured side, or ``auto``.
    """
    if isinstance(wanted, int):
        return wanted
    file = folder / SIDE_FILE
    if file.exists():
        return int(json.loads(file.read_text(encoding="utf-8"))["side"])
    side = fitting_side(grid, filler, memory_budget(device))
    write_text_atomically(file, json.dumps({"side": side, "device": str(device)}) + "\n")
    return side
