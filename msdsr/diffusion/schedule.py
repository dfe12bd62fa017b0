"""The cosine noise schedule, in steps t of the DDPM and in noise levels σ.

A network is trained in the variance-preserving form, x_t = √ᾱ_t·x0 + √(1−ᾱ_t)·ε (Eq. 3). The
samplers work in the variance-exploding form, x = x0 + σ·n. Both are one process: x_t = √ᾱ_t·x
with σ_t = √(1−ᾱ_t)/√ᾱ_t. This module goes from one to the other.
"""

from __future__ import annotations

import bisect
import math

import torch
from torch import Tensor

from msdsr.errors import UserError

OFFSET = 0.008
"""s of the cosine schedule (Nichol and Dhariwal 2021, Eq. 17)."""

MAX_BETA = 0.999
"""No step forgets more than this part of the variance."""


class CosineSchedule:
    """The cosine schedule of Nichol and Dhariwal (2021), which the paper uses with T = 1000.

    ᾱ(u) = cos²((u + s)/(1 + s) · π/2), β_t = min(1 − ᾱ((t+1)/T)/ᾱ(t/T), 0.999).

    Parameters
    ----------
    timesteps
        T, the number of steps the network is trained with.

    Attributes
    ----------
    betas, alphas_cumprod, sigmas
        β_t, ᾱ_t and σ_t for t = 0 … T−1, float64 on the CPU. σ rises with t.

    Raises
    ------
    UserError
        When T is below 2.
    """

    def __init__(self, timesteps: int = 1000) -> None:
        if timesteps < 2:
            raise UserError("objective.timesteps", str(timesteps), "2 or more")
        self.timesteps = timesteps
        edges = torch.arange(timesteps + 1, dtype=torch.float64) / timesteps
        alpha_bar = torch.cos((edges + OFFSET) / (1 + OFFSET) * math.pi / 2) ** 2
        self.betas: Tensor = (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=MAX_BETA)
        self.alphas_cumprod: Tensor = torch.cumprod(1 - self.betas, dim=0)
        self.sigmas: Tensor = ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt()
        self._log_sigmas: list[float] = self.sigmas.log().tolist()
        self._on_device: dict[torch.device, Tensor] = {}

    def alpha_bar(self, t: Tensor) -> Tensor:
        """Return ᾱ_t, float64, for integer steps ``t`` of any shape, on the device of ``t``."""
        if t.device not in self._on_device:
            self._on_device[t.device] = self.alphas_cumprod.to(t.device)
        return self._on_device[t.device][t]

    def sigma(self, t: float) -> float:
        """Return σ at step ``t`` in [0, T−1], with log σ linear between integer steps."""
        if not 0 <= t <= self.timesteps - 1:
            raise ValueError(f"t = {t} lies outside 0..{self.timesteps - 1}")
        below = min(int(t), self.timesteps - 2)
        part = t - below
        logs = self._log_sigmas
        return math.exp(logs[below] * (1 - part) + logs[below + 1] * part)

    def timestep(self, sigma: float, *, integer: bool = False) -> float:
        """Return the step at which the noise level is ``sigma``; the inverse of :meth:`sigma`.

        Levels outside the trained range are given the nearest trained step. With ``integer`` the
        step is rounded to the nearest one the network was trained on.
        """
        log_sigma = math.log(max(sigma, 1e-30))
        logs = self._log_sigmas
        log_sigma = min(max(log_sigma, logs[0]), logs[-1])
        below = min(max(bisect.bisect_right(logs, log_sigma) - 1, 0), self.timesteps - 2)
        t = below + (log_sigma - logs[below]) / (logs[below + 1] - logs[below])
        return float(round(t)) if integer else t

    def sigma_grid(
        self, steps: int, sigma_max: float = 80.0, sigma_min: float = 0.01, *, snap: bool = False
    ) -> tuple[float, ...]:
        """Return ``steps`` noise levels, uniform in log-SNR and falling, followed by 0.

        A sampler that walks this grid evaluates the network ``steps`` times.

        The ends are held inside what the network has learnt. The last step of the schedule is
        clipped: σ leaps from 642 to 20,291 at T = 1000, where x0 = x − σ·ε would multiply an error
        of the network by twenty thousand, so the grid never starts above σ_{T−2}. It never goes
        below σ_0, the cleanest images of the training. The default start, 80 times the data's σ,
        leaves a signal-to-noise ratio of 1.6e-4: the start cannot be told from pure noise.

        Parameters
        ----------
        steps
            Network evaluations.
        sigma_max, sigma_min
            First and last positive level, in the units of x0.
        snap
            Move each level to the nearest trained step; levels that meet are merged, so that a
            grid of many steps may come out shorter.

        Raises
        ------
        ValueError
            When ``steps`` < 1 or the levels are not ``0 < sigma_min < sigma_max``.
        """
        if steps < 1 or not 0 < sigma_min < sigma_max:
            raise ValueError(f"no grid of {steps} steps from {sigma_max} to {sigma_min}")
        first = min(sigma_max, float(self.sigmas[-2]))
        last = min(max(sigma_min, float(self.sigmas[0])), first)
        ratio = math.log(last / first) / max(steps - 1, 1)
        grid = [first * math.exp(ratio * i) for i in range(steps)]
        if snap:
            trained = dict.fromkeys(int(self.timestep(sigma, integer=True)) for sigma in grid)
            grid = [float(self.sigmas[t]) for t in trained]
        return (*grid, 0.0)

    def ancestral_grid(self) -> tuple[float, ...]:
        """Return all T trained noise levels, falling, then 0: the DDPM walk of Algorithm 1."""
        return (*reversed(self.sigmas.tolist()), 0.0)

    def published_grid(self, steps: int = 200) -> tuple[float, ...]:
        """Return the levels at t = 996, 991, …, 6, 1 (for 200 of 1000 steps), then 0.

        These are the steps of the published inference. Its last step leaves the noise of t = 0
        (σ = 0.006) in the image; this grid goes down to 0.

        Raises
        ------
        UserError
            When ``steps`` is not in 1..T−1.
        """
        if not 1 <= steps < self.timesteps:
            raise UserError("superresolve.steps", str(steps), f"1..{self.timesteps - 1}")
        every = self.timesteps // steps
        chosen = [t + 1 for t in range(0, self.timesteps - 1, every)]
        return (*(float(self.sigmas[t]) for t in reversed(chosen)), 0.0)
