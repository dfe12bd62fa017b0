"""A training that has to stop, through Snakemake: the budget's end, and a cluster's SIGTERM."""

import time

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from safetensors.torch import load_file

from msdsr.config import Config, ModelConfig, TrainsetConfig
from msdsr.manifest import Manifest, write_manifest
from msdsr.train import train
from msdsr.train.metrics import read_metrics
from msdsr.trainset import TrainSlide, build_trainset
from msdsr.volume import VoxelSize, write_volume

WEIGHTS = "model/diffusion_pytorch_model.safetensors"
MODEL = {
    "preset": "tiny",
    "cohorts": ["mine"],
    "network": {
        "image_size": 16,
        "block_out_channels": [8, 16],
        "attention_levels": [False, False],
        "attention_head_dim": 8,
        "norm_num_groups": 4,
    },
    "optimiser": {
        "images": 2 * 4,
        "batch": 4,
        "micro_batch": 4,
        "checkpoint_minutes": 60.0,
        "validate_restored_every": 0,
        "tracking": [],
    },
}
TARGET = "results/models/own/model.json"


@pytest.fixture
def lab(project):
    """A project with a training set, and a model to be trained from it."""
    results = project.folder / "results/models/own"
    slides = []
    for name, split in (("A", "train"), ("B", "val")):
        stored = project.folder / "stored" / name
        volume, patches = stored / "denoised.ome.zarr", stored / "patches.parquet"
        voxels = np.random.default_rng(1).integers(0, 9000, (2, 2, 24, 24)).astype(np.uint16)
        write_volume(volume, voxels, VoxelSize(1.0, 0.5, 0.5), ("CH2", "CH3"))
        write_manifest(volume, Manifest(stage="denoise", algorithm=1, counts={"slide": name}))
        columns = ("slide", "index", "y0", "x0", "height", "width", "tissue_fraction", "background")
        pd.DataFrame([(name, 0, 0, 0, 24, 24, 1.0, False)], columns=columns).to_parquet(patches)
        write_manifest(patches, Manifest(stage="patch", algorithm=1, counts={"slide": name}))
        slides.append(TrainSlide(name, f"P{name}", split, volume, patches))
    build_trainset(
        slides,
        results / "trainset.zarr",
        project.folder / "stored/work",
        channels=("CH2", "CH3"),
        settings=TrainsetConfig(size=24, min_side=16),
    )
    project.sheet("mine", [("A", "PA", "train", "a.tif", ""), ("B", "PB", "val", "b.tif", "")])
    (project.folder / "inception.pt").write_text("not looked at\n")
    return project


def configure(project, **optimiser):
    """Write the configuration, and return the model's part as the rule hands it on."""
    model = {**MODEL, "optimiser": {**MODEL["optimiser"], **optimiser}}
    values = {
        "cohorts": {"mine": {"sheet": "config/cohorts/mine.tsv", "model": "own"}},
        "models": {"own": model},
        "evaluate": {"inception": "inception.pt"},
    }
    project.config(values)
    return ModelConfig.model_validate(model)


# The training set stands for all that comes before it.
ALONE = ("--allowed-rules", "train_model", "--set-threads", "train_model=1")


@pytest.mark.slow
def test_a_budget_that_ends_is_retried_until_the_model_is_there(lab):
    """No time at all still gives one step an attempt: 2 steps are exit 75, then the model."""
    model = configure(lab)
    said = lab.run(TARGET, *ALONE, "--set-resources", "train_model:runtime=0")
    assert said.count("Trying to restart job") == 1
    assert said.count("run again to go on") == 1
    records = read_metrics(lab.folder / "results/models/own/model/metrics.jsonl")
    assert [r["images"] for r in records if r["kind"] == "train"] == [4, 8]
    train(
        lab.folder / "results/models/own/trainset.zarr",
        lab.folder / "whole/model",
        lab.folder / "whole/work",
        model=model,
        seed=Config().seed,
        device="cpu",
    )
    found, whole = (load_file(lab.folder / at / WEIGHTS) for at in ("results/models/own", "whole"))
    for name, tensor in whole.items():  # the job may have had another number of threads
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_sigterm_to_the_whole_job_leaves_a_saved_training(lab):
    """Slurm sends it to every process of a step, and kills the step when its first has ended."""
    configure(lab, images=4 * 10_000)
    work = lab.folder / "results/.work/models/own/train"
    process, deadline = lab.start(TARGET, *ALONE), time.monotonic() + 180
    job = psutil.Process(process.pid)
    try:
        while not (work / "metrics.jsonl").exists() or not read_metrics(work / "metrics.jsonl"):
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        # A shell would die of it at once, and Snakemake with it, before a long save is done.
        assert not [one for one in job.children(recursive=True) if one.name() in ("bash", "sh")]
        for one in [job, *job.children(recursive=True)]:
            one.terminate()
        said, _ = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            for one in [*job.children(recursive=True), job]:
                one.kill()
    # When Snakemake has ended the state is there: nothing was left to a process that Slurm kills.
    assert process.returncode == 1, said
    assert len(list((work / "states").glob("*.json"))) == 1
    assert "run again to go on" in (lab.folder / "results/logs/train/own.log").read_text()
