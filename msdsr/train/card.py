"""The model card: what a model learnt from, how well it did, and what it is not for."""

from __future__ import annotations

from typing import Any

from msdsr.config import ModelConfig
from msdsr.manifest import Manifest
from msdsr.presets import Kind

CARD = """\
---
library_name: diffusers
tags:
- microscopy
- super-resolution
- diffusion
---
# MSDSR model

{what}

## What it learnt from
| | |
|---|---|
| channels | {channels} ({dtype}) |
| training images | {train_images} of {train_patients} patients |
| validation images | {val_images} of {val_patients} patients |
| fingerprint of the training set | `{trainset}` |

| channel | mean | σ | 0.1 % | 99.9 % |
|---|---|---|---|---|
{statistics}

## How it was trained
| | |
|---|---|
| parameters | {parameters:,} |
| crops seen | {images_seen:,} of {image_size}×{image_size} pixels, {batch} at a time |
| optimiser | AdamW, peak learning rate {learning_rate:g}, average of weights {ema_decay:g} |
| kind | `{kind}` |
| data, conditioning | `{data}`, `{conditioning}` |
| prediction, loss, masks | `{prediction}`, on `{loss_rows}` rows, `{masks}` |
| seed | {seed} |
| SHA-256 of the weights | `{weights_sha256}` |

## How well it did
{validation}

## What it is for, and what not
{purpose} of tissue of the kind, stain, microscope, pixel size and intensity range that it learnt
from. {caution} Do not use it for diagnosis, nor for tissue it has not seen before the report of
`msdsr evaluate` on that tissue was judged.
"""

WHAT: dict[Kind, str] = {
    "msdsr": """\
A 2D diffusion model that fills in missing rows of microscope images. It was trained on sharp XY
planes alone; `msdsr superresolve` uses it on the XZ and YZ slices of a z-stack to restore the
planes between those that were acquired.""",
    "ms_unet": """\
A 2D network that fills in missing rows of microscope images in one pass: the baseline MS-UNet, for
comparison. It was trained on sharp XY planes alone, with noise in the missing rows.""",
    "e2e_unet": """\
A 2D network that draws the plane between two planes of a z-stack: the baseline E2E UNet, for
comparison. It was trained on neighbouring XY planes of real stacks, at their own spacing.""",
    "rscd_prior": """\
A 2D diffusion model of clean XY planes, the prior of the denoiser RSCD. It needs a calibrator that
learnt from the same images.""",
    "rscd_calibrator": """\
A 2D network that tells how noisy an XY plane is, the calibrator of the denoiser RSCD. It needs a
prior that learnt from the same images.""",
}

RESTORED = (
    "Restored planes are estimates that look like such tissue, not measurements: what was never "
    "acquired is made up in the likeness of the training images."
)
DENOISED = (
    "Denoised values are estimates, not measurements: faint detail may be taken for noise, and "
    "noise for detail."
)

PURPOSE: dict[Kind, tuple[str, str]] = {
    "msdsr": ("Restoring planes between acquired planes", RESTORED),
    "ms_unet": ("Comparison with other ways to restore planes between acquired planes", RESTORED),
    "e2e_unet": ("Comparison with other ways to restore planes between acquired planes", RESTORED),
    "rscd_prior": ("Denoising XY planes", DENOISED),
    "rscd_calibrator": ("Denoising XY planes", DENOISED),
}

FIGURES: dict[Kind, str] = {
    "msdsr": "Mean L1 over unobserved rows of validation patients; fixed crops, noise, steps, "
    "masks.",
    "ms_unet": "Mean L1 over unobserved rows of validation patients (model units); fixed crops, "
    "noise, masks.",
    "e2e_unet": "Mean L1 to the plane between of validation patients (model units), and that of "
    "the mean of both neighbours (`linear_l1`).",
    "rscd_prior": "Mean squared error of the prediction on validation patients; fixed crops, "
    "noise, steps.",
    "rscd_calibrator": "Mean error of the noise level on validation patients, in units of the "
    "greatest (`loss`) and in steps (`steps_error`).",
}
"""What the figures of a validation are (see `msdsr.train.task`)."""


def model_card(
    model: ModelConfig, trainset: Manifest, summary: dict[str, Any], counts: dict[str, Any]
) -> str:
    """Return the card as Markdown.

    Parameters
    ----------
    model
        The recipe.
    trainset
        Manifest of the training set.
    summary, counts
        From the release: training set, images seen, validation; weights and parameters.
    """
    data = trainset.counts
    rows = [
        f"| {name} | {s['mean']:.4g} | {s['std']:.4g} | {s['percentiles']['0.1']:.4g} "
        f"| {s['percentiles']['99.9']:.4g} |"
        for name, s in data["statistics"].items()
    ]
    return CARD.format(
        channels=", ".join(data["channels"]),
        dtype=data["dtype"],
        train_images=data["images"]["train"],
        train_patients=data["patients"]["train"],
        val_images=data["images"].get("val", 0),
        val_patients=data["patients"].get("val", 0),
        trainset=summary["trainset"],
        statistics="\n".join(rows),
        parameters=counts["parameters"],
        images_seen=counts["images_seen"],
        weights_sha256=counts["weights_sha256"],
        image_size=model.network.image_size,
        batch=model.optimiser.batch,
        learning_rate=model.optimiser.learning_rate,
        ema_decay=model.optimiser.ema_decay,
        seed=summary["seed"],
        kind=model.kind,
        what=WHAT[model.kind],
        purpose=PURPOSE[model.kind][0],
        caution=PURPOSE[model.kind][1],
        validation="\n".join(
            [
                *_validation(model.kind, summary["validation"]),
                *_restored(summary["restored"], model),
            ]
        ),
        **model.objective.model_dump(
            include={"data", "conditioning", "prediction", "loss_rows", "masks"}
        ),
    )


def _validation(kind: Kind, record: dict[str, Any] | None) -> list[str]:
    if record is None:
        return ["There were no validation images: nothing is known about unseen patients."]
    if kind != "msdsr":
        rows = [f"| `{key}` | {v:.4f} |" for key, v in record.items() if isinstance(v, float)]
        return [FIGURES[kind], "", "| figure | value |", "|---|---|", *rows]
    factors = sorted(key.removeprefix("loss_") for key in record if key.startswith("loss_"))
    return [
        FIGURES[kind],
        "",
        "| every s-th row observed | of the prediction | of the restored image (model units) |",
        "|---|---|---|",
        *(f"| {f} | {record[f'loss_{f}']:.4f} | {record[f'x0_l1_{f}']:.4f} |" for f in factors),
    ]


def _restored(record: dict[str, Any] | None, model: ModelConfig) -> list[str]:
    if record is None:
        return []
    factors = sorted(key.removeprefix("ssim_") for key in record if key.startswith("ssim_"))
    passes = f"{model.optimiser.restored_steps} steps" if model.kind == "msdsr" else "one pass"
    explained = (
        f"{record['crops']} fixed crops of validation patients, thinned out to every s-th row and "
        f"restored in {passes}. SSIM is of the rows filled in, FID "
        "between restored and true crops; FID of so few crops is biased upward, and compares "
        "trainings on the same training set only."
    )
    return [
        "",
        explained,
        "",
        "| every s-th row observed | SSIM | FID |",
        "|---|---|---|",
        *(
            f"| {f} | {record[f'ssim_{f}']:.4f} | {_figure(record.get(f'fid_{f}'), '.1f')} |"
            for f in factors
        ),
    ]


def _figure(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
