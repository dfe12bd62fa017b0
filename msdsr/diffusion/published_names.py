"""Names and shapes in the published checkpoint, and the same tensors' names in diffusers.

The published network is written in the blocks of latent diffusion: ``input_blocks.N.M``,
``middle_block.M``, ``output_blocks.N.M``, where N counts residual blocks and changes of resolution,
and M is 0 for a residual block, 1 for its attention, and one more for an upsampling.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from msdsr.config import NetworkConfig
from msdsr.errors import UserError, nearest

PUBLISHED = "the published network's tensors"

RAW, EMA = "model.diffusion_model.", "model_ema.diffusion_model"


@dataclass(frozen=True)
class Entry:
    """One tensor of the published network.

    Attributes
    ----------
    name
        Below ``model.diffusion_model.``.
    shape
        In the checkpoint.
    targets
        Its names in diffusers: one, or three (q, k, v) for the fused ``qkv``.
    """

    name: str
    shape: tuple[int, ...]
    targets: tuple[str, ...]

    @property
    def raw(self) -> str:
        """Its full name among the weights."""
        return RAW + self.name

    @property
    def ema(self) -> str:
        """Its full name among the averages: no dot after the prefix."""
        return EMA + self.name.replace(".", "")


def derive_layout(tensors: Mapping[str, Tensor], where: Path) -> NetworkConfig:
    """Read the network's layout off the names and shapes of its tensors.

    Channels of a head, groups of a normalisation and side of a crop leave no trace in them: they
    are taken to be the published ones.

    Raises
    ------
    UserError
        When a whole block is missing, or a tensor that gives a width.
    """
    blocks: dict[int, set[str]] = {}
    for name in tensors:
        if found := re.match(rf"{re.escape(RAW)}input_blocks\.(\d+)\.(\d+\.\w+)", name):
            blocks.setdefault(int(found[1]), set()).add(found[2])
    levels: list[list[int]] = [[]]
    for at, block in enumerate(sorted(blocks)):
        if at != block:
            raise UserError(where, f"missing {RAW}input_blocks.{at}", PUBLISHED)
        if "0.op" in blocks[block]:
            levels.append([])
        elif block:
            levels[-1].append(block)
    if not all(levels):
        level = levels.index([])
        raise UserError(where, f"no block in level {level} of {RAW}input_blocks", PUBLISHED)
    width = "{}input_blocks.{}.0.out_layers.3.weight"
    try:
        return NetworkConfig(
            block_out_channels=[
                axis_size(tensors, width.format(RAW, level[0]), 0, where) for level in levels
            ],
            layers_per_block=len(levels[0]),
            attention_levels=[
                any(part.startswith("1.") for block in level for part in blocks[block])
                for level in levels
            ],
        )
    except ValidationError as error:
        raise UserError(where, error.errors()[0]["msg"], "the published layout") from error


def published_entries(layout: NetworkConfig, wanted: Mapping[str, Tensor]) -> list[Entry]:
    """Return all tensors of the published network, of any layout.

    Parameters
    ----------
    layout
        The network's.
    wanted
        The diffusers network's tensors, for their shapes.
    """
    entries = []
    for source, targets in _layers(layout):
        for kind in ("weight", "bias"):
            names = tuple(f"{target}.{kind}" for target in targets)
            if source.endswith("skip_connection") and names[0] not in wanted:
                continue  # as many channels out as in
            rows, *rest = wanted[names[0]].shape
            # Attention is written with 1×1 convolutions there, and with linear layers here.
            if kind == "weight" and source.endswith(("qkv", "proj_out")):
                rest.append(1)
            entries.append(Entry(f"{source}.{kind}", (len(names) * rows, *rest), names))
    return entries


def _layers(layout: NetworkConfig) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each layer's published name and its names in diffusers."""
    depth, last = layout.layers_per_block, len(layout.block_out_channels) - 1
    yield "time_embed.0", ("time_embedding.linear_1",)
    yield "time_embed.2", ("time_embedding.linear_2",)
    yield "input_blocks.0.0", ("conv_in",)
    block = 1
    for level, attends in enumerate(layout.attention_levels):
        here = f"down_blocks.{level}"
        for j in range(depth):
            yield from _residual(f"input_blocks.{block}.0", f"{here}.resnets.{j}")
            if attends:
                yield from _attention(f"input_blocks.{block}.1", f"{here}.attentions.{j}")
            block += 1
        if level < last:
            yield f"input_blocks.{block}.0.op", (f"{here}.downsamplers.0.conv",)
            block += 1
    yield from _residual("middle_block.0", "mid_block.resnets.0")
    yield from _attention("middle_block.1", "mid_block.attentions.0")
    yield from _residual("middle_block.2", "mid_block.resnets.1")
    for level, attends in enumerate(reversed(layout.attention_levels)):
        here = f"up_blocks.{level}"
        for j in range(depth + 1):
            block = level * (depth + 1) + j
            yield from _residual(f"output_blocks.{block}.0", f"{here}.resnets.{j}")
            if attends:
                yield from _attention(f"output_blocks.{block}.1", f"{here}.attentions.{j}")
        if level < last:
            upsample = f"output_blocks.{block}.{2 if attends else 1}.conv"
            yield upsample, (f"{here}.upsamplers.0.conv",)
    yield "out.0", ("conv_norm_out",)
    yield "out.2", ("conv_out",)


def _residual(source: str, target: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield f"{source}.in_layers.0", (f"{target}.norm1",)
    yield f"{source}.in_layers.2", (f"{target}.conv1",)
    yield f"{source}.emb_layers.1", (f"{target}.time_emb_proj",)
    yield f"{source}.out_layers.0", (f"{target}.norm2",)
    yield f"{source}.out_layers.3", (f"{target}.conv2",)
    yield f"{source}.skip_connection", (f"{target}.conv_shortcut",)


def _attention(source: str, target: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield f"{source}.norm", (f"{target}.group_norm",)
    yield f"{source}.qkv", (f"{target}.to_q", f"{target}.to_k", f"{target}.to_v")
    yield f"{source}.proj_out", (f"{target}.to_out.0",)


def say_names(word: str, names: Sequence[str], others: Sequence[str] | Mapping[str, Any]) -> str:
    """Say how many names there are, the first, and what it may have been."""
    if not names:
        return ""
    near = nearest(names[0], others)
    return f"{len(names)} {word}: {names[0]}" + (f" (nearest: {near})" if near else "")


def axis_size(tensors: Mapping[str, Tensor], name: str, axis: int, where: Path) -> int:
    """Return the length of one axis of a tensor.

    Raises
    ------
    UserError
        When there is no such tensor, or no such axis, or nothing along it.
    """
    if name not in tensors:
        near = nearest(name, tensors)
        raise UserError(where, say_names("missing", [name], [near] if near else []), PUBLISHED)
    shape = tuple(tensors[name].shape)
    if len(shape) <= axis or shape[axis] < 1:
        raise UserError(where, f"{name} has shape {shape}", f"a length on axis {axis}")
    return shape[axis]
