"""Gaussian noise that is a function of (seed, step, channel, absolute voxel) and of nothing else.

A region drawn in one piece, in pieces, in another order, on another device or after a resume holds
the same bits. There is no state: the voxel's coordinates are hashed to 64 bits with the finaliser
of SplitMix64 (Steele, Lea and Flood 2014), and 20 of those bits choose one of 2^20 equally likely
quantiles of the normal distribution. Integer arithmetic and a table look-up are exact everywhere.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

Region = tuple[int, int, int, int, int, int]
"""(z0, z1, y0, y1, x0, x1), half open, in voxels of the whole volume; may be negative."""

Axis = Literal["z", "y", "x"]

_BITS = 20
_DRAWS = 3
"""Normal variates from one hash of 64 bits: channels 3k, 3k+1, 3k+2 share the hash of word k."""

_WHITE, _LONG = 0, 1
"""The two independent streams of a field: white noise, and the source of the filtered noise."""

_GOLDEN = 0x9E3779B97F4A7C15
_STEPS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))
_WORD = (1 << 64) - 1

_CHUNK = {"cpu": 1 << 17}
"""Voxels hashed at a time: on a CPU what stays in its cache, elsewhere 2^25."""


def _signed(word: int) -> int:
    """Return the int64 with the bits of a 64-bit word."""
    return word - (1 << 64) if word >> 63 else word


def _mix_word(word: int) -> int:
    """Return the finaliser of SplitMix64 of one word."""
    for shift, factor in _STEPS:
        word = ((word ^ (word >> shift)) * factor) & _WORD
    return word


def _mix_(words: Tensor) -> Tensor:
    """Apply the finaliser of SplitMix64 in place to int64 words, which wrap around."""
    shifted = torch.empty_like(words)
    for shift, factor in _STEPS:
        torch.bitwise_right_shift(words, shift, out=shifted)
        shifted.bitwise_and_((1 << (64 - shift)) - 1)  # int64 shifts in copies of the sign
        words.bitwise_xor_(shifted)
        if factor != 1:
            words.mul_(_signed(factor))
    return words


def _absorb(key: Tensor, start: int, stop: int) -> Tensor:
    """Return the keys (…, n) of the coordinates start..stop−1 under each key (…)."""
    counter = torch.arange(start, stop, device=key.device) * _signed(_GOLDEN)
    return _mix_(key[..., None] + counter)


def _key(*values: int) -> int:
    """Return the hash of some integers, a word of 64 bits."""
    key = 0
    for value in values:
        key = _mix_word(((key ^ value) + _GOLDEN) & _WORD)
    return key


def spread_evenly(choices: int, step: int, *key: int) -> int:
    """Return one of 0..choices−1 for every step, such that any run of steps spreads evenly.

    A golden rotation: ⌊choices · frac(u + step/φ)⌋, where u in 0..1 is a hash of ``key``. No run
    of steps comes near to itself, unlike with independent draws, and there is no state.
    """
    place = (_key(*key) + step * _GOLDEN) & _WORD  # _GOLDEN is 2^64/φ
    return (place * choices) >> 64


@functools.cache
def _quantiles(device: torch.device) -> Tensor:
    """Return the 2^20 values, float32, odd about the middle and of unit variance."""
    half = 1 << (_BITS - 1)
    upper = ndtri((half + np.arange(half) + 0.5) / (2 * half))
    upper /= math.sqrt(float(np.mean(upper**2)))
    values = np.concatenate([-upper[::-1], upper]).astype(np.float32)
    return torch.from_numpy(values).to(device)


@functools.cache
def gaussian_taps(length: float) -> tuple[float, ...]:
    """Return the taps of a Gaussian of σ = ``length`` voxels, cut at 4σ, of unit energy.

    Filtered with them, white noise of unit variance keeps its unit variance.
    """
    reach = math.ceil(4 * length)
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / length) ** 2)
    return tuple(float(tap) for tap in taps / math.sqrt(float(np.sum(taps**2))))


@dataclass(frozen=True)
class NoiseField:
    """An unbounded field of Gaussian noise for every step and channel.

    Parameters
    ----------
    seed
        Any integer; fields of different seeds are independent.
    """

    seed: int

    def normal(
        self, step: int, channels: int, region: Region, device: torch.device | str = "cpu"
    ) -> Tensor:
        """Return white noise of unit variance in a region.

        Parameters
        ----------
        step
            Index of the sampling step; steps are independent.
        channels
            C; channels are independent, and do not depend on how many are drawn.
        region
            Absolute voxels.
        device
            Where to draw.

        Returns
        -------
        Tensor
            (C, Z, Y, X) float32.
        """
        return self._draw(_WHITE, step, channels, region, torch.device(device))

    def correlated(
        self,
        step: int,
        channels: int,
        region: Region,
        axis: Axis,
        length: float,
        strength: float,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """Return noise of unit variance that is correlated along one axis and white in the others.

        n = √(1−k)·white + √k·g, where g is white noise filtered along ``axis`` with a Gaussian of
        σ = ``length``. Neighbouring slices perpendicular to the axis then draw like noise, while
        the noise inside each slice stays white. ``strength`` 0 gives :meth:`normal`.

        Parameters
        ----------
        step, channels, region, device
            As in :meth:`normal`.
        axis
            The axis perpendicular to the slices that are denoised next.
        length
            σ of the filter (voxels), above 0.
        strength
            k in 0..1, the part of the variance that is correlated.

        Raises
        ------
        ValueError
            When the length or the strength is out of range.
        """
        if not 0 <= strength <= 1 or length <= 0:
            raise ValueError(f"length {length}, strength {strength}")
        device = torch.device(device)
        white = self._draw(_WHITE, step, channels, region, device)
        if strength == 0:
            return white
        dim = "zyx".index(axis)
        taps = gaussian_taps(length)
        reach = len(taps) // 2
        wide = list(region)
        wide[2 * dim] -= reach
        wide[2 * dim + 1] += reach
        z0, z1, y0, y1, x0, x1 = wide
        source = self._draw(_LONG, step, channels, (z0, z1, y0, y1, x0, x1), device)
        # Products and sums stay apart: a fused multiply-add would round differently at the ends
        # of a vector or on a GPU, and the noise would depend on the region it is drawn with.
        long = torch.zeros_like(white)
        for i, tap in enumerate(taps):
            long += source.narrow(dim + 1, i, white.shape[dim + 1]) * tap
        return white.mul_(math.sqrt(1 - strength)).add_(long.mul_(math.sqrt(strength)))

    def _draw(
        self, stream: int, step: int, channels: int, region: Region, device: torch.device
    ) -> Tensor:
        """Return (C, Z, Y, X) white noise of one stream."""
        z0, z1, y0, y1, x0, x1 = region
        if z1 < z0 or y1 < y0 or x1 < x0 or channels < 1:
            raise ValueError(f"no noise in region {region} with {channels} channels")
        noise = torch.empty(channels, (z1 - z0) * (y1 - y0), x1 - x0, device=device)
        at_a_time = max(_CHUNK.get(device.type, 1 << 25) // max(x1 - x0, 1), 1)
        table = _quantiles(device)
        for first in range(0, channels, _DRAWS):
            key = _signed(_key(self.seed, stream, step, first // _DRAWS))
            planes = _absorb(torch.tensor(key, device=device), z0, z1)
            lines = _absorb(planes, y0, y1).reshape(-1)
            for start in range(0, len(lines), at_a_time):
                words = _absorb(lines[start : start + at_a_time], x0, x1)
                for channel in range(first, min(first + _DRAWS, channels)):
                    part = words >> (64 - _BITS * (1 + channel - first))
                    part.bitwise_and_((1 << _BITS) - 1)
                    chosen = torch.index_select(table, 0, part.reshape(-1))
                    noise[channel, start : start + at_a_time] = chosen.view_as(part)
        return noise.reshape(channels, z1 - z0, y1 - y0, x1 - x0)
