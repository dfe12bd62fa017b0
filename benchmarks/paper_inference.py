"""The paper's inference, written plainly: what `benchmarks/superresolve.py` measures against.

As published: cubes of 48³ voxels; the 48 slices of an orientation are one batch; the observed rows
are written into each image of the batch in turn; float32; DDIM with 200 steps and η = 1; XZ, then
YZ, then the mean. The network and the scheduler are diffusers'.
"""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn

SIDE, STEPS = 48, 200


def published_scheduler() -> DDIMScheduler:
    """Return the cosine schedule of 1,000 steps, walked in 200."""
    scheduler = DDIMScheduler(
        1000, beta_schedule="squaredcos_cap_v2", clip_sample=False, steps_offset=1
    )
    scheduler.set_timesteps(STEPS)
    return scheduler


def write_rows(images: Tensor, clean: Tensor, rows: list[int]) -> None:
    """Put the observed rows into a batch, image by image and row by row."""
    for i in range(len(images)):
        for row in rows:
            images[i, :, row] = clean[i, :, row]


@torch.no_grad()
def restore_slices(network: nn.Module, clean: Tensor, rows: list[int], steps: int) -> Tensor:
    """Restore 48 slices, or take the first ``steps`` steps of it.

    Parameters
    ----------
    network
        ``network(x_t, t).sample`` → ε.
    clean
        (48, C, 48, 48).
    rows
        The observed ones.
    steps
        How many of the 200.
    """
    scheduler = published_scheduler()
    x = torch.randn_like(clean)
    for t in scheduler.timesteps[:steps]:
        write_rows(x, clean, rows)
        times = torch.full((len(x),), int(t), device=x.device)
        epsilon = network(x, times).sample
        x = scheduler.step(epsilon, t, x, eta=1.0).prev_sample
    write_rows(x, clean, rows)
    return x


def restore_cube(network: nn.Module, cube: Tensor, rows: list[int], steps: int = STEPS) -> Tensor:
    """Restore a cube (C, 48, 48, 48) along XZ and YZ and return the mean (Eq. 9)."""
    xz = restore_slices(network, cube.permute(2, 0, 1, 3), rows, steps).permute(1, 2, 0, 3)
    yz = restore_slices(network, cube.permute(3, 0, 1, 2), rows, steps).permute(1, 2, 3, 0)
    return (xz + yz) / 2


def evaluations(rows: int, columns: int) -> int:
    """Return how often the network sees a tile for a slide of up to 48 rows, in whole cubes."""
    return -(-rows // SIDE) * -(-columns // SIDE) * SIDE * 2 * STEPS
