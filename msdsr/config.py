"""The one truth about the configuration: config.yaml, its JSON schema and its docs come from here.

The configuration holds science only. Threads, memory, partitions and GPUs belong to the profile.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from msdsr.presets import ALLOWED, Kind, recipe

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
Interpolation = Literal["nearest", "linear", "cubic"]
RestoringMethod = Literal["nearest", "linear", "cubic", "msdsr", "ms_unet", "e2e_unet"]


class Section(BaseModel):
    """A part of the configuration; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", validate_default=True, frozen=True)


class BaselineModels(Section):
    """The models behind the baselines that have one."""

    ms_unet: Name | None = Field(
        default=None, description="Which of `models` the method `ms_unet` runs with."
    )
    e2e_unet: Name | None = Field(
        default=None, description="Which of `models` the method `e2e_unet` runs with."
    )


class CohortConfig(Section):
    """One set of slides that is processed and reported together."""

    sheet: str = Field(
        description="Sample sheet (TSV): one row a slide. Relative to the working directory.",
    )
    source: Literal["files", "phantom", "blastocyst"] = Field(
        default="files",
        description="Where the raw files come from: they are there (`files`), or the workflow "
        "makes the synthetic cohort (`phantom`) or fetches the public example (`blastocyst`).",
    )
    model: Name = Field(description="Which of `models` superresolves this cohort.")
    baseline_models: BaselineModels = Field(
        default=BaselineModels(),
        description="Models of the methods `ms_unet` and `e2e_unet`, where they are asked for.",
    )
    attribution: str = Field(
        default="", description="Source and licence of the data, printed in the report."
    )


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
        description="Folder of a released model (config.json and safetensors), never retrained.",
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


class IngestConfig(Section):
    """Raw files to OME-Zarr."""

    chunk_yx: Count = Field(default=256, description="Side of a chunk in Y and X (pixels).")
    shard_mb: Positive = Field(
        default=256.0, description="Size that a shard should come near, uncompressed (MB)."
    )


class PatchConfig(Section):
    """The patch grid and the tissue mask."""

    size: Count = Field(
        default=256,
        description="Side of a patch in Y and X (pixels). Listed 2D images are cut into equal "
        "pieces that come near it.",
    )
    smoothing_um: Positive = Field(
        default=4.0,
        description="σ of the Gaussian that smooths the mean projection before Otsu (µm).",
    )
    min_tissue_fraction: Fraction = Field(
        default=0.1, description="Patches with less tissue are marked as background."
    )
    flag_empty: Fraction = Field(
        default=0.02,
        description="A plane is flagged as empty when the contrast (σ) of one of its channels is "
        "below this part of the slide's median (0: only where all pixels are alike).",
    )
    flag_saturated: Fraction = Field(
        default=0.05,
        description="A plane is flagged as saturated when a larger part of the pixels of one of "
        "its channels is at full scale (1: never).",
    )
    flag_defocused: Fraction = Field(
        default=0.5,
        description="A plane is flagged as out of focus when its sharpness is below this part of "
        "the slide's median in every channel (0: never).",
    )
    flag_duplicates: bool = Field(
        default=True, description="A plane that equals an earlier one bit for bit is flagged."
    )


class DenoiseConfig(Section):
    """The hand-off to a denoiser."""

    mode: Literal["none", "rscd"] = Field(
        default="none",
        description="`none`: the acquired values pass unchanged. `rscd`: every plane is denoised "
        "by two models, and no value stays what was acquired.",
    )
    prior: Name | None = Field(
        default=None,
        description="Which of `models` is the prior of mode `rscd`: of kind `rscd_prior`, with a "
        "`path`.",
    )
    calibrator: Name | None = Field(
        default=None,
        description="Which of `models` tells the noise level in mode `rscd`: of kind "
        "`rscd_calibrator`, with a `path`.",
    )
    overlap: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.25, description="Part of a tile's side that neighbouring tiles share (`rscd`)."
    )
    batch: Count = Field(default=16, description="Tiles the networks see at a time (`rscd`).")


