"""Row masks b of Eq. 4: which rows of a slice are observed.

Every mask is boolean with True = observed, as b is in the paper, and has one entry a row. The
generator decides everything, so a mask is a function of its seed.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

PAPER_ROWS = 48
PAPER_OBSERVED = (5, 20)
"""The paper observes 5 to 20 of 48 rows (section 4.2: ℓ_min, ℓ_max)."""

STRIDES = (2, 8)
"""Distances between observed rows at test time: the superresolution factors."""

MIXTURE = (0.5, 0.4, 0.1)
"""Share of strides, of random rows as in the paper, and of nearly empty masks."""

FEW_ROWS = (0, 4)
"""Observed rows of a nearly empty mask."""


def observed_range(rows: int) -> tuple[int, int]:
    """Return the paper's least and greatest number of observed rows, scaled to ``rows`` rows."""
    low, high = (round(count * rows / PAPER_ROWS) for count in PAPER_OBSERVED)
    low = max(low, 1)
    return low, max(high, low)


def stride_mask(rows: int, factor: int, phase: int = 0) -> Tensor:
    """Return the mask of a slice whose every ``factor``-th row is acquired; shape (rows,).

    Parameters
    ----------
    rows
        Height of the slice.
    factor
        Distance between acquired rows.
    phase
        First acquired row, 0 ≤ phase < factor.

    Raises
    ------
    ValueError
        When the phase does not lie in 0..factor−1.
    """
    if factor < 1 or not 0 <= phase < factor:
        raise ValueError(f"phase {phase} of factor {factor}")
    return torch.arange(rows) % factor == phase


def random_masks(n: int, rows: int, least: int, most: int, generator: torch.Generator) -> Tensor:
    """Return n masks that observe ``least``..``most`` rows anywhere (Eq. 4); shape (n, rows).

    The number is uniform; the rows are drawn without replacement.
    """
    device = generator.device
    counts = torch.randint(least, most + 1, (n, 1), generator=generator, device=device)
    order = torch.rand(n, rows, generator=generator, device=device).argsort(dim=1)
    return order.argsort(dim=1) < counts


def stride_masks(n: int, rows: int, generator: torch.Generator) -> Tensor:
    """Return n masks of uniform stride 2..8 with uniform phase; shape (n, rows)."""
    device = generator.device
    low, high = STRIDES
    factor = torch.randint(low, high + 1, (n, 1), generator=generator, device=device)
    draw = torch.rand(n, 1, generator=generator, device=device)
    phase = (draw * factor).long().clamp(max=factor - 1)
    return torch.arange(rows, device=device) % factor == phase


def paper_masks(n: int, rows: int, generator: torch.Generator) -> Tensor:
    """Return n masks by the paper's law: 5..20 of 48 rows, at random places; shape (n, rows)."""
    return random_masks(n, rows, *observed_range(rows), generator)


def mixture_masks(n: int, rows: int, generator: torch.Generator) -> Tensor:
    """Return n masks as they are met at test time, with some harder ones; shape (n, rows).

    Half have a uniform stride of 2..8 with any phase, 40 % follow the paper's law, and 10 %
    observe only 0..4 rows, so that the network also knows what to do far from any acquired row.
    """
    device = generator.device
    share = torch.tensor(MIXTURE, device=device)
    law = torch.multinomial(share, n, replacement=True, generator=generator)
    few = random_masks(n, rows, FEW_ROWS[0], min(FEW_ROWS[1], rows), generator)
    kinds = torch.stack([stride_masks(n, rows, generator), paper_masks(n, rows, generator), few])
    return kinds[law, torch.arange(n, device=device)]


def draw_masks(
    law: Literal["paper", "mixture", "none"], n: int, rows: int, generator: torch.Generator
) -> Tensor:
    """Return n masks by the law that the configuration names; bool, shape (n, rows).

    With ``none`` nothing is observed, and nothing is drawn.
    """
    if law == "none":
        return torch.zeros(n, rows, dtype=torch.bool, device=generator.device)
    return {"paper": paper_masks, "mixture": mixture_masks}[law](n, rows, generator)
