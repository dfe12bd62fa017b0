import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from msdsr.config import ModelConfig, TrainsetConfig
from msdsr.manifest import Manifest, write_manifest
from msdsr.trainset import TrainSlide, build_trainset
from msdsr.volume import VoxelSize, write_volume

CHANNELS = ("CH2", "CH3")


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Sums may depend on the number of threads, and resumes run in other processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def texture(rng, shape):
    from scipy.ndimage import gaussian_filter

    field = gaussian_filter(rng.standard_normal(shape), (0, 0, 2, 2))
    return (12000 + 60000 * field).clip(0, 65535).astype(np.uint16)


@pytest.fixture(scope="session")
def trainset(tmp_path_factory):
    """A training set: 2 patients to learn from, 1 to validate on; 8 + 2 images of up to 40²."""
    folder = tmp_path_factory.mktemp("trainset")
    rng = np.random.default_rng(5)
    slides = []
    for name, patient, split, shape in (
        ("a", "p1", "train", (2, 3, 40, 80)),
        ("b", "p2", "train", (2, 2, 24, 30)),
        ("c", "p3", "val", (2, 2, 40, 40)),
    ):
        volume = folder / name / "denoised.ome.zarr"
        patches = folder / name / "patches.parquet"
        write_volume(volume, texture(rng, shape), VoxelSize(1.0, 0.5, 0.5), CHANNELS)
        write_manifest(volume, Manifest(stage="denoise", algorithm=1, counts={"slide": name}))
        pd.DataFrame(
            [(name, 0, 0, 0, shape[2], shape[3], 1.0, False)],
            columns=[
                *("slide", "index", "y0", "x0", "height", "width"),
                *("tissue_fraction", "background"),
            ],
        ).to_parquet(patches)
        write_manifest(patches, Manifest(stage="patch", algorithm=1, counts={"slide": name}))
        slides.append(TrainSlide(name, patient, split, volume, patches))
    build_trainset(
        slides,
        folder / "trainset.zarr",
        folder / "work",
        channels=CHANNELS,
        settings=TrainsetConfig(size=40, min_side=16, shard_images=4),
    )
    return folder / "trainset.zarr"


@pytest.fixture(scope="session")
def recipe():
    """Make a recipe that takes milliseconds a step; keywords go to its sections."""

    def make(network=None, objective=None, **optimiser):
        return ModelConfig(
            preset="tiny",
            cohorts=["any"],
            network={
                "image_size": 16,
                "block_out_channels": [8, 16],
                "attention_levels": [False, True],
                "attention_head_dim": 8,
                "norm_num_groups": 4,
                **(network or {}),
            },
            objective=objective or {},
            optimiser={
                "images": 160,
                "batch": 8,
                "micro_batch": 8,
                "validate_every": 80,
                "validate_restored_every": 80,
                "restored_crops": 4,
                "restored_steps": 2,
                "learning_rate": 1e-3,
                **optimiser,
            },
        )

    return make


DRIVER = """
import json, sys, torch
torch.set_num_threads(1)
from msdsr.config import ModelConfig
from msdsr.errors import EXIT_RESUME, EXIT_USER_ERROR, Stopped, UserError
from msdsr.train import train
call = json.loads(sys.argv[1])
try:
    train(**{**call, "model": ModelConfig.model_validate(call["model"])})
except Stopped:
    sys.exit(EXIT_RESUME)
except UserError as error:
    print(error, file=sys.stderr)
    sys.exit(EXIT_USER_ERROR)
"""


@pytest.fixture
def start(trainset):
    """Start `train` in a process of its own, as the command line does."""
    running = []

    def start(folder, model, **options):
        call = {
            "trainset": str(trainset),
            "out": str(folder / "model"),
            "work": str(folder / "work"),
            "model": model.model_dump(mode="json"),
            "seed": 3,
            "device": "cpu",
            **options,
        }
        process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, json.dumps(call)],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()