class TrainsetConfig(Section):
    """2D training images from XY planes."""

    size: Count = Field(default=256, description="Side of a stored training image (pixels).")
    min_tissue_fraction: Fraction = Field(
        default=0.1, description="Patches with less tissue are left out."
    )
    min_side: Count = Field(
        default=48,
        description="Narrower patches are left out (pixels): the side of a training crop.",
    )
    exclude_classes: list[str] = Field(
        default=["nondiagnostic"],
        description="Images of these classes are left out (the class of a listed 2D image, or of "
        "its slide).",
    )
    shard_images: Count = Field(
        default=256,
        description="Images in one shard. A shard holds images of one slide alone, so that slides "
        "come and go without any other being written again.",
    )


class SuperresolveConfig(Section):
    """Filling the missing planes."""

    factors: list[Annotated[int, Field(ge=2, le=8)] | Literal["auto"]] = Field(
        default=[2],
        description="Factors along z, 2 to 8, or `auto`: the cohort's own z/xy ratio, to the "
        "nearest whole number. A factor that is a multiple m of that ratio is run on every m-th "
        "plane (paper, section 4.3), so that all such factors end at one spacing.",
    )
    anisotropy: Literal["warn", "refuse"] = Field(
        default="warn",
        description="What to do when the result's planes and pixels are not equally far apart, to "
        "5 %: say so in the manifest (`warn`), or stop (`refuse`).",
    )
    methods: list[RestoringMethod] = Field(
        default=["msdsr"],
        description="Methods whose volumes are stored: `msdsr`, the baselines with a model "
        "(`ms_unet`, `e2e_unet`), and interpolations (`nearest`, `linear`, `cubic`), which the "
        "report compares in any case where `evaluate.baselines` names them.",
    )
    mode: Literal["xz", "yz", "average", "joint", "alternate"] = Field(
        default="alternate",
        description="Slices that are restored: `xz` or `yz` alone; the mean of both, each on its "
        "own (`average`, Eq. 9); or one shared volume that both denoise, in every step (`joint`) "
        "or in turns (`alternate`).",
    )
    schedule: Literal["log_snr", "published", "ddpm"] = Field(
        default="log_snr",
        description="Noise levels: uniform in log-SNR (`log_snr`), the trained steps of the "
        "published inference (`published`: with `steps: 200`, t = 996, 991, …, 1), or all trained "
        "steps (`ddpm`: Algorithm 1; `steps` is not looked at).",
    )
    steps: Count = Field(default=20, description="Denoising steps (network evaluations a slice).")
    order: Literal[1, 2] = Field(
        default=1,
        description="Order of the sampler: 1 (DDPM, DDIM) or 2 (the multistep DPM-Solver++ and its "
        "SDE form; needs `eta` 0 or 1, and not `alternate`).",
    )
    eta: Fraction = Field(
        default=1.0, description="Noise put back in each step: 1 ancestral (DDPM), 0 none (DDIM)."
    )
    noise_strength: Fraction = Field(
        default=0.0,
        description="Part of the noise's variance that is correlated across the slices that come "
        "next (`alternate`, `xz`, `yz`, `average`); 0: white noise.",
    )
    noise_length: Positive = Field(
        default=2.0, description="σ of that correlation across the slices (voxels)."
    )
    stride: Count = Field(
        default=40, description="Distance between the lateral tiles of a slice (pixels)."
    )
    batch: Count | Literal["auto"] = Field(
        default="auto",
        description="Tiles the network sees at a time; `auto`: 32 on a CPU, 1024 on a GPU of 40 GB "
        "or more, 256 on a smaller one.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="Arithmetic inside the network; `auto`: bfloat16 on a GPU and on a CPU that "
        "has matrix units for it (AMX), float32 elsewhere. All else is float32.",
    )
    compile: bool = Field(
        default=False,
        description="Compile the network for batches of one size (falls back to eager).",
    )
    samples: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1,
        description="Independent samples of `msdsr`; with more than one their standard deviation "
        "becomes a store of its own.",
    )
    estimate: Literal["mean", "first"] = Field(
        default="mean",
        description="What becomes the volume where there are several samples: their mean (smoother "
        "than tissue) or the first of them.",
    )
    calibrate: Annotated[int, Field(ge=0)] = Field(
        default=512,
        description="Side of the square in the middle of the slide whose held-out planes calibrate "
        "the standard deviation (pixels); 0: it is not calibrated.",
    )
    blur: Literal["none", "gaussian3"] = Field(
        default="none",
        description="Blur of the new planes of methods with a network: `gaussian3` is the 3 × 3 × "
        "3 Gaussian of σ 0.5 of the paper's ablation. Acquired planes stay as they are.",
    )
    block: Count | Literal["auto"] = Field(
        default="auto",
        description="Side in Y and X of the block that is restored at a time, without its halo "
        "(pixels), rounded up to whole shards; `auto`: the whole slide if it fits half of the "
        "GPU's free memory (on a CPU: 2 GB), else the largest of its halves, thirds, … that fits. "
        "The result depends on where blocks meet, so it is chosen once a slide and kept.",
    )
    background: Literal["interpolate", "restore"] = Field(
        default="interpolate",
        description="Tiles without tissue, as the patch stage sees it: linear interpolation "
        "(`interpolate`; manifest and store say so), or the network too (`restore`).",
    )
    checkpoint_minutes: Annotated[float, Field(ge=0)] = Field(
        default=10.0,
        description="A block that takes longer is saved so often (min), between two steps; 0: "
        "after every step.",
    )

    @model_validator(mode="after")
    def _order_2_has_one_denoiser(self) -> Self:
        if self.order == 2 and self.mode == "alternate":
            raise ValueError(
                "`order: 2` goes on from the x0 of the step before, which in `mode: alternate` is "
                "of other slices; choose order 1 or another mode"
            )
        if self.order == 2 and self.eta not in (0, 1):
            raise ValueError(f"`order: 2` needs `eta` 0 or 1, not {self.eta}")
        return self


