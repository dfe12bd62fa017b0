"""Pictures of a volume while it is being restored."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

QUANTILES = (0.005, 0.995)


@dataclass(frozen=True)
class Preview:
    """Writes one XZ slice of the block under way as a PNG, every few steps.

    Attributes
    ----------
    folder
        Where; made when it is not there.
    every
        Steps from one picture to the next.
    """

    folder: Path
    every: int

    def wanted(self, step: int) -> bool:
        """Tell whether the step just taken is one of those to be shown."""
        return step % self.every == 0

    def write(self, name: str, slice_CZX: torch.Tensor, acquired: torch.Tensor) -> Path:
        """Write a slice; whoever looks sees a whole picture.

        Parameters
        ----------
        name
            Of the file, without its suffix.
        slice_CZX
            The present estimate of the restored slice, float. Its channels lie one below the other.
        acquired
            (Z,) bool. Black and white are quantiles of these planes, so that all steps compare.
        """
        picture = np.concatenate(
            [_grey(channel, acquired.cpu().numpy()) for channel in slice_CZX.float().cpu().numpy()]
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.png"
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        Image.fromarray(picture).save(temporary, format="png")
        temporary.replace(path)
        return path


def _grey(channel_ZX: NDArray[np.float32], acquired: NDArray[np.bool_]) -> NDArray[np.uint8]:
    low, high = np.quantile(channel_ZX[acquired], QUANTILES)
    scaled = (channel_ZX - low) / max(float(high - low), 1e-6)
    grey: NDArray[np.uint8] = np.rint(255 * np.clip(scaled, 0, 1)).astype(np.uint8)
    return grey
