"""The diffusion of one block of a volume: one shared x_t, denoised slice by slice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from msdsr.diffusion.denoiser import Denoiser
from msdsr.diffusion.noise import NoiseField
from msdsr.diffusion.sampler import ancestral_step, check_order, second_order
from msdsr.superresolve.block import Block, keep_acquired, linear_rows, with_tissue
from msdsr.superresolve.slices import denoise_slices
from msdsr.superresolve.tiles import ACROSS, PLANES, Plane, Tiling, layout
from msdsr.volume import Region

Mode = Literal["xz", "yz", "average", "joint", "alternate"]

__all__ = [
    "ACROSS", "PLANES", "Block", "Mode", "Plane", "State", "Tiling", "Walk",
    "count_background", "count_tiles", "count_walk", "denoise_slices", "planes_of_step", "restore",
]  # fmt: skip


@dataclass(frozen=True)
class Walk:
    """The way from noise to image.

    Attributes
    ----------
    sigmas
        Falling noise levels that end at 0 (model units).
    eta
        Noise put back: 1 ancestral (DDPM), 0 none (DDIM).
    seed
        Of the noise, which is a function of seed, step and absolute voxel, and of the tiles'
        origins.
    noise_length, noise_strength
        The noise put back is correlated across the slices that come next, with a Gaussian of this σ
        (voxels) in this part of its variance, and white inside them. Strength 0: white.
    order
        1, or 2: a second-order multistep (`second_order`), with η 0 or 1. It extrapolates the x0
        of one denoiser, so it is refused for ``alternate``, where consecutive x0 come from other
        slices.
    """

    sigmas: Sequence[float]
    eta: float
    seed: int
    noise_length: float = 1.0
    noise_strength: float = 0.0
    order: int = 1

    def __post_init__(self) -> None:
        if len(self.sigmas) < 2 or self.sigmas[-1] != 0:
            raise ValueError("the noise levels must end at 0")
        check_order(self.order, self.eta)

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return len(self.sigmas) - 1


@dataclass(frozen=True)
class State:
    """A block between two steps: all that the rest of the walk depends on.

    Attributes
    ----------
    step
        Steps taken; x stands at ``sigmas[step]``.
    x
        (C, Z, Y, X) float32, model units.
    x0
        The estimate of the step just taken, of the same shape: what the block would look like. A
        walk of order 2 goes on with it; one of order 1 does not need it.
    walk
        Which walk: ``average`` takes one of the XZ slices (0), then one of the YZ slices (1).
    done
        What the walk before came to.
    """

    step: int
    x: Tensor
    x0: Tensor | None = None
    walk: int = 0
    done: Tensor | None = None


def planes_of_step(mode: Mode, step: int, seed: int) -> tuple[Plane, ...]:
    """Return the orientations that are denoised in a step (0, 1, …); their x0 are averaged.

    ``alternate`` takes turns on one shared x_t, the first plane by seed; ``joint`` takes both in
    every step.
    """
    if mode == "alternate":
        return (PLANES[(step + seed) % 2],)
    if mode == "xz" or mode == "yz":
        return (mode,)
    return PLANES


@torch.inference_mode()
def restore(
    denoiser: Denoiser,
    block: Block,
    mode: Mode,
    walk: Walk,
    tiling: Tiling,
    advance: Callable[[int], None] = lambda tiles: None,
    *,
    start: State | None = None,
    after_step: Callable[[State], None] = lambda state: None,
) -> Tensor:
    """Restore a block.

    Parameters
    ----------
    denoiser
        The network's estimate of x0.
    block
        What is known.
    mode
        ``xz``: every y is a slice (Algorithm 1, ``superresolve_along_axis``); ``yz``: every x is
        one; ``average``: the mean of both (Eq. 9); ``joint``, ``alternate``: one x_t that both
        orientations denoise.
    walk
        Noise levels, η, order and seed. The two walks of ``average`` are those of ``xz`` and
        ``yz``, each with noise of its own: who has both has the average.
    tiling
        Slices wider or higher than a tile are cut into tiles that share x_t; their x0 are blended
        in each step. A slice that fits one tile is exactly the paper's.
    advance
        Called with the number of tiles that the network has denoised.
    start
        Go on from here. The result is the same to the bit as without the break, if block, mode,
        walk and tiling are.
    after_step
        Called with the state after every step. What it wants to keep it must copy or write. A
        block without any tissue takes no steps.

    Returns
    -------
    Tensor
        (C, Z, Y, X) float32 in model units; acquired planes are those of ``clean``, bit for bit.

    Raises
    ------
    ValueError
        When ``alternate`` is asked for in order 2.
    """
    if mode == "alternate" and walk.order == 2:
        raise ValueError("order 2 needs the x0 of one denoiser: alternate has two")
    if block.tissue is not None and not bool(block.tissue.any()):
        return linear_rows(block.clean, block.acquired, slice(0, block.clean.shape[1]))
    walks: tuple[Mode, ...] = PLANES if mode == "average" else (mode,)
    state = start
    for number in range(state.walk if state else 0, len(walks)):
        one = walks[number]
        noise = _noise_of(block, one, walk)
        if state is None or state.walk < number:
            x = keep_acquired(noise(0).mul_(walk.sigmas[0]), block)
            state = State(0, x, None, number, state.x if state else None)
        while state.step < walk.steps:
            state = _step(denoiser, block, one, walk, tiling, advance, state, noise)
            after_step(state)
            if walk.order == 1:
                state = replace(state, x0=None)  # one volume less while the next is made
    assert state is not None
    return state.x if state.done is None else (state.done + state.x).mul_(0.5)


def _step(
    denoiser: Denoiser,
    block: Block,
    mode: Mode,
    walk: Walk,
    tiling: Tiling,
    advance: Callable[[int], None],
    state: State,
    noise: Callable[[int], Tensor],
) -> State:
    i = state.step
    sigma, sigma_next = walk.sigmas[i], walk.sigmas[i + 1]
    x0: Tensor | None = None
    for plane in planes_of_step(mode, i, walk.seed):
        tiles = layout(block.region, block.rows, block.columns, plane, tiling, walk.seed, i)
        one = denoise_slices(denoiser, state.x, sigma, block, plane, tiling, advance, tiles)
        x0 = one if x0 is None else x0.add_(one).mul_(0.5)
    assert x0 is not None
    before = state.x0 if walk.order == 2 else None
    aim = second_order(x0, before, walk.sigmas[max(i - 1, 0)], sigma, sigma_next)
    fresh = noise(i + 1) if walk.eta > 0 and sigma_next > 0 else None
    x = keep_acquired(ancestral_step(state.x, aim, sigma, sigma_next, walk.eta, fresh), block)
    return replace(state, step=i + 1, x=x, x0=x0)


def _noise_of(block: Block, mode: Mode, walk: Walk) -> Callable[[int], Tensor]:
    """Return the noise on arrival at each level; level 0 starts the walk."""
    field = NoiseField(2 * walk.seed + (mode == "yz"))
    channels, device = block.clean.shape[0], block.clean.device
    r = block.region
    where = (r.z0, r.z1, r.y0, r.y1, r.x0, r.x1)

    def noise(level: int) -> Tensor:
        following = planes_of_step(mode, level, walk.seed)
        if level == 0 or walk.noise_strength == 0 or len(following) > 1:
            return field.normal(level, channels, where, device)
        return field.correlated(
            level, channels, where, ACROSS[following[0]], walk.noise_length,
            walk.noise_strength, device,
        )  # fmt: skip

    return noise


def count_tiles(
    region: Region,
    rows: int,
    columns: int,
    plane: Plane,
    tiling: Tiling,
    seed: int = 0,
    step: int = 0,
    tissue: Tensor | None = None,
) -> int:
    """Return how many tiles the network takes to denoise a block once.

    Parameters
    ----------
    region
        The block with its padding.
    rows, columns
        Of the whole volume.
    plane, tiling, seed, step
        As in :func:`msdsr.superresolve.tiles.layout`.
    tissue
        (Y, X) bool of the block; tiles without any are not counted.
    """
    _, height, width = region.shape
    slices = height if plane == "xz" else width
    tiles = layout(region, rows, columns, plane, tiling, seed, step)
    if tissue is None:
        return slices * len(tiles)
    active = with_tissue(tissue, plane, tiles.along, tiling.size, slices)
    return len(tiles.z) * int(active.sum())


def count_walk(
    region: Region,
    rows: int,
    columns: int,
    mode: Mode,
    walk: Walk,
    tiling: Tiling,
    tissue: Tensor | None = None,
) -> int:
    """Return how many tiles the network takes to restore a block; see :func:`count_tiles`."""
    return sum(
        count_tiles(region, rows, columns, plane, tiling, walk.seed, step, tissue)
        for step in range(walk.steps)
        for plane in planes_of_step(mode, step, walk.seed)
    )


def count_background(
    region: Region,
    rows: int,
    columns: int,
    mode: Mode,
    walk: Walk,
    tiling: Tiling,
    tissue: Tensor | None,
) -> int:
    """Return how many tiles of a block the network is spared, because they hold no tissue."""
    everything = count_walk(region, rows, columns, mode, walk, tiling)
    return everything - count_walk(region, rows, columns, mode, walk, tiling, tissue)
