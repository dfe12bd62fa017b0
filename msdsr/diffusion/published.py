"""The published checkpoint (MLNeurosurg/msdsr, d17986ac.ckpt) as a model of ours.

A Lightning checkpoint holds the network twice: ``model.diffusion_model.<name>``, and averaged (EMA)
as ``model_ema.diffusion_model<name without dots>``, with the noise schedule beside them. Each
tensor is checked and given its name in a ``diffusers.UNet2DModel``; none is left over or made up.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from msdsr.config import ModelConfig, NetworkConfig
from msdsr.diffusion.network import MODEL_FILE, Model, build_network, load_model, save_model
from msdsr.diffusion.published_file import read_checkpoint
from msdsr.diffusion.published_names import (
    PUBLISHED,
    Entry,
    axis_size,
    derive_layout,
    published_entries,
    say_names,
)
from msdsr.diffusion.schedule import CosineSchedule
from msdsr.diffusion.transform import unit_transform
from msdsr.errors import UserError, require_file
from msdsr.manifest import Manifest, Stopwatch, sha256_file, write_manifest
from msdsr.volume.store import replace_path

ALGORITHM = 1
SOURCE = "MLNeurosurg/msdsr"
LICENCE = "MIT"
CHANNELS = ("CH2", "CH3")
"""The raw channels; the network's first channel, CH1, is derived from them."""

PUBLISHED_STEPS = 1000

EMA_COUNTERS = ("model_ema.decay", "model_ema.num_updates")

SCHEDULE = ("betas", "alphas_cumprod")
"""What must be there and equal the cosine schedule, to 1e-5."""

SCHEDULE_TABLES = (
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
    "logvar",
)
"""What may be there, one number a step; it follows from the schedule and is not used."""

CARD = """\
---
library_name: diffusers
license: mit
tags:
- microscopy
- super-resolution
- diffusion
---
# The published MSDSR model

A 2D diffusion model that fills in missing rows of microscope images, after *Super-resolution of
biomedical volumes with 2D supervision* (Jiang et al., 2024). Its weights are the authors',
converted tensor by tensor; nothing was trained here.

## Where it comes from
| | |
|---|---|
| source | {source} (licence {licence}) |
| checkpoint | `{checkpoint}` |
| SHA-256 of the checkpoint | `{checkpoint_sha256}` |
| weights | {kind} |
| SHA-256 of the weights here | `{weights_sha256}` |
| parameters | {parameters:,} |
| layout | {layout} |

## What it takes and gives
| | |
|---|---|
| channels | CH2, CH3 of stimulated Raman histology (uint16); CH1 is derived from them |
| data | intensity / 65536, in [0, 1] |
| conditioning | observed rows overwrite the noisy image |
| prediction | noise ε; cosine schedule, {timesteps} steps |

## What it is for, and what not
Research on restoring planes between acquired planes of stimulated Raman histology like that which
the authors trained on. Restored planes are estimates that look like such tissue, not measurements:
what was never acquired is made up in the likeness of the training images. Do not use it for
diagnosis, nor for other tissue, stains, microscopes, pixel sizes or intensity ranges before the
report of `msdsr evaluate` on that data was judged.
"""


def import_published(checkpoint: str | Path, out: str | Path, *, raw: bool = False) -> Manifest:
    """Turn the published checkpoint into a released model, published by one rename.

    Parameters
    ----------
    checkpoint
        The Lightning checkpoint.
    out
        Folder of the model to make; an earlier import there is replaced. Its manifest stands beside
        it.
    raw
        Take the last weights and not their moving average, which the paper's inference uses.

    Returns
    -------
    Manifest
        The record beside the folder. It warns when the layout is not the published one.

    Raises
    ------
    UserError
        When the file holds more than tensors and plain values, when a tensor is missing, unknown,
        of another shape or not finite, when the schedule is another, or ``out`` holds something
        else.
    """
    watch = Stopwatch()
    checkpoint = require_file(checkpoint)
    out = Path(out).resolve()
    _check_target(out)
    saved = read_checkpoint(checkpoint)
    model = convert(saved["state_dict"], checkpoint, raw=raw)
    layout = derive_layout(saved["state_dict"], checkpoint)
    weights = "raw" if raw else "ema"
    progress = {k: saved[k] for k in ("epoch", "global_step") if type(saved.get(k)) is int}
    model.training = {
        "source": SOURCE,
        "licence": LICENCE,
        "checkpoint": checkpoint.name,
        "checkpoint_sha256": sha256_file(checkpoint),
        "weights": weights,
        **progress,
    }
    counts = {
        "weights": weights,
        "parameters": sum(p.numel() for p in model.network.parameters()),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".import-", dir=out.parent) as work:
        folder = Path(work) / out.name
        counts["weights_sha256"] = save_model(folder, model)
        (folder / "README.md").write_text(_card(model, layout, counts), encoding="utf-8")
        load_model(folder)
        replace_path(folder, out)
    manifest = Manifest(
        stage="weights",
        algorithm=ALGORITHM,
        inputs={"checkpoint": model.training["checkpoint_sha256"]},
        settings={"raw": raw, "network": layout.model_dump(mode="json")},
        counts={**counts, "source": f"{SOURCE} ({LICENCE})"},
        seconds=watch.seconds(),
        warnings=_differences(layout, model.objective.timesteps),
    )
    write_manifest(out, manifest)
    return manifest


