import hashlib
import multiprocessing

import pytest
import torch

from msdsr.config import ModelConfig, SuperresolveConfig
from msdsr.diffusion.network import Model, build_network, save_model
from msdsr.diffusion.transform import ChannelStatistics, build_transform
from msdsr.manifest import Manifest, write_manifest
from msdsr.volume import VoxelSize, store, write_volume

TINY = {
    "preset": "tiny",
    "cohorts": ["x"],
    "network": {
        "image_size": 16,
        "block_out_channels": [8, 8],
        "attention_levels": [False, False],
        "attention_head_dim": 8,
        "norm_num_groups": 4,
        "layers_per_block": 1,
    },
}


@pytest.fixture(scope="session")
def make_model(tmp_path_factory):
    """A released model with random weights, 16 × 16 tiles."""

    def make(channels=("CH2", "CH3"), dtype="uint16", mean=12000.0, std=4000.0, kind="msdsr"):
        torch.manual_seed(0)
        config = ModelConfig.model_validate(TINY | {"kind": kind})
        statistics = [ChannelStatistics(mean, std, mean - 3 * std, mean + 3 * std)] * len(channels)
        transform = build_transform(channels, statistics, config.objective, dtype)
        network = build_network(config, len(channels))
        folder = tmp_path_factory.mktemp("model") / "model"
        save_model(folder, Model(network, transform, config.objective, kind=kind))
        return folder

    return make


@pytest.fixture
def make_slide(tmp_path, rng):
    def make(shape=(2, 5, 12, 20), dtype="uint16", voxel=(1.0, 0.5, 0.5), names=("CH2", "CH3")):
        voxels = (rng.random(shape) * 200 + 20).astype(dtype)
        if dtype == "uint16":
            voxels = voxels * 100
        path = tmp_path / "denoised.ome.zarr"
        write_volume(path, voxels, VoxelSize(*voxel), names, name="S1", provenance={"slide": "S1"})
        write_manifest(path, Manifest(stage="denoise", algorithm=1))
        return path, voxels

    return make


@pytest.fixture
def small_shards(monkeypatch):
    """Shards of 16 × 16 pixels, so that a small slide has many; workers take them from the disk."""
    plan = store.ShardGrid.plan
    monkeypatch.setattr(
        store.ShardGrid, "plan",
        classmethod(lambda cls, shape, itemsize, *_: plan(shape, itemsize, 16, 0.001)),
    )  # fmt: skip


@pytest.fixture
def wide_slide(tmp_path, rng, small_shards):
    """A slide of 2 planes and 2 × 3 shards, and what to restore it with in six blocks."""
    voxels = (rng.random((2, 2, 20, 40)) * 20000 + 2000).astype("uint16")
    path = tmp_path / "denoised.ome.zarr"
    write_volume(path, voxels, VoxelSize(1.0, 0.5, 0.5), ("CH2", "CH3"), name="S1")
    write_manifest(path, Manifest(stage="denoise", algorithm=1))
    return path, SuperresolveConfig(steps=2, stride=12, batch=16, block=16)


def bytes_of(store_path):
    """The SHA-256 of every file of a store, by name."""
    return {
        str(file.relative_to(store_path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(store_path.rglob("*"))
        if file.is_file()
    }


CALL = """
import json, sys
from pathlib import Path
from msdsr.config import SuperresolveConfig
from msdsr.superresolve import Part, restore_held_out, superresolve, superresolve_part
from msdsr.volume import store
plan = store.ShardGrid.plan
store.ShardGrid.plan = classmethod(lambda c, shape, itemsize, *_: plan(shape, itemsize, 16, 0.001))
call["settings"] = SuperresolveConfig.model_validate(call["settings"])
part = call.pop("part", None)
if call.pop("held", False):
    restore_held_out(**call)
elif part is None:
    superresolve(**call)
else:
    superresolve_part(**call, part=Part.parse(part))
"""


@pytest.fixture(scope="session")
def stage_process():
    """Start the stage, with small shards, in a process of its own within a fraction of a second.

    A server that has imported everything forks them; a copy of this process itself would hang on
    the locks of its threads.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["msdsr.superresolve", "msdsr.volume.metadata", *UNET])

    def start(first="", **call):
        call["settings"] = call["settings"].model_dump(mode="json")
        process = context.Process(target=exec, args=(first + CALL, {"call": call}))
        process.start()
        return process

    return start


UNET = ["diffusers.models.unets.unet_2d", "xarray", "dask.array"]


def ended(process):
    """Wait for a process; its exit code, or minus the signal that killed it."""
    process.join(60)
    return process.exitcode
