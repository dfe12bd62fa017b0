"""D(x, σ): what the clean image is, given a noisy one and its observed rows."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from typing import Literal, Protocol, cast

import torch
from torch import Tensor, nn

from msdsr.diffusion.inference import Forward, Precision
from msdsr.diffusion.network import Model
from msdsr.diffusion.objective import interlace, network_input, x0_from_epsilon, x0_from_v

Schedule = Literal["log_snr", "published", "ddpm"]


def noise_levels(model: Model, schedule: Schedule, steps: int) -> tuple[float, ...]:
    """Return the falling noise levels of a walk, ending at 0, in model units.

    ``log_snr``: ``steps`` levels uniform in log-SNR, in units of the data. ``published``: the
    trained steps of the published inference. ``ddpm``: every trained step. A network takes any
    level; levels of the last two are those of whole steps, which a denoiser with
    ``integer_timesteps`` gives it.

    Raises
    ------
    UserError
        When ``published`` has no grid of so many steps.
    """
    if schedule == "published":
        return model.schedule.published_grid(steps)
    if schedule == "ddpm":
        return model.schedule.ancestral_grid()
    return model.sigma_grid(steps)


class Denoiser(Protocol):
    """An estimate of x0 from x = x0 + σ·n, in model units."""

    def __call__(self, x: Tensor, sigma: float, clean: Tensor, observed: Tensor) -> Tensor:
        """Return E[x0 | x, observed rows].

        Parameters
        ----------
        x
            (N, C, H, W), x0 + σ·n; its observed rows are not looked at.
        sigma
            Noise level in model units, above 0.
        clean
            (N, C, H, W); only its observed rows are looked at.
        observed
            bool, (H,) or (N, H).

        Returns
        -------
        Tensor
            (N, C, H, W); observed rows equal those of ``clean`` bit for bit.
        """
        ...


class _OneTimestep(nn.Module):
    """The time features of the first image alone; the network spreads them over the batch."""

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features

    def forward(self, timesteps: Tensor) -> Tensor:
        features: Tensor = self.features(timesteps[:1])
        return features


class NetworkDenoiser:
    """The denoiser that a trained network is.

    A network knows x_t = √ᾱ_t·x, not x = x0 + σ·n. So σ is turned into the step t at which
    √(1−ᾱ_t)/√ᾱ_t = σ, x is scaled by √ᾱ_t = 1/√(1+σ²), the observed rows are put in *unscaled*
    (as in the training, Eq. 5), and the prediction is turned into x0. All this is in model units:
    whoever calls needs to know the transform and ``Model.sigma_grid`` but not the kind of model.

    Parameters
    ----------
    model
        Its network is shared, not copied, and used in the mode (train, eval) that it is in.
    precision
        Arithmetic inside the network; x0 is always worked out in float32.
    clamp
        Hold x0 inside the range of the data. The true posterior mean always lies there; far from
        the data (σ ≫ 1) x0 = x − σ·ε is otherwise at the mercy of small errors of ε.
    integer_timesteps
        Round t to the steps of the training, instead of giving the time embedding what lies
        between two of them.
    fast
        The network will only predict: its weights may be laid out anew or copied (`Forward`).
    compiled_batch
        With ``fast``: compile the network for batches of this one size.
    """

    def __init__(
        self,
        model: Model,
        precision: Precision = "float32",
        *,
        clamp: bool = True,
        integer_timesteps: bool = False,
        fast: bool = False,
        compiled_batch: int | None = None,
    ) -> None:
        self.model = model
        self.precision = precision
        self.clamp = clamp
        self.integer_timesteps = integer_timesteps
        # A shallow copy with its own table of parts: the time embedding is worked out once a call,
        # for one image, while the model's own network can go on learning with many t at a time.
        network: nn.Module = copy.copy(model.network)
        network._modules = dict(model.network._modules)
        network.time_proj = _OneTimestep(cast("nn.Module", model.network.time_proj))
        self._predict: Callable[[Tensor, Tensor], Tensor] = functools.partial(
            self._under_autocast, network
        )
        if fast:
            self._predict = Forward(network, precision, model.device, compiled_batch)

    @torch.no_grad()
    def __call__(self, x: Tensor, sigma: float, clean: Tensor, observed: Tensor) -> Tensor:
        """Return x0 in float32; see :class:`Denoiser`."""
        if not sigma > 0:
            raise ValueError(f"σ = {sigma}")
        alpha_bar = 1 / (1 + sigma**2)
        x_t = x.float() * math.sqrt(alpha_bar)
        given = network_input(x_t, clean, observed, self.model.objective.conditioning)
        t = self.model.schedule.timestep(sigma, integer=self.integer_timesteps)
        predicted = self._predict(given, torch.full((1,), t, device=x.device))
        v = self.model.objective.prediction == "v"
        x0 = (x0_from_v if v else x0_from_epsilon)(x_t, predicted, alpha_bar)
        if self.clamp:
            x0 = self.model.transform.clamp(x0)
        return interlace(x0, clean, observed)

    def _under_autocast(self, network: nn.Module, given: Tensor, steps: Tensor) -> Tensor:
        """Return the prediction of a network that may go on learning in float32."""
        rounded = self.precision == "bfloat16"
        with torch.autocast(given.device.type, torch.bfloat16, enabled=rounded):
            predicted: Tensor = network(given, steps).sample
        return predicted.float()
