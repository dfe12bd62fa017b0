"""Filling with MS-UNet: every slice in one pass, the two orientations averaged."""

from __future__ import annotations

from torch import Tensor

from msdsr.diffusion.baselines import RowFiller
from msdsr.diffusion.denoiser import Denoiser
from msdsr.diffusion.inference import choose_precision
from msdsr.superresolve.diffused import Diffused
from msdsr.superresolve.engine import Mode, Walk


class _FromNoise:
    """MS-UNet as a denoiser of one noise level: what comes in is noise, what goes out is x0."""

    def __init__(self, fill_rows: RowFiller) -> None:
        self._fill_rows = fill_rows

    def __call__(self, x: Tensor, sigma: float, clean: Tensor, observed: Tensor) -> Tensor:
        """Return the slices with their missing rows filled; see `Denoiser`."""
        return self._fill_rows(x, clean, observed)


class OnePass(Diffused):
    """A `Filler` whose walk is one step, from noise of unit variance to the answer.

    XZ and YZ slices are filled on their own, from noise of their own, and averaged (Eq. 9); tiles,
    background and blocks are those of the diffusion.
    """

    def _denoiser(self) -> Denoiser:
        precision = choose_precision(self.task.settings.precision, self.model.device)
        return _FromNoise(RowFiller(self.model, precision))

    def _walk(self) -> tuple[Mode, Walk]:
        return "average", Walk((1.0, 0.0), eta=0.0, seed=self.task.seed)
