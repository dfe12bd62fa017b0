"""The paper's two baselines (section 4.2): what they are taught and what they answer.

MS-UNet fills the missing rows of a slice in one pass; E2E UNet draws the plane between two planes
of a stack. Both know no noise level: they are called with t = 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from msdsr.config import ObjectiveConfig
from msdsr.diffusion.network import Model
from msdsr.diffusion.objective import (
    Predict,
    interlace,
    masked_row_loss,
    network_input,
    no_step,
)
from msdsr.errors import UserError

DOUBLINGS = (2, 4, 8)
"""Factors that a recursion of middle planes reaches."""


def one_pass_loss(
    predict: Predict, objective: ObjectiveConfig, x0: Tensor, noise: Tensor, observed: Tensor
) -> Tensor:
    """Return the loss of MS-UNet: the L1 distance to the truth after one pass.

    High-resolution images interlaced with rows of random noise go in, and the loss is the L1
    distance of what comes out to the whole image (section 4.2): the input of Eq. 5 at the highest
    noise level, where x_T is noise alone.

    Parameters
    ----------
    predict
        ``predict(input, t)`` → (N, C, H, W).
    objective
        ``conditioning`` and ``loss_rows`` are read.
    x0, noise
        Sharp images in model units, and n ~ N(0, 1); (N, C, H, W) float32.
    observed
        b of Eq. 4, bool (N, H).
    """
    given = network_input(noise, x0, observed, objective.conditioning)
    predicted = predict(given, no_step(x0))
    if objective.loss_rows == "all":
        return (predicted.float() - x0.float()).abs().mean()
    return masked_row_loss(predicted, x0, observed, "unobserved")


def midplane_loss(predict: Predict, before: Tensor, between: Tensor, after: Tensor) -> Tensor:
    """Return the loss of E2E UNet: the L1 distance to slice i+1, seen slices i and i+2.

    Parameters
    ----------
    predict
        ``predict(input, t)`` → (N, C, H, W), input (N, 2C, H, W).
    before, between, after
        Slices i, i+1 and i+2 in model units; (N, C, H, W) float32.
    """
    predicted = predict(torch.cat([before, after], dim=1), no_step(before))
    return (predicted.float() - between.float()).abs().mean()


class RowFiller:
    """MS-UNet at work.

    Parameters
    ----------
    model
        Of kind ``ms_unet``; its network is used in the mode (train, eval) that it is in.
    precision
        Arithmetic inside the network, under autocast.
    clamp
        Hold the answer inside the range of the data.
    """

    def __init__(
        self,
        model: Model,
        precision: Literal["float32", "bfloat16"] = "float32",
        *,
        clamp: bool = True,
    ) -> None:
        _require(model, "ms_unet")
        self.model, self.precision, self.clamp = model, precision, clamp

    @torch.no_grad()
    def __call__(self, noise: Tensor, clean: Tensor, observed: Tensor) -> Tensor:
        """Return the slices with their missing rows filled.

        Parameters
        ----------
        noise
            n ~ N(0, 1), (N, C, H, W): what the missing rows hold before the pass. Let it be a
            function of the seed and the absolute voxel (`NoiseField`), and the result does not
            depend on how a volume is cut.
        clean
            (N, C, H, W) in model units; only its observed rows are looked at.
        observed
            bool, (H,) or (N, H).

        Returns
        -------
        Tensor
            (N, C, H, W) float32; observed rows equal those of ``clean`` bit for bit.
        """
        given = network_input(noise, clean, observed, self.model.objective.conditioning)
        x0 = self.model.predict(given, no_step(noise), self.precision)
        return interlace(self.model.transform.clamp(x0) if self.clamp else x0, clean, observed)


class Midplane:
    """E2E UNet at work; parameters as those of :class:`RowFiller`, for kind ``e2e_unet``."""

    def __init__(
        self,
        model: Model,
        precision: Literal["float32", "bfloat16"] = "float32",
        *,
        clamp: bool = True,
    ) -> None:
        _require(model, "e2e_unet")
        self.model, self.precision, self.clamp = model, precision, clamp

    @torch.no_grad()
    def __call__(self, before: Tensor, after: Tensor) -> Tensor:
        """Return the plane in the middle; all (N, C, H, W) in model units, float32 out."""
        given = torch.cat([before, after], dim=1)
        x0 = self.model.predict(given, no_step(before), self.precision)
        return self.model.transform.clamp(x0) if self.clamp else x0


def doublings(factor: int) -> int:
    """Return how many times the planes are doubled to reach a factor.

    Raises
    ------
    UserError
        When the factor is not 2, 4 or 8: a middle plane halves the spacing and nothing else.
    """
    if factor not in DOUBLINGS:
        raise UserError(
            "factor",
            f"{factor} with a model of kind e2e_unet",
            "2, 4 or 8, the powers of two",
            "choose one of them, or another method",
        )
    return factor.bit_length() - 1


def refine_planes(
    planes: Tensor, factor: int, midplane: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Double a stack of planes until it is ``factor`` times as dense.

    The recursion of section 5.2: middle planes of middle planes, so that errors grow with the
    factor. The network has learnt one spacing alone, twice that of the stacks it was trained on.

    Parameters
    ----------
    planes
        (L, C, H, W) in model units, L ≥ 2.
    factor
        2, 4 or 8.
    midplane
        ``midplane(a, b)`` of two stacks (N, C, H, W).

    Returns
    -------
    Tensor
        ((L−1)·factor + 1, C, H, W); every factor-th plane is one of ``planes``, bit for bit.

    Raises
    ------
    UserError
        When the factor is not a power of two up to 8.
    """
    for _ in range(doublings(factor)):
        finer = planes.new_empty(2 * len(planes) - 1, *planes.shape[1:])
        finer[::2] = planes
        finer[1::2] = midplane(planes[:-1], planes[1:])
        planes = finer
    return planes


def _require(model: Model, kind: str) -> None:
    if model.kind != kind:
        raise ValueError(f"a model of kind {model.kind}, not {kind}")
