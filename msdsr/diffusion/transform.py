"""From raw intensities to what the network sees, and back.

*Model units* are what x0 is measured in: [0, 1] for `data: unit`, as published, zero mean and unit
variance per channel for `data: standardised`, or [−1, 1] for `data: symmetric`. Noise levels σ are
in model units too.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from torch import Tensor

from msdsr.config import ObjectiveConfig
from msdsr.errors import UserError

CH1_OFFSET = 5000 / 65536
"""CH1 = CH3 − CH2 + this, clamped to [0, 1] (published code)."""

UNIT_SIGMA, UNIT_MEAN = 0.05, 0.1
"""σ and mean of SRH in [0, 1], taken where a model comes without the statistics of its data."""

CLAMP_MARGIN = 0.5
"""The clamp of x0 leaves this part of the range between the percentiles free on either side."""

FULL_SCALE = {"uint8": 256.0, "uint16": 65536.0, "float32": 1.0}
"""What `data: unit` divides by; 65536, not 65535, as published."""


@dataclasses.dataclass(frozen=True)
class ChannelStatistics:
    """One channel of the training split, in raw units.

    Attributes
    ----------
    mean, std
        Over all pixels.
    low, high
        0.1st and 99.9th percentile.
    """

    mean: float
    std: float
    low: float
    high: float

    @classmethod
    def from_summary(cls, summary: Mapping[str, Any]) -> Self:
        """Read ``mean``, ``std`` and ``percentiles["0.1"|"99.9"]`` of a training set's manifest."""
        percentiles = summary["percentiles"]
        return cls(
            float(summary["mean"]),
            float(summary["std"]),
            float(percentiles["0.1"]),
            float(percentiles["99.9"]),
        )


