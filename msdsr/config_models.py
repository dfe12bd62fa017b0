"""The configuration of models: layout, objective, optimiser, and where a model comes from."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from msdsr.config_base import Count, Fraction, Name, Positive, Section
from msdsr.presets import ALLOWED, Kind, recipe


class NetworkConfig(Section):
    """The 2D network (a diffusers UNet2DModel)."""

    image_size: Count = Field(
        default=48, description="Side of a training crop and of an inference tile (pixels)."
    )
    block_out_channels: list[Count] = Field(
        default=[224, 448, 672, 896], description="Feature channels of each level."
    )
    layers_per_block: Count = Field(default=2, description="Residual blocks a level.")
    attention_levels: list[bool] = Field(
        default=[False, True, True, True], description="Self-attention on each level."
    )
    attention_head_dim: Count = Field(default=32, description="Channels of an attention head.")
    norm_num_groups: Count = Field(default=32, description="Groups of each group normalisation.")


class ObjectiveConfig(Section):
    """What the network sees and what it is asked for."""

    data: Literal["unit", "standardised", "symmetric"] = Field(
        default="standardised",
        description="Intensities in the network: raw/65536 in [0,1] as published (`unit`), zero "
        "mean and unit variance per channel of the training split (`standardised`), or "
        "2·raw/65536 − 1 in [−1,1] (`symmetric`, as the published denoiser has it).",
    )
    derive_ch1: bool = Field(
        default=False,
        description="Give the network the published third channel CH1 = CH3 − CH2 + 5000/65536 "
        "(needs channels CH2, CH3 and `data: unit`).",
    )
    conditioning: Literal["rows", "mask_and_rows", "neighbours", "none"] = Field(
        default="mask_and_rows",
        description="Observed rows overwrite x_t (`rows`, as published), or also enter as extra "
        "channels with their mask (`mask_and_rows`). The kinds without rows see the planes on "
        "either side (`neighbours`) or the image alone (`none`).",
    )
    prediction: Literal["epsilon", "v", "x0", "noise_level"] = Field(
        default="epsilon",
        description="What the network predicts: the noise ε, or v = √ᾱ·ε − √(1−ᾱ)·x0 (`msdsr`, "
        "`rscd_prior`); the image itself (`x0`: `ms_unet`, `e2e_unet`); or how noisy every pixel "
        "is (`noise_level`: `rscd_calibrator`).",
    )
    loss_rows: Literal["all", "unobserved"] = Field(
        default="unobserved", description="Rows that enter the L1 loss; as published: all."
    )
    masks: Literal["paper", "mixture", "none"] = Field(
        default="mixture",
        description="Law of the observed rows: 28..43 of 48 masked at random places (`paper`), or "
        "stride 2..8 with any phase 50 %, random rows 40 %, 0..4 rows 10 % (`mixture`). The kinds "
        "without rows have `none`.",
    )
    timesteps: Count = Field(default=1000, description="Diffusion steps T of the cosine schedule.")


def refuse_unsuited(kind: Kind, objective: ObjectiveConfig) -> None:
    """Raise a ValueError that names the first setting a kind of model cannot have."""
    for key, allowed in ALLOWED[kind].items():
        value = getattr(objective, key)
        if value not in allowed:
            some = " or ".join(str(choice) for choice in allowed)
            raise ValueError(f"objective.{key} is {value!r}; a model of kind {kind} has {some}")


class OptimiserConfig(Section):
    """How long and how fast a model learns."""

    images: Count = Field(default=5_000_000, description="Length of the training (crops seen).")
    batch: Count = Field(
        default=256, description="Global batch, whatever the number of GPUs (crops)."
    )
    micro_batch: Count = Field(
        default=256, description="Largest batch one device takes at a time (crops)."
    )
    balance: Literal["pixel", "slide", "patient", "class"] = Field(
        default="pixel",
        description="What gets an equal share of the crops: every pixel of tissue, every slide, "
        "every patient, or every class (`class` of the sample sheet or of a listed 2D image).",
    )
    learning_rate: Positive = Field(default=1e-4, description="Peak learning rate of AdamW.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        default=0.01, description="Weight decay of AdamW."
    )
    warmup: Fraction = Field(default=0.1, description="Part of the training with a rising rate.")
    clip_norm: Positive = Field(default=0.5, description="Gradients are clipped to this norm.")
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.9999, description="Decay of the weights' moving average, which inference uses."
    )
    checkpoint_minutes: Positive = Field(
        default=10.0, description="Time between two resume states (minutes)."
    )
    keep_checkpoints: Count = Field(default=2, description="Resume states kept.")
    validate_every: Count = Field(
        default=250_000, description="Time between two validations by the loss (crops seen)."
    )
    validate_restored_every: Annotated[int, Field(ge=0)] = Field(
        default=1_000_000,
        description="Time between two validations that restore crops at 2×, 4× and 8× and take "
        "their SSIM, and FID where there is an Inception network (crops seen); 0: never.",
    )
    restored_crops: Count = Field(
        default=256, description="Crops restored by such a validation, at each factor."
    )
    restored_steps: Count = Field(
        default=8, description="Denoising steps of such a validation (network evaluations a crop)."
    )
    tracking: list[Literal["tensorboard", "wandb", "mlflow"]] = Field(
        default=["tensorboard"],
        description="Who keeps curves beside `metrics.jsonl`, which is always written; all of them "
        "write files on this machine and send nothing (`wandb`, `mlflow`: "
        "`pip install 'msdsr[tracking]'`).",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="bfloat16", description="Arithmetic of the network under autocast."
    )
    compile: bool = Field(default=True, description="Compile the network (falls back to eager).")


class ModelConfig(Section):
    """A model: frozen (`path`) or trained here (`preset` and `cohorts`)."""

    path: str | None = Field(
        default=None,
        description="Folder of a released model (config.json and safetensors), never retrained; or "
        "the bare name of one under resources/models/, such as `phantom-tiny`.",
    )
    kind: Kind = Field(
        default="msdsr",
        description="What is modelled: masked slice diffusion (`msdsr`); the paper's baselines, "
        "one pass over slices with noise in the missing rows (`ms_unet`) and the plane between two "
        "planes of a stack (`e2e_unet`); or the two parts of the denoiser RSCD, a diffusion model "
        "of clean images (`rscd_prior`) and a judge of noise (`rscd_calibrator`).",
    )
    preset: Literal["paper", "default", "tiny"] = Field(
        default="default", description="Which recipe of the kind fills the keys left out below."
    )
    cohorts: list[Name] = Field(
        default=[], description="Cohorts whose train slides teach the model."
    )
    network: NetworkConfig = Field(default=NetworkConfig(), description="Layout of the network.")
    objective: ObjectiveConfig = Field(
        default=ObjectiveConfig(), description="What the network sees and is asked for."
    )
    optimiser: OptimiserConfig = Field(default=OptimiserConfig(), description="Length and speed.")

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        filled = dict(values)
        fill = recipe(str(values.get("kind", "msdsr")), str(values.get("preset", "default")))
        for part, defaults in fill.items():
            given = filled.get(part)
            if given is None or isinstance(given, dict):
                filled[part] = {**defaults, **(given or {})}
        return filled

    @model_validator(mode="after")
    def _frozen_or_trained(self) -> Self:
        if self.path is None and not self.cohorts:
            raise ValueError("a model needs either `path` (frozen) or `cohorts` (to learn from)")
        if self.path is not None and self.cohorts:
            raise ValueError(
                "a model has either `path` (frozen) or `cohorts` (to learn from), not both"
            )
        return self

    @model_validator(mode="after")
    def _objective_suits_the_kind(self) -> Self:
        refuse_unsuited(self.kind, self.objective)
        return self