def convert(tensors: Mapping[str, Tensor], where: Path, *, raw: bool = False) -> Model:
    """Return the published network as a model.

    Parameters
    ----------
    tensors
        The checkpoint's ``state_dict``.
    where
        Named in errors.
    raw
        Take ``model.diffusion_model.*``, not ``model_ema.*``.

    Raises
    ------
    UserError
        See :func:`import_published`.
    """
    layout = derive_layout(tensors, where)
    timesteps = axis_size(tensors, SCHEDULE[0], 0, where)
    settings = _settings(layout, timesteps, where)
    with torch.device("meta"):
        network = build_network(settings, len(CHANNELS) + 1)
    wanted = network.state_dict()
    entries = published_entries(layout, wanted)
    _check_tensors(tensors, entries, timesteps, where, raw=raw)
    _check_schedule(tensors, CosineSchedule(timesteps), where)
    weights: dict[str, Tensor] = {}
    for entry in entries:
        name = entry.raw if raw else entry.ema
        tensor = tensors[name].to(torch.float32)
        if not torch.isfinite(tensor).all():
            raise UserError(where, f"{name} holds NaN or infinity", "finite weights")
        parts = _split_heads(tensor, len(entry.targets), layout.attention_head_dim)
        for target, part in zip(entry.targets, parts, strict=True):
            weights[target] = part.reshape(wanted[target].shape)
    network.load_state_dict(weights, assign=True)
    transform = unit_transform(CHANNELS, derive_ch1=True)
    return Model(network.eval(), transform, settings.objective)


def _split_heads(tensor: Tensor, parts: int, head: int) -> Sequence[Tensor]:
    """Return q, k and v of a fused tensor, whose rows are q, k, v of head 0, then of head 1, …."""
    if parts == 1:
        return (tensor,)
    return tensor.reshape(-1, parts, head, *tensor.shape[1:]).unbind(1)


def _settings(layout: NetworkConfig, timesteps: int, where: Path) -> ModelConfig:
    """Return the paper's recipe with this layout."""
    return ModelConfig.model_validate(
        {
            "preset": "paper",
            "path": str(where),
            "network": layout.model_dump(),
            "objective": {"timesteps": timesteps},
        }
    )


def _check_tensors(
    tensors: Mapping[str, Tensor],
    entries: Sequence[Entry],
    timesteps: int,
    where: Path,
    *,
    raw: bool,
) -> None:
    """Refuse tensors that are missing, unknown or of another shape, by name."""
    averages = {entry.ema: entry.shape for entry in entries}
    has_ema = any(name.startswith("model_ema.") for name in tensors)
    if not has_ema and not raw:
        raise UserError(
            where, "no averaged weights (model_ema.*)", None, "give --raw for the last weights"
        )
    needed = {entry.raw: entry.shape for entry in entries}
    needed |= dict.fromkeys(SCHEDULE, (timesteps,)) | (averages if has_ema else {})
    known = dict.fromkeys(EMA_COUNTERS, ()) | dict.fromkeys(SCHEDULE_TABLES, (timesteps,)) | needed
    missing, unknown = sorted(needed.keys() - tensors), sorted(tensors.keys() - known)
    said = [
        say_names("unknown", unknown, missing or known),
        say_names("missing", missing, unknown),
    ]
    if missing or unknown:
        raise UserError(where, ", ".join(filter(None, said)), PUBLISHED)
    for name, tensor in tensors.items():
        if tensor.shape != known[name]:
            raise UserError(
                where, f"{name} has shape {tuple(tensor.shape)}", f"{tuple(known[name])}"
            )
        if known[name] and not tensor.is_floating_point():
            raise UserError(where, f"{name} is {tensor.dtype}", "floating-point numbers")


def _check_schedule(tensors: Mapping[str, Tensor], schedule: CosineSchedule, where: Path) -> None:
    for name in SCHEDULE:
        gap = (tensors[name].double() - getattr(schedule, name)).abs().max().item()
        if not gap < 1e-5:
            raise UserError(
                where, f"{name} is {gap:.2g} away from the cosine schedule", "less than 1e-5"
            )


def _check_target(out: Path) -> None:
    """Refuse to replace anything but an earlier import."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        record = json.loads((out / MODEL_FILE).read_text(encoding="utf-8"))
        if record["training"]["source"] == SOURCE:
            return
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise UserError(out, "holds something else", "a free name or an earlier import", "name another")


def _differences(layout: NetworkConfig, timesteps: int) -> list[str]:
    """Say where this is not the published network."""
    found, wanted = layout.model_dump(), NetworkConfig().model_dump()
    said = [f"{k} {found[k]}, published {wanted[k]}" for k in wanted if found[k] != wanted[k]]
    if timesteps != PUBLISHED_STEPS:
        said.append(f"{timesteps} steps, published {PUBLISHED_STEPS}")
    return [f"not the published network: {line}" for line in said]


def _card(model: Model, layout: NetworkConfig, counts: Mapping[str, Any]) -> str:
    raw = counts["weights"] == "raw"
    differs = _differences(layout, model.objective.timesteps)
    shape = (
        f"{', '.join(map(str, layout.block_out_channels))} channels, "
        f"{layout.layers_per_block} residual blocks a level, heads of {layout.attention_head_dim}"
    )
    return CARD.format(
        **{k: model.training[k] for k in ("source", "licence", "checkpoint", "checkpoint_sha256")},
        kind="the last ones (raw)" if raw else "moving average (EMA), as in the paper's inference",
        weights_sha256=counts["weights_sha256"],
        parameters=counts["parameters"],
        layout=f"{shape}; **not the published one**" if differs else f"{shape}, as published",
        timesteps=model.objective.timesteps,
    )
