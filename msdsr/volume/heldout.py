"""Acquired planes that are left out, restored from those around them, and compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from msdsr.volume.geometry import FACTORS, VoxelSize, acquired_rows, keep_every, output_planes

Side = int | Literal["whole"]
"""Side of the square in the middle of a slide (pixels), or all of the slide."""


@dataclass(frozen=True)
class HeldOut:
    """Which acquired planes are shown and which are held out, at one factor.

    Attributes
    ----------
    step
        Every ``step``-th acquired plane is shown; those between two shown ones are held out.
    factor
        At which the shown planes are filled, so that the result's planes lie as close as those of
        the run that is judged, and every held-out plane is one of them.
    gap
        How many times as far apart the shown planes are as in that run: 1 where it leaves out
        planes itself (`keep_every`), else 2.
    """

    step: int
    factor: int
    gap: int

    @property
    def learnt(self) -> bool:
        """Whether the models have learnt to fill at this factor: up to 8."""
        return self.factor <= FACTORS[1]

    def planes(self, acquired: int) -> tuple[int, ...]:
        """Return the held-out ones of so many acquired planes."""
        last = (acquired - 1) // self.step * self.step
        return tuple(z for z in range(last) if z % self.step)

    def shown(self, acquired: int) -> int:
        """Return how many of the acquired planes are shown."""
        return len(range(0, acquired, self.step))

    def row(self, plane: int) -> int:
        """Return where a held-out plane lies in the result."""
        return plane * self.factor // self.step

    def shown_rows(self, acquired: int) -> list[int]:
        """Return where the shown planes lie in the result."""
        return [int(row) for row in acquired_rows(self.shown(acquired), self.factor)]

    def restored_planes(self, acquired: int) -> int:
        """Return how many planes the result has."""
        return output_planes(self.shown(acquired), self.factor)


def held_out(factor: int, voxel: VoxelSize) -> HeldOut:
    """Return what is held out to judge a run at a factor.

    Where the run itself takes every m-th plane (m > 1), those between are held out, and the run is
    its own test. Else every second plane is, and the factor doubles.
    """
    every = keep_every(factor, voxel)
    gap = 1 if every > 1 else 2
    return HeldOut(every * gap, factor * gap, gap)


def middle(shape_yx: Sequence[int], side: Side) -> tuple[slice, slice]:
    """Return the rows and columns of the square in the middle of a slide, clipped to it."""
    if side == "whole":
        return slice(0, shape_yx[0]), slice(0, shape_yx[1])
    y, x = (max(0, (length - side) // 2) for length in shape_yx)
    return slice(y, min(y + side, shape_yx[0])), slice(x, min(x + side, shape_yx[1]))
