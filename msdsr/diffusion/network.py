"""The 2D network, and a model: everything that inference needs, in one folder.

A released model is a folder: ``config.json`` and ``diffusion_pytorch_model.safetensors``, which
``diffusers.UNet2DModel.from_pretrained`` reads too, and ``msdsr.json`` with what a network alone
does not say: channels, transform, objective, weights' hash. Nothing is ever unpickled.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast, get_args

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from msdsr.config import ModelConfig, ObjectiveConfig, refuse_unsuited
from msdsr.diffusion.objective import network_channels, output_channels
from msdsr.diffusion.schedule import CosineSchedule
from msdsr.diffusion.transform import DataTransform
from msdsr.errors import UserError, nearest
from msdsr.manifest import sha256_file, write_text_atomically
from msdsr.presets import Kind

NETWORK_FILE = "config.json"
WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"
MODEL_FILE = "msdsr.json"

FORMAT = 2
"""Of msdsr.json; raised when an older program could not read it rightly.

Format 1 had no ``kind``: all models were ``msdsr``. It is still read.
"""

_KEYS = ("format", "kind", "transform", "objective", "weights_sha256", "training")

_WEIGHT_SUFFIXES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".safetensors", ".h5"}


def build_network(model: ModelConfig, data_channels: int) -> nn.Module:
    """Return a fresh network, a ``diffusers.UNet2DModel``.

    The settings that the configuration leaves open are those of the published network: cosine
    before sine in the time embedding, frequency shift 0, GroupNorm ε = 1e-5. With the `paper`
    preset and 3 channels it has 274.056163 million parameters.

    Parameters
    ----------
    model
        ``network``, ``objective.conditioning`` and ``objective.prediction`` are read.
    data_channels
        Channels in model units (3 with the derived CH1).

    Raises
    ------
    UserError
        When the layout cannot be built.
    """
    _check_layout(model)
    layout = model.network
    down = tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in layout.attention_levels)
    up = tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(layout.attention_levels))
    network: nn.Module = _unet_class()(
        sample_size=layout.image_size,
        in_channels=network_channels(data_channels, model.objective.conditioning),
        out_channels=output_channels(data_channels, model.objective.prediction),
        block_out_channels=tuple(layout.block_out_channels),
        layers_per_block=layout.layers_per_block,
        down_block_types=down,
        up_block_types=up,
        attention_head_dim=layout.attention_head_dim,
        norm_num_groups=layout.norm_num_groups,
        norm_eps=1e-5,
        flip_sin_to_cos=True,
        freq_shift=0,
    )
    return network


@dataclass
class Model:
    """A network with everything that gives its numbers a meaning.

    Attributes
    ----------
    network
        ``network(input, t).sample``.
    transform
        Raw intensities ↔ model units.
    objective
        What the network sees and predicts.
    weights_sha256
        Of the weights' file; empty until saved.
    training
        Where the weights come from, for people: data, metrics, date.
    kind
        What the model is; it decides what its numbers are good for.
    """

    network: nn.Module
    transform: DataTransform
    objective: ObjectiveConfig
    weights_sha256: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    kind: Kind = "msdsr"

    def __post_init__(self) -> None:
        shape = (int(self._layout.in_channels), int(self._layout.out_channels))
        n = len(self.transform.model_channels)
        wanted = (
            network_channels(n, self.objective.conditioning),
            output_channels(n, self.objective.prediction),
        )
        if shape != wanted:
            raise UserError(
                "model",
                f"network of {shape[0]} channels in and {shape[1]} out",
                f"{wanted[0]} in and {wanted[1]} out for {', '.join(self.transform.model_channels)}"
                f" with conditioning {self.objective.conditioning}",
            )

    @property
    def _layout(self) -> Any:
        return cast("Any", self.network).config

    @functools.cached_property
    def schedule(self) -> CosineSchedule:
        """The noise schedule of the training."""
        return CosineSchedule(self.objective.timesteps)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the raw channels."""
        return self.transform.channels

    @property
    def image_size(self) -> int:
        """Side of a training crop (pixels)."""
        return int(self._layout.sample_size)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    def predict(
        self, given: torch.Tensor, t: torch.Tensor, precision: str = "float32"
    ) -> torch.Tensor:
        """Run the network as it is, under autocast with ``bfloat16``; float32 out."""
        bfloat16 = precision == "bfloat16"
        with torch.autocast(given.device.type, torch.bfloat16, enabled=bfloat16):
            answer: torch.Tensor = self.network(given, t).sample
        return answer.float()

    @property
    def data_sigma(self) -> float:
        """σ of the data in model units: 1 when standardised."""
        return self.transform.data_sigma

    @property
    def data_rms(self) -> float:
        """Root mean square of the data in model units, its mean included: 1 when standardised."""
        return float((self.transform.data_sigma**2 + self.transform.data_mean**2) ** 0.5)

    def sigma_grid(
        self, steps: int, sigma_max: float = 80.0, sigma_min: float = 0.01, *, snap: bool = False
    ) -> tuple[float, ...]:
        """Return a grid of noise levels in model units, its ends given in units of the data.

        A sampler starts at x = σ_0·n, which must drown the mean of the data too: ``sigma_max`` is
        in units of :attr:`data_rms`. Fine texture must come out clean: ``sigma_min`` is in units of
        :attr:`data_sigma`. See :meth:`CosineSchedule.sigma_grid`.
        """
        first, last = sigma_max * self.data_rms, sigma_min * self.data_sigma
        return self.schedule.sigma_grid(steps, first, last, snap=snap)