class EvaluateConfig(Section):
    """Numbers that say how good a volume is."""

    baselines: list[Interpolation] = Field(
        default=["nearest", "linear"],
        description="Interpolations reported beside the methods (`nearest`, `linear`, `cubic`).",
    )
    crop: Count = Field(
        default=32,
        description="Side of the square cut from every slice, real and restored alike (pixels).",
    )
    max_images: Count = Field(
        default=2000,
        description="Most crops of one plane orientation, slide, method and factor.",
    )
    max_reference_images: Count = Field(
        default=10_000, description="Most crops of real XY planes that stand for the truth."
    )
    window: tuple[Fraction, Fraction] = Field(
        default=(0.005, 0.995),
        description="Quantiles of the real images that Inception sees as black and as white.",
    )
    inception: str | None = Field(
        default=None,
        description="File of the Inception network (TorchScript); left out, it is fetched and its "
        "SHA-256 checked.",
    )


class ReportConfig(Section):
    """The page a cohort is judged by."""

    title: str = Field(default="", description="Title of the page; left out, the cohort's name.")
    slides_with_pictures: Annotated[int, Field(ge=0)] = Field(
        default=12, description="Most slides that get pictures on the first page."
    )
    viewer_slides: Annotated[int, Field(ge=0)] = Field(
        default=50,
        description="Most slides that get a page of their own with the viewer, a few MB each.",
    )
    viewer_side: Annotated[int, Field(ge=16, le=512)] = Field(
        default=192,
        description="Side (pixels) of the field that the viewer shows, with all its planes;"
        " smaller where a page would grow beyond 25 MB.",
    )


class PhantomConfig(Section):
    """The synthetic cohort with known truth."""

    train_patients: Count = Field(default=3, description="Patients to learn from.")
    val_patients: Count = Field(
        default=1, description="Patients whose planes stand for real images."
    )
    infer_patients: Count = Field(default=2, description="Patients to superresolve.")
    size: Count = Field(default=160, description="Side of a slide in Y and X (pixels).")
    planes: Annotated[int, Field(ge=2)] = Field(
        default=20, description="Acquired planes of a z-stack."
    )
    images_2d: Annotated[int, Field(ge=0)] = Field(
        default=2, description="Extra sharp 2D images of each train and val patient."
    )
    voxel_um: Positive = Field(default=0.5, description="Isotropic voxel of the tissue (µm).")
    z_ratio: Count = Field(default=2, description="Plane distance over the XY pixel size.")
    axial_blur_um: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="σ of the microscope's blur along z (µm)."
    )
    photons: Positive = Field(
        default=10_000.0, description="Photons at full scale: the strength of Poisson noise."
    )
    read_noise: Annotated[float, Field(ge=0)] = Field(
        default=0.002, description="σ of the Gaussian read noise (full scale = 1)."
    )
    laser_drift: Annotated[float, Field(ge=0)] = Field(
        default=0.02, description="σ of the laser's intensity drift along the strips (relative)."
    )
    strip: Count = Field(
        default=100, description="Width of a strip that is scanned along Y (pixels)."
    )


