"""The diffusion of one block of a volume: one shared x_t, denoised slice by slice."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from msdsr.diffusion.denoiser import Denoiser
from msdsr.diffusion.noise import NoiseField
from msdsr.diffusion.sampler import ancestral_step
from msdsr.superresolve.tiles import raised_cosine, windows, windows_inside
from msdsr.volume import Region

Plane = Literal["xz", "yz"]
PLANES: tuple[Plane, Plane] = ("xz", "yz")
ACROSS: dict[Plane, Literal["y", "x"]] = {"xz": "y", "yz": "x"}
"""The axis perpendicular to the slices of an orientation."""

Mode = Literal["xz", "yz", "average", "joint", "alternate"]


@dataclass(frozen=True)
class Tiling:
    """How slices are cut into tiles for the network.

    Attributes
    ----------
    size
        Side of a tile: what the network was trained on (pixels).
    stride
        Distance of neighbouring tiles (pixels).
    batch
        Tiles the network takes at a time.
    """

    size: int
    stride: int
    batch: int


@dataclass(frozen=True)
class Block:
    """A part of a volume that is restored in one go, in model units.

    Attributes
    ----------
    clean
        (C, Z, Y, X) float32; only acquired planes are looked at.
    acquired
        (Z,) bool: planes that were acquired. Planes above and below the stack may be there too, to
        fill the network's window; they are extrapolated and thrown away.
    region
        Where the block lies in the output volume (voxels); z may begin below 0.
    rows, columns
        Size of the whole volume, to which the tiles are anchored.
    """

    clean: Tensor
    acquired: Tensor
    region: Region
    rows: int
    columns: int


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
        Of the noise, which is a function of seed, step and absolute voxel.
    noise_length, noise_strength
        The noise put back is correlated across the slices that come next, with a Gaussian of this σ
        (voxels) in this part of its variance, and white inside them. Strength 0: white.
    """

    sigmas: Sequence[float]
    eta: float
    seed: int
    noise_length: float = 1.0
    noise_strength: float = 0.0


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


def restore(
    denoiser: Denoiser,
    block: Block,
    mode: Mode,
    walk: Walk,
    tiling: Tiling,
    advance: Callable[[int], None] = lambda tiles: None,
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
        Noise levels, η and seed. The two walks of ``average`` have noise of their own.
    tiling
        Slices wider or higher than a tile are cut into tiles that share x_t; their x0 are blended
        in each step. A slice that fits one tile is exactly the paper's.
    advance
        Called with the number of tiles that were denoised.

    Returns
    -------
    Tensor
        (C, Z, Y, X) float32 in model units; acquired planes are those of ``clean``, bit for bit.
    """
    if mode == "average":
        xz, yz = (restore(denoiser, block, p, walk, tiling, advance) for p in PLANES)
        return (xz + yz) / 2
    noise = _noise_of(block, mode, walk)
    x = _keep(walk.sigmas[0] * noise(0), block)
    for i, (sigma, sigma_next) in enumerate(itertools.pairwise(walk.sigmas)):
        estimates = [
            denoise_slices(denoiser, x, sigma, block, plane, tiling, advance)
            for plane in planes_of_step(mode, i, walk.seed)
        ]
        x0 = estimates[0] if len(estimates) == 1 else (estimates[0] + estimates[1]) / 2
        fresh = noise(i + 1) if walk.eta > 0 and sigma_next > 0 else None
        x = _keep(ancestral_step(x, x0, sigma, sigma_next, walk.eta, fresh), block)
    return x


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


def _keep(x: Tensor, block: Block) -> Tensor:
    """Put the acquired planes back (Eq. 5)."""
    return torch.where(block.acquired[None, :, None, None], block.clean, x)


def denoise_slices(
    denoiser: Denoiser,
    x: Tensor,
    sigma: float,
    block: Block,
    plane: Plane,
    tiling: Tiling,
    advance: Callable[[int], None] = lambda tiles: None,
) -> Tensor:
    """Return x0 of a whole block, from tiles of its slices blended with a raised cosine.

    Returns
    -------
    Tensor
        (C, Z, Y, X) float32.
    """
    x_CZSU, clean_CZSU = _slices_first(x, plane), _slices_first(block.clean, plane)
    size, r = tiling.size, block.region
    height, width = x_CZSU.shape[1], x_CZSU.shape[3]
    across = (r.x0, r.x1, block.columns) if plane == "xz" else (r.y0, r.y1, block.rows)
    starts_u = windows_inside(max(across[2], width), size, tiling.stride, across[0], across[1])
    starts_z = windows(height, size, tiling.stride)
    weights = raised_cosine(size, size - tiling.stride).to(x.device)
    total = torch.zeros_like(x_CZSU)
    weight_ZU = torch.zeros(height, width, device=x.device)
    for z in starts_z:
        rows = slice(z, z + size)
        weight_z = weights if len(starts_z) > 1 else torch.ones_like(weights)
        for u in starts_u:
            columns = slice(u, u + size)
            weight_u = weights if len(starts_u) > 1 else torch.ones_like(weights)
            weight = weight_z[:, None] * weight_u[None, :]
            weight_ZU[rows, columns] += weight
            for s in range(0, x_CZSU.shape[2], tiling.batch):
                part = slice(s, s + tiling.batch)
                tiles = x_CZSU[:, rows, part, columns].permute(2, 0, 1, 3)
                clean = clean_CZSU[:, rows, part, columns].permute(2, 0, 1, 3)
                x0 = denoiser(tiles, sigma, clean, block.acquired[rows])
                total[:, rows, part, columns] += (x0 * weight).permute(1, 2, 0, 3)
                advance(len(tiles))
    x0_CZSU = total / weight_ZU[None, :, None, :]
    return _keep(_slices_first(x0_CZSU, plane), block)


def _slices_first(volume_CZYX: Tensor, plane: Plane) -> Tensor:
    """Return (C, Z, slice, along): a view; applied twice it is the volume again."""
    return volume_CZYX if plane == "xz" else volume_CZYX.transpose(2, 3)


def count_tiles(region: Region, rows: int, columns: int, plane: Plane, tiling: Tiling) -> int:
    """Return how many tiles one denoising of a block takes; the region includes its padding."""
    height, h, w = region.shape
    across = (w, region.x0, region.x1, columns, h)
    if plane == "yz":
        across = (h, region.y0, region.y1, rows, w)
    width, start, stop, length, slices = across
    lateral = windows_inside(max(length, width), tiling.size, tiling.stride, start, stop)
    return len(windows(height, tiling.size, tiling.stride)) * len(lateral) * slices