def save_model(directory: str | Path, model: Model) -> str:
    """Write a model into a folder and return the SHA-256 of its weights.

    ``msdsr.json`` is written last and holds the hash of the weights: a folder whose writing was cut
    short cannot be loaded.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MODEL_FILE).unlink(missing_ok=True)
    cast("Any", model.network).save_pretrained(directory, safe_serialization=True)
    # safetensors makes the file readable by its owner alone; a lab shares its models.
    (directory / WEIGHTS_FILE).chmod((directory / NETWORK_FILE).stat().st_mode)
    sha256 = sha256_file(directory / WEIGHTS_FILE)
    record = {
        "format": FORMAT,
        "kind": model.kind,
        "transform": model.transform.to_dict(),
        "objective": model.objective.model_dump(mode="json"),
        "weights_sha256": sha256,
        "training": model.training,
    }
    write_text_atomically(directory / MODEL_FILE, json.dumps(record, indent=2) + "\n")
    model.weights_sha256 = sha256
    return sha256


def load_model(
    directory: str | Path, device: torch.device | str = "cpu", *, kind: Kind | None = None
) -> Model:
    """Read a model's folder; the network comes in evaluation mode.

    Parameters
    ----------
    directory
        Folder of a released model.
    device
        Where the weights go.
    kind
        What the model must be; None takes any kind.

    Raises
    ------
    UserError
        When a file or a key is missing, unknown, damaged or of the wrong shape, when the folder
        holds weights of an unknown sort (a pickle is never opened), or the model is of another
        kind.
    """
    directory = Path(directory)
    _check_files(directory)
    record = _read_record(directory / MODEL_FILE)
    if kind not in (None, record["kind"]):
        raise UserError(
            directory,
            f"a model of kind {record['kind']}",
            f"one of kind {kind}",
            "give the folder of another model",
        )
    try:
        objective = ObjectiveConfig.model_validate(record["objective"])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in ("objective", *first["loc"]))
        raise UserError(directory / MODEL_FILE, f"{where}: {first['msg']}") from error
    try:
        refuse_unsuited(record["kind"], objective)
    except ValueError as error:
        raise UserError(directory / MODEL_FILE, str(error)) from None
    transform = DataTransform.from_dict(record["transform"], f"{directory / MODEL_FILE}: transform")
    sha256 = sha256_file(directory / WEIGHTS_FILE)
    if sha256 != record["weights_sha256"]:
        raise UserError(
            directory / WEIGHTS_FILE,
            f"SHA-256 {sha256}",
            f"{record['weights_sha256']}, as {MODEL_FILE} says",
            "fetch or save the model again",
        )
    network = _read_network(directory, torch.device(device))
    return Model(network, transform, objective, sha256, record["training"], record["kind"])


def _read_record(path: Path) -> dict[str, Any]:
    """Read msdsr.json of any format that was ever written."""
    record = _read_json(path)
    found = record.get("format")
    if found == 1:
        record = {**record, "kind": "msdsr"}
    elif found is not None and found != FORMAT:
        raise UserError(path, f"format {found}", f"{FORMAT}", "update msdsr")
    _same_names(path, "keys", record, _KEYS)
    if record["kind"] not in get_args(Kind):
        raise UserError(path, f"kind {record['kind']!r}", ", ".join(get_args(Kind)), "update msdsr")
    return record


def _unet_class() -> Any:
    """Return ``UNet2DModel``; imported late because it takes seconds that not every verb needs."""
    from diffusers.models.unets.unet_2d import UNet2DModel

    return UNet2DModel


def _check_layout(model: ModelConfig) -> None:
    layout = model.network
    blocks, levels = layout.block_out_channels, layout.attention_levels
    if len(levels) != len(blocks):
        raise UserError(
            "network.attention_levels", f"{len(levels)} levels", f"{len(blocks)}, one a level"
        )
    halvings = 2 ** (len(blocks) - 1)
    if layout.image_size % halvings:
        raise UserError("network.image_size", str(layout.image_size), f"a multiple of {halvings}")
    for i, width in enumerate(blocks):
        if width % layout.norm_num_groups:
            raise UserError(
                "network.block_out_channels",
                str(width),
                f"a multiple of norm_num_groups = {layout.norm_num_groups}",
            )
        # The middle block, as wide as the last level, always attends.
        if (levels[i] or i == len(blocks) - 1) and width % layout.attention_head_dim:
            raise UserError(
                "network.block_out_channels",
                str(width),
                f"a multiple of attention_head_dim = {layout.attention_head_dim}",
            )


def _check_files(directory: Path) -> None:
    if not directory.is_dir():
        raise UserError(directory, "no such folder", "a model's folder", "check the path")
    for name in (NETWORK_FILE, WEIGHTS_FILE, MODEL_FILE):
        if not (directory / name).is_file():
            raise UserError(
                directory,
                f"{name} is missing",
                f"{NETWORK_FILE}, {WEIGHTS_FILE} and {MODEL_FILE}",
                "give the folder of a released model",
            )
    for path in sorted(directory.iterdir()):
        if path.suffix in _WEIGHT_SUFFIXES and path.name != WEIGHTS_FILE:
            raise UserError(
                path, "weights of an unknown kind", f"{WEIGHTS_FILE} alone", "take it out"
            )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(path, f"not JSON ({error})", fix="fetch or save the model again") from error
    if not isinstance(values, dict):
        raise UserError(path, f"a {type(values).__name__}", "a JSON object")
    return values


def _same_names(path: Path, kind: str, found: Iterable[str], wanted: Iterable[str]) -> None:
    """Refuse missing and unknown names, and name the first few."""
    found, wanted = set(found), set(wanted)
    for word, names in (("missing", wanted - found), ("unknown", found - wanted)):
        if names:
            some = ", ".join(sorted(names)[:3]) + (", …" if len(names) > 3 else "")
            near = nearest(min(names), wanted) if word == "unknown" else None
            raise UserError(path, f"{len(names)} {word} {kind}: {some}", near and f"perhaps {near}")


def _read_network(directory: Path, device: torch.device) -> nn.Module:
    """Build the network without memory, then give it the file's tensors."""
    unet = _unet_class()
    path = directory / NETWORK_FILE
    settings = _read_json(path)
    if settings.get("_class_name") != "UNet2DModel":
        raise UserError(path, f"_class_name {settings.get('_class_name')}", "UNet2DModel")
    settings = {key: value for key, value in settings.items() if not key.startswith("_")}
    parameters = set(inspect.signature(unet.__init__).parameters) - {"self"}
    _same_names(path, "keys", {*settings, *parameters}, parameters)
    with torch.device("meta"):
        network: nn.Module = unet(**settings)
    weights = directory / WEIGHTS_FILE
    try:
        tensors: Mapping[str, torch.Tensor] = load_file(weights, device=str(device))
    except SafetensorError as error:
        raise UserError(weights, f"not safetensors ({error})") from error
    wanted = network.state_dict()
    _same_names(weights, "tensors", tensors, wanted)
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            raise UserError(
                weights, f"{name} has shape {tuple(tensor.shape)}", f"{tuple(wanted[name].shape)}"
            )
    network.load_state_dict(tensors, assign=True)
    return network.eval()