class Config(Section):
    """Everything a run depends on, but for machines."""

    seed: Annotated[int, Field(ge=0)] = Field(
        default=2024, description="Seed of all randomness; a result is a function of it."
    )
    cohorts: dict[Name, CohortConfig] = Field(
        default={
            "demo": CohortConfig(
                sheet="config/cohorts/demo.tsv", source="phantom", model="phantom-tiny"
            ),
        },
        description="Cohorts by name; a name is a folder under results/.",
    )
    models: dict[Name, ModelConfig] = Field(
        default={"phantom-tiny": ModelConfig(path="resources/models/phantom-tiny")},
        description="Models by name.",
    )
    phantom: PhantomConfig = Field(default=PhantomConfig(), description="The synthetic cohort.")
    ingest: IngestConfig = Field(default=IngestConfig(), description="Raw files to OME-Zarr.")
    patch: PatchConfig = Field(default=PatchConfig(), description="Patch grid and tissue mask.")
    denoise: DenoiseConfig = Field(default=DenoiseConfig(), description="Hand-off to a denoiser.")
    trainset: TrainsetConfig = Field(
        default=TrainsetConfig(), description="2D training images from XY planes."
    )
    superresolve: SuperresolveConfig = Field(
        default=SuperresolveConfig(), description="Filling the missing planes."
    )
    evaluate: EvaluateConfig = Field(default=EvaluateConfig(), description="The numbers.")
    report: ReportConfig = Field(default=ReportConfig(), description="The page.")

    def cohorts_of(self, model: str) -> list[str]:
        """Return the cohorts that a model learns from or restores."""
        learns = self.models[model].cohorts
        used = {
            name: (cohort.model, *cohort.baseline_models.model_dump().values())
            for name, cohort in self.cohorts.items()
        }
        return [name for name in self.cohorts if model in used[name] or name in learns]

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for name, cohort in self.cohorts.items():
            self._refuse_kind(f"cohorts.{name}.model", cohort.model, "msdsr")
            for method in BaselineModels.model_fields:
                baseline = getattr(cohort.baseline_models, method)
                if baseline is not None:
                    self._refuse_kind(f"cohorts.{name}.baseline_models.{method}", baseline, method)
        self._refuse_denoisers()
        for name, model in self.models.items():
            for known in model.cohorts:
                if known not in self.cohorts:
                    raise ValueError(
                        f"models.{name}.cohorts names {known!r}, which is not in cohorts "
                        f"({', '.join(self.cohorts)})"
                    )
        return self

    def _refuse_kind(self, where: str, name: str, kind: str) -> None:
        """Refuse a name that is not in models, or that of a model of another kind."""
        if name not in self.models:
            raise ValueError(
                f"{where} is {name!r}, which is not in models ({', '.join(self.models)})"
            )
        if self.models[name].kind != kind:
            raise ValueError(
                f"{where} is {name!r}, a model of kind {self.models[name].kind}; expected one of "
                f"kind {kind}"
            )

    def _refuse_denoisers(self) -> None:
        """Refuse a denoiser whose models are missing, or would be trained on its own results."""
        if self.denoise.mode != "rscd":
            return
        for key, kind in (("prior", "rscd_prior"), ("calibrator", "rscd_calibrator")):
            where, name = f"denoise.{key}", getattr(self.denoise, key)
            if name is None:
                raise ValueError(f"{where} is missing; mode rscd needs a model of kind {kind}")
            self._refuse_kind(where, name, kind)
            if self.models[name].path is None:
                raise ValueError(
                    f"{where} is {name!r}, which is trained here, on denoised planes; expected a "
                    "model with a `path`: train it in a run with denoise.mode none"
                )