class DataTransform(BaseModel):
    """The affine map of each channel, and the published third channel.

    Attributes
    ----------
    channels
        Names of the raw channels, in order.
    shift, scale
        Per raw channel: model = (raw − shift)/scale.
    low, high
        Per raw channel, in model units: where x0 may lie.
    data_mean, data_sigma
        Mean and σ of the data in model units, one number for all channels.
    derive_ch1
        Put CH1 = CH3 − CH2 + 5000/65536, clamped to [0, 1], before CH2 and CH3.
    """

    channels: tuple[str, ...]
    shift: tuple[float, ...]
    scale: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    data_mean: float = 0.0
    data_sigma: float = 1.0
    derive_ch1: bool = False

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name in ("shift", "scale", "low", "high"):
            values = getattr(self, name)
            if len(values) != len(self.channels):
                raise UserError(f"transform.{name}", str(values), f"{len(self.channels)} numbers")
        if min(self.scale) <= 0 or self.data_sigma <= 0:
            raise UserError("transform.scale", str(self.scale), "numbers above 0")
        if self.derive_ch1 and sorted(self.channels) != ["CH2", "CH3"]:
            raise UserError(
                "objective.derive_ch1",
                f"channels are {', '.join(self.channels)}",
                "channels CH2 and CH3",
                "name the channels so in the sample sheet or set derive_ch1: false",
            )
        return self

    @property
    def model_channels(self) -> tuple[str, ...]:
        """Names of the channels in model units, in order."""
        return ("CH1", "CH2", "CH3") if self.derive_ch1 else self.channels

    def forward(self, raw: Tensor, channel_axis: int = 1) -> Tensor:
        """Return raw intensities in model units, float32.

        Parameters
        ----------
        raw
            Any dtype and shape with the raw channels on ``channel_axis``.
        channel_axis
            1 for (N, C, H, W), 0 for (C, …).

        Raises
        ------
        UserError
            When the number of channels is not the model's.
        """
        self._check(raw.shape[channel_axis], self.channels)
        data = (raw.to(torch.float32) - self._along(self.shift, raw, channel_axis)) / self._along(
            self.scale, raw, channel_axis
        )
        if not self.derive_ch1:
            return data
        ch2, ch3 = (
            data.narrow(channel_axis, self.channels.index(name), 1) for name in ("CH2", "CH3")
        )
        ch1 = (ch3 - ch2 + CH1_OFFSET).clamp(0.0, 1.0)
        return torch.cat([ch1, ch2, ch3], dim=channel_axis)

    def inverse(self, data: Tensor, channel_axis: int = 1) -> Tensor:
        """Return model units as raw intensities, float32, neither rounded nor clipped.

        The derived channel is dropped; the raw channels come back in their own order.

        Raises
        ------
        UserError
            When the number of channels is not the model's.
        """
        self._check(data.shape[channel_axis], self.model_channels)
        if self.derive_ch1:
            order = [self.model_channels.index(name) for name in self.channels]
            data = data.index_select(channel_axis, torch.tensor(order, device=data.device))
        data = data.to(torch.float32)
        scale, shift = (self._along(v, data, channel_axis) for v in (self.scale, self.shift))
        return data * scale + shift

    def clamp(self, x0: Tensor, channel_axis: int = 1) -> Tensor:
        """Return x0 (model units) held inside the range of the data."""
        low, high = self.low, self.high
        if self.derive_ch1:
            at = [self.channels.index(name) for name in ("CH2", "CH3")]
            low, high = (0.0, *(low[i] for i in at)), (1.0, *(high[i] for i in at))
        return x0.clamp(self._along(low, x0, channel_axis), self._along(high, x0, channel_axis))

    def to_dict(self) -> dict[str, Any]:
        """Return what :meth:`from_dict` reads; JSON keeps every bit of it."""
        return self.model_dump(mode="json")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "transform") -> Self:
        """Read a transform.

        Raises
        ------
        UserError
            When a key is missing, unknown or of the wrong type.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            raise UserError(f"{where}.{name}", first["msg"]) from error

    def _check(self, count: int, names: Sequence[str]) -> None:
        if count != len(names):
            raise UserError(
                "channels", f"{count} channels", f"{len(names)} ({', '.join(names)}), the model's"
            )

    @staticmethod
    def _along(values: Sequence[float], like: Tensor, axis: int) -> Tensor:
        shape = [1] * like.ndim
        shape[axis] = len(values)
        return torch.tensor(values, dtype=torch.float32, device=like.device).reshape(shape)


def standardised_transform(
    channels: Sequence[str], statistics: Sequence[ChannelStatistics]
) -> DataTransform:
    """Return the transform to zero mean and unit variance per channel of the training split.

    Raises
    ------
    UserError
        When a channel is constant.
    """
    low, high = [], []
    for name, channel in zip(channels, statistics, strict=True):
        if not channel.std > 0:
            raise UserError(
                f"training set, channel {name}",
                f"standard deviation {channel.std:g}",
                "images that vary",
                "leave the channel out or check the raw files",
            )
        margin = CLAMP_MARGIN * (channel.high - channel.low)
        low.append((channel.low - margin - channel.mean) / channel.std)
        high.append((channel.high + margin - channel.mean) / channel.std)
    return DataTransform(
        channels=tuple(channels),
        shift=tuple(channel.mean for channel in statistics),
        scale=tuple(channel.std for channel in statistics),
        low=tuple(low),
        high=tuple(high),
    )


def unit_transform(
    channels: Sequence[str],
    statistics: Sequence[ChannelStatistics] | None = None,
    *,
    derive_ch1: bool = False,
    full_scale: float = FULL_SCALE["uint16"],
) -> DataTransform:
    """Return the published transform raw/65536 to [0, 1].

    Without ``statistics`` (an imported network) mean and σ of the data are taken to be those of
    SRH; they only place the noise levels of a sampler.
    """
    n = len(channels)
    mean, sigma = UNIT_MEAN, UNIT_SIGMA
    if statistics is not None:
        mean = math.fsum(channel.mean for channel in statistics) / n / full_scale
        sigma = math.sqrt(math.fsum(channel.std**2 for channel in statistics) / n) / full_scale
    return DataTransform(
        channels=tuple(channels),
        shift=(0.0,) * n,
        scale=(full_scale,) * n,
        low=(0.0,) * n,
        high=(1.0,) * n,
        data_mean=mean,
        data_sigma=sigma,
        derive_ch1=derive_ch1,
    )


def symmetric_transform(
    channels: Sequence[str],
    statistics: Sequence[ChannelStatistics],
    *,
    full_scale: float = FULL_SCALE["uint16"],
) -> DataTransform:
    """Return the transform 2·raw/65536 − 1 to [−1, 1], as the published denoiser has it."""
    unit = unit_transform(channels, statistics, full_scale=full_scale)
    n = len(channels)
    return DataTransform(
        channels=tuple(channels),
        shift=(full_scale / 2,) * n,
        scale=(full_scale / 2,) * n,
        low=(-1.0,) * n,
        high=(1.0,) * n,
        data_mean=2 * unit.data_mean - 1,
        data_sigma=2 * unit.data_sigma,
    )


def build_transform(
    channels: Sequence[str],
    statistics: Sequence[ChannelStatistics],
    objective: ObjectiveConfig,
    dtype: str = "uint16",
) -> DataTransform:
    """Return the transform that a training asks for.

    Parameters
    ----------
    channels, statistics
        The training set's raw channels, and their statistics over its training split.
    objective
        ``data`` and ``derive_ch1`` are read.
    dtype
        Of the raw data: uint8, uint16 or float32; sets the full scale of `data: unit`.

    Raises
    ------
    UserError
        When the channels or the dtype cannot be used so.
    """
    if objective.data == "standardised":
        if objective.derive_ch1:
            raise UserError("objective.derive_ch1", "true with data: standardised", "data: unit")
        return standardised_transform(channels, statistics)
    if dtype not in FULL_SCALE:
        raise UserError("training set", f"dtype {dtype}", ", ".join(FULL_SCALE))
    if objective.data == "symmetric":
        if objective.derive_ch1:
            raise UserError("objective.derive_ch1", "true with data: symmetric", "data: unit")
        return symmetric_transform(channels, statistics, full_scale=FULL_SCALE[dtype])
    return unit_transform(
        channels, statistics, derive_ch1=objective.derive_ch1, full_scale=FULL_SCALE[dtype]
    )
