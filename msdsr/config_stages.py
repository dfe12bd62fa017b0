"""The configuration of the stages, and of the synthetic cohort: one section each."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from msdsr.config_base import (
    Count,
    Fraction,
    Interpolation,
    Name,
    Positive,
    Protocol,
    Rescaling,
    RestoringMethod,
    Section,
)


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
    protocols: Annotated[list[Protocol], Field(min_length=1)] = Field(
        default=["v2"],
        description="How slices are compared with real images: `v2` has equal crops, acquired "
        "planes apart; `paper` repeats the published code, for figures beside the paper's.",
    )
    rescalings: Annotated[list[Rescaling], Field(min_length=1)] = Field(
        default=["window", "equalised"],
        description="How protocol `v2` shows images to Inception: through one fixed `window`, "
        "which sees errors of brightness, or with histograms `equalised` crop by crop, as the "
        "published code does, which does not. Protocol `paper` always equalises.",
    )
    crop: Count = Field(
        default=32,
        description="Side of the square cut from every slice, real and restored alike (pixels).",
    )
    max_images: Count = Field(
        default=500,
        description="Most crops of one plane orientation, slide, method and factor; each takes "
        "4 KB on the disk.",
    )
    max_reference_images: Count = Field(
        default=10_000, description="Most crops of real XY planes that stand for the truth."
    )
    window: tuple[Fraction, Fraction] = Field(
        default=(0.005, 0.995),
        description="Quantiles of the real images that Inception sees as black and as white.",
    )
    heldout: Count | Literal["none", "whole"] = Field(
        default=256,
        description="Side of the square in the middle of each slide in which acquired planes are "
        "held out, restored and compared with (pixels); `whole`: all of the slide; `none`: no such "
        "test. Where a factor takes all planes it costs the restoration of that square once more.",
    )
    hotspots: Annotated[int, Field(ge=0)] = Field(
        default=8,
        description="Most places of a slide, method and reason that are named as those to look at: "
        "where samples differ, where acquired planes differ, where values are implausible; 0: "
        "none.",
    )
    hotspot_side: Count = Field(default=32, description="Side of such a place (pixels).")
    bootstrap: Annotated[int, Field(ge=0, le=100_000)] = Field(
        default=500,
        description="Draws of patients behind each 95 % interval; 0: no intervals.",
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
        default=12, description="Most slides that get pictures on the page of pictures."
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
    viewer_spots: Annotated[int, Field(ge=0)] = Field(
        default=8,
        description="Most places that deserve a look and lie outside every viewer's field that get"
        " a small page of their own.",
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
