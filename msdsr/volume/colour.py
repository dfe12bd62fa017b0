"""Channels to colours: what Inception is shown, and what a reader is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

SRH_OFFSET = 5000 / 65536
"""CH1 = CH3 − CH2 + this part of full scale, as the published code for SRH has it."""

HAEMATOXYLIN = (0.65, 0.70, 0.29)
EOSIN = (0.07, 0.99, 0.11)
"""Optical density of the two stains in red, green and blue: Ruifrok & Johnston, Quantification of
histochemical staining by color deconvolution, Anal. Quant. Cytol. Histol. 23 (2001) 291-299, as
scikit-image rounds them (``skimage.color.rgb_from_hed``)."""

STAIN_DEPTH = (2.4, 0.65)
"""Natural optical density of haematoxylin and of eosin where their amount is 1; chosen by eye."""


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


def is_srh(channels: Sequence[str]) -> bool:
    """Tell whether these are the two channels of stimulated Raman histology."""
    return sorted(channels) == ["CH2", "CH3"]


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
    if is_srh(channels):
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
    scaled = _part_of_window(colours(raw, channels), window)
    rgb: NDArray[np.uint8] = np.rint(scaled * 255).astype(np.uint8)
    return rgb


def _part_of_window(seen: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
    """Return three colours as a part of the window, clipped to [0, 1]."""
    shape = (3,) + (1,) * (seen.ndim - 1)
    low = np.asarray(window.low, np.float32).reshape(shape)
    high = np.asarray(window.high, np.float32).reshape(shape)
    part: NDArray[np.float32] = np.clip((seen - low) / (high - low), 0, 1)
    return part


def virtual_he(raw: NDArray[Any], channels: Sequence[str], window: Window) -> NDArray[np.uint8]:
    """Return SRH coloured like a section stained with haematoxylin and eosin.

    A look-up, not a stain: what is rich in protein and DNA against lipid (CH1, nuclei above all)
    absorbs as haematoxylin does, what is rich in lipid (CH2, cytoplasm and myelin) as eosin does,
    and light passes both by Beer and Lambert's law. For each of red, green and blue::

        255 · exp(−(h · d_h · H + e · d_e · E))

    with the amounts H and E in [0, 1] as the window shows CH1 and CH2, the densities h and e of
    `HAEMATOXYLIN` and `EOSIN`, and the depths d of `STAIN_DEPTH`.

    Parameters
    ----------
    raw, channels
        ``CH2`` and ``CH3``, in any order, on the first axis.
    window
        Intensities where an amount is 0 and 1: its red for CH1, its green for CH2.

    Returns
    -------
    numpy.ndarray
        uint8, shape (3, …); white where there is neither.

    Raises
    ------
    ValueError
        When the channels are others.
    """
    if not is_srh(channels):
        raise ValueError(f"not the channels of SRH: {', '.join(channels)}")
    amounts = _part_of_window(colours(raw, channels), window)
    shape = (3,) + (1,) * (amounts.ndim - 1)
    haematoxylin = np.asarray(HAEMATOXYLIN, np.float32).reshape(shape) * STAIN_DEPTH[0]
    eosin = np.asarray(EOSIN, np.float32).reshape(shape) * STAIN_DEPTH[1]
    light = np.exp(-(haematoxylin * amounts[0] + eosin * amounts[1]))
    rgb: NDArray[np.uint8] = np.rint(light * 255).astype(np.uint8)
    return rgb
