"""The published checkpoint (MLNeurosurg/msdsr, d17986ac.ckpt) as a model of ours.

A Lightning checkpoint holds the network twice: ``model.diffusion_model.<name>``, and averaged (EMA)
as ``model_ema.diffusion_model<name without dots>``, with the noise schedule beside them. Its blocks
are those of latent diffusion; here each is given its name in a ``diffusers.UNet2DModel``. Nothing
in the file is run, and no tensor is left over or made up.
"""

from __future__ import annotations

import pickle
import re
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from msdsr.config import ModelConfig, NetworkConfig
from msdsr.diffusion.network import MODEL_FILE, Model, build_network, load_model, save_model
from msdsr.diffusion.schedule import CosineSchedule
from msdsr.diffusion.transform import unit_transform
from msdsr.errors import UserError, nearest, require_file
from msdsr.manifest import Manifest, Stopwatch, sha256_file, write_manifest
from msdsr.volume.store import replace_path

ALGORITHM = 1
SOURCE = "MLNeurosurg/msdsr"
LICENCE = "MIT"
CHECKPOINT = "d17986ac.ckpt"
CHANNELS = ("CH2", "CH3")
"""The raw channels; the network's first channel, CH1, is derived from them."""

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

HARMLESS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype")
"""The optimiser's learning rate came from NumPy; nothing else in the file needs a class."""


class _Ignored:
    """Stands where a harmless class of the file would; takes anything, does and keeps nothing."""

    def __new__(cls, *_: object) -> _Ignored:
        return object.__new__(cls)

    def __setstate__(self, _: object) -> None:
        """Keep nothing."""


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
    source = {
        "source": SOURCE,
        "licence": LICENCE,
        "checkpoint": checkpoint.name,
        "checkpoint_sha256": sha256_file(checkpoint),
        "weights": "raw" if raw else "ema",
    }
    progress = {k: saved[k] for k in ("epoch", "global_step") if isinstance(saved.get(k), int)}
    model.training = {**source, **progress}
    layout = _layout_of(model)
    counts = {
        **source,
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "layout": layout,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".import-", dir=out.parent) as work:
        folder = Path(work) / out.name
        counts["weights_sha256"] = save_model(folder, model)
        (folder / "README.md").write_text(_card(counts), encoding="utf-8")
        load_model(folder)
        replace_path(folder, out)
    manifest = Manifest(
        stage="weights",
        algorithm=ALGORITHM,
        inputs={"checkpoint": source["checkpoint_sha256"]},
        settings={"raw": raw},
        counts=counts,
        seconds=watch.seconds(),
        warnings=_differences(layout),
    )
    write_manifest(out, manifest)
    return manifest


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint's tensors and plain values, and nothing that could act.

    Returns
    -------
    dict
        As saved; ``state_dict`` is sure to hold tensors by name. Tensors stay on the disk
        until they are looked at.

    Raises
    ------
    UserError
        When the file is damaged or holds an object of any class but :data:`HARMLESS`, which are
        not made either.
    """
    fix = f"give {CHECKPOINT}, unpacked from the authors' archive"
    if not path.is_file():
        raise UserError(path, "a folder", "a checkpoint's file", fix)
    allowed: list[Any] = [(_Ignored, name) for name in HARMLESS]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(allowed):
            warnings.simplefilter("ignore")
            saved = torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    # A damaged file can make the reader fail in any way; each of them is the file's fault.
    except Exception as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and found:
            raise UserError(
                path, f"holds a Python object, {found[1]}", "tensors and plain values alone", fix
            ) from error
        raise UserError(path, f"cannot be read ({type(error).__name__})", "a checkpoint", fix) from (
            error
        )
    tensors = saved.get("state_dict") if isinstance(saved, dict) else None
    if not isinstance(tensors, dict):
        raise UserError(path, "no state_dict", "a Lightning checkpoint", fix)
    for name, tensor in tensors.items():
        if not (isinstance(name, str) and isinstance(tensor, Tensor)):
            raise UserError(path, f"{name!s} is a {type(tensor).__name__}", "a tensor", fix)
    return saved


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
    timesteps = axis_size(tensors, SCHEDULE[0], 0, where)
    settings = _settings(derive_layout(tensors, where), timesteps, where)
    with torch.device("meta"):
        network = build_network(settings, len(CHANNELS) + 1)
    wanted = network.state_dict()
    entries = published_entries(settings.network, wanted)
    _check_tensors(tensors, entries, timesteps, where, raw=raw)
    _check_schedule(tensors, CosineSchedule(timesteps), where)
    weights: dict[str, Tensor] = {}
    for entry in entries:
        name = entry.raw if raw else entry.ema
        tensor = tensors[name].to(torch.float32)
        if not torch.isfinite(tensor).all():
            raise UserError(where, f"{name} holds NaN or infinity", "finite weights")
        parts = _split_heads(tensor, len(entry.targets), settings.network.attention_head_dim)
        for target, part in zip(entry.targets, parts, strict=True):
            weights[target] = part.reshape(wanted[target].shape)
    network.load_state_dict(weights, assign=True)
    transform = unit_transform(CHANNELS, derive_ch1=True)
    return Model(network.eval(), transform, settings.objective)


def _split_heads(tensor: Tensor, parts: int, head: int) -> Sequence[Tensor]:
    """Return q, k and v of a fused tensor, whose rows are q, k, v of head 0, then of head 1, …."""
    return (tensor,) if parts == 1 else tensor.unflatten(0, (-1, parts, head)).unbind(1)


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
    tensors: Mapping[str, Tensor], entries: Sequence[Entry], timesteps: int, where: Path, *, raw: bool
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
        raise UserError(where, ", ".join(filter(None, said)), "the published network's tensors")
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
