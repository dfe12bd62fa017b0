"""Channels to colours: what Inception is shown, and what a reader is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

SRH_OFFSET = 5000 / 65536
"""CH1 = CH3 − CH2 + this part of full scale, as the published code for SRH has it."""


@dataclass(frozen=True)
class Window:
    """The intensities shown as black and as full colour, for red, green and blue."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]

    @classmethod
    def from_quantiles(
        cls, colours: NDArray[np.float32], low: float = 0.005, high: float = 0.995
    ) -> Window:
        """Set the window at two quantiles of each colour of ``colours`` (3, …)."""
        limits = np.quantile(colours.reshape(3, -1), (low, high), axis=1)
        # A colour without contrast is shown as black, not divided by zero.
        limits[1] = np.where(limits[1] > limits[0], limits[1], limits[0] + 1.0)
        return cls(
            (float(limits[0, 0]), float(limits[0, 1]), float(limits[0, 2])),
            (float(limits[1, 0]), float(limits[1, 1]), float(limits[1, 2])),
        )


def full_scale(dtype: DTypeLike) -> float:
    """Return the intensity that counts as 1: 65536 for uint16, 256 for uint8, 1 for floats."""
    dtype = np.dtype(dtype)
    return 2.0 ** (8 * dtype.itemsize) if dtype.kind == "u" else 1.0


def colours(raw: NDArray[Any], channels: Sequence[str]) -> NDArray[np.float32]:
    """Return the three colours of a picture, in raw intensities.

    Parameters
    ----------
    raw
        Any array whose first axis is the channels, 1 to 8 of them.
    channels
        Their names. ``CH2`` and ``CH3`` (in any order) are SRH: red is the derived
        CH1 = CH3 − CH2 + 5000/65536 of full scale, not below 0; green is CH2 and blue CH3.

    Returns
    -------
    numpy.ndarray
        float32, shape (3, …): one channel becomes grey, two others magenta and green, three red,
        green and blue; of more, the first three.
    """
    values = raw.astype(np.float32)
    if set(channels) == {"CH2", "CH3"}:
        ch2, ch3 = values[list(channels).index("CH2")], values[list(channels).index("CH3")]
        ch1 = np.maximum(ch3 - ch2 + np.float32(SRH_OFFSET * full_scale(raw.dtype)), 0)
        return np.stack([ch1, ch2, ch3])
    order = {1: (0, 0, 0), 2: (0, 1, 0)}.get(len(channels), (0, 1, 2))
    return values[list(order)]


def to_rgb8(raw: NDArray[Any], channels: Sequence[str], window: Window) -> NDArray[np.uint8]:
    """Return what is seen of raw intensities through a window.

    Parameters
    ----------
    raw, channels
        See `colours`.
    window
        Shown as 0 and 255; what lies outside is clipped, never wrapped round.

    Returns
    -------
    numpy.ndarray
        uint8, shape (3, …).
    """
    seen = colours(raw, channels)
    shape = (3,) + (1,) * (seen.ndim - 1)
    low = np.asarray(window.low, np.float32).reshape(shape)
    high = np.asarray(window.high, np.float32).reshape(shape)
    scaled = np.clip((seen - low) / (high - low), 0, 1)
    rgb: NDArray[np.uint8] = np.rint(scaled * 255).astype(np.uint8)
    return rgb
