"""Whether step-calibrated diffusion, trained small, takes noise off unseen synthetic tissue.

    python benchmarks/rscd.py

Trains a prior and a calibrator (small networks, 400 steps of 16 crops of 32²) on noise-free planes
of three synthetic patients, makes crops of a fourth noisier step by step, restores them, and writes
benchmarks/results/rscd.json: the step that was told, and the mean squared error (in units of the
data's variance) before, after, and of the best of six Gaussian blurs. Takes some minutes on one
core. It says whether the method does on synthetic tissue what it should, and nothing about SRH.
"""

from __future__ import annotations

import datetime
import json
import math
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from msdsr.config import ModelConfig
from msdsr.diffusion.network import Model, build_network
from msdsr.diffusion.objective import q_sample
from msdsr.diffusion.rscd import NetworkCalibrator, NetworkPrior, restore_images
from msdsr.diffusion.transform import ChannelStatistics, DataTransform, standardised_transform
from msdsr.phantom.tissue import Tissue
from msdsr.train.task import task_of

RESULTS = Path(__file__).parent / "results"
SIDE, CROP, BATCH, STEPS, RATE = 128, 32, 16, 400, 2e-3
PATIENTS, UNSEEN = (11, 12, 13), 99
LEVELS = (0, 10, 30, 60, 100, 150)
BLURS = (0.4, 0.5, 0.6, 0.8, 1.0, 1.3)
CORNERS = ((0, 0), (48, 16), (80, 80), (16, 90))
CHANNELS = ("CH2", "CH3")
CLAIM = "step-calibrated diffusion, trained for 400 steps, denoises unseen synthetic tissue"


def planes(patient: int, count: int) -> Tensor:
    """Return noise-free planes (count, 2, SIDE, SIDE) of a patient, 3 µm apart."""
    along = np.arange(SIDE)
    volume = Tissue(patient, 0.5).sample(6 * np.arange(count), along, along)
    return torch.from_numpy(np.ascontiguousarray(volume.swapaxes(0, 1)))


def transform_of(images: Tensor) -> DataTransform:
    """Return the transform to zero mean and unit variance."""
    statistics = []
    for values in images.transpose(0, 1).numpy():
        low, high = np.quantile(values, (0.001, 0.999))
        statistics.append(
            ChannelStatistics(float(values.mean()), float(values.std()), float(low), float(high))
        )
    return standardised_transform(CHANNELS, statistics)


def recipe(kind: str) -> ModelConfig:
    """Return a small network of a kind."""
    network = {
        "image_size": CROP,
        "block_out_channels": [16, 32, 32],
        "attention_levels": [False, False, False],
        "attention_head_dim": 8,
        "norm_num_groups": 4,
    }
    return ModelConfig.model_validate(
        {"kind": kind, "preset": "tiny", "cohorts": ["any"], "network": network}
    )


def crops(images: Tensor, source: torch.Generator) -> Tensor:
    """Return random crops (BATCH, 2, CROP, CROP)."""
    image = torch.randint(0, len(images), (BATCH,), generator=source)
    corner = torch.randint(0, SIDE - CROP, (2, BATCH), generator=source)
    at = zip(image.tolist(), *corner.tolist(), strict=True)
    return torch.stack([images[n, :, y : y + CROP, x : x + CROP] for n, y, x in at])


def fit(kind: str, images: Tensor, transform: DataTransform) -> Model:
    """Train a network of a kind with the task that `msdsr train` gives it."""
    settings = recipe(kind)
    torch.manual_seed(0)
    network, task = build_network(settings, len(CHANNELS)), task_of(settings)
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE)
    source = torch.Generator().manual_seed(1)

    def predict(x: Tensor, t: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            answer: Tensor = network(x, t).sample
        return answer.float()

    for step in range(STEPS):
        for group in optimiser.param_groups:
            warm = min(1.0, (step + 1) / 30)
            group["lr"] = RATE * warm * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        x0 = crops(images, source)
        t, observed = task.draw(BATCH, CROP, source)
        noise = torch.randn(x0.shape, generator=source)
        optimiser.zero_grad()
        task.loss(predict, x0, noise, t, observed).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
    return Model(network.eval(), transform, settings.objective, kind=settings.kind)


def judge(prior: Model, calibrator: Model, truth: Tensor) -> list[dict[str, float]]:
    """Return a row for each noise level."""
    source = torch.Generator().manual_seed(5)
    rows = []
    for level in LEVELS:
        alpha_bar = prior.schedule.alpha_bar(torch.full((len(truth),), level))
        noisy = q_sample(truth, torch.randn(truth.shape, generator=source), alpha_bar)

        def noise(step: int) -> Tensor:
            return torch.randn(truth.shape, generator=torch.Generator().manual_seed(1000 + step))

        restored, told = restore_images(
            NetworkPrior(prior), NetworkCalibrator(calibrator), noisy, noise, prior.schedule
        )
        blurred = [gaussian_filter(noisy.numpy(), (0, 0, s, s)) for s in BLURS]
        rows.append(
            {
                "step": level,
                "told": round(float(told.mean()), 1),
                "told_sd": round(float(told.std()), 1),
                "mse_noisy": round(error(noisy, truth), 4),
                "mse_restored": round(error(restored, truth), 4),
                "mse_best_blur": round(min(error(torch.from_numpy(b), truth) for b in blurred), 4),
                "told_after": round(float(NetworkCalibrator(calibrator)(restored).mean()), 1),
            }
        )
    return rows


def figures(rows: list[dict[str, float]], machine: str) -> list[dict[str, Any]]:
    """Return the rows for the page of benchmarks; the target is to beat the best blur."""
    return [
        {
            "what": f"mean squared error at step {row['step']} (noisy {row['mse_noisy']}; "
            f"calibrator told {row['told']} ± {row['told_sd']})",
            "value": row["mse_restored"],
            "target": f"< {row['mse_best_blur']}, the best Gaussian blur",
            "machine": machine,
        }
        for row in rows
    ]


def error(image: Tensor, truth: Tensor) -> float:
    """Return the mean squared error."""
    return float((image - truth).square().mean())


def main() -> None:
    """Train, judge, write."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    raw = torch.cat([planes(patient, 8) for patient in PATIENTS])
    transform = transform_of(raw)
    images, unseen = transform.forward(raw), transform.forward(planes(UNSEEN, 4))
    models = [fit(kind, images, transform) for kind in ("rscd_prior", "rscd_calibrator")]
    truth = torch.stack(
        [image[:, y : y + CROP, x : x + CROP] for image in unseen for y, x in CORNERS]
    )
    rows, machine = judge(models[0], models[1], truth), f"{platform.machine()}, 1 thread"
    record: dict[str, Any] = {
        "claim": CLAIM,
        "figures": figures(rows, machine),
        "rows": rows,
        "crops": len(truth),
        "parameters": [sum(p.numel() for p in m.network.parameters()) for m in models],
        "training_steps": STEPS,
        "seconds": round(time.perf_counter() - began, 1),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "rscd.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
