import json

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from typer.testing import CliRunner

from msdsr.cli import app
from msdsr.config import ModelConfig
from msdsr.configfile import check_config
from msdsr.diffusion.network import Model, build_network, save_model
from msdsr.diffusion.transform import ChannelStatistics, build_transform
from msdsr.manifest import Manifest, write_manifest
from msdsr.tables.source import TableSource
from msdsr.volume import VoxelSize, write_volume

HEAD = "slide\tpatient\tpath\tsplit\tz_um\ty_um\tx_um\tchannels\tnotes\ttruth\n"
TINY = {
    "preset": "tiny",
    "cohorts": ["tiny"],
    "network": {
        "image_size": 48,
        "block_out_channels": [8, 8],
        "attention_levels": [False, False],
        "attention_head_dim": 8,
        "norm_num_groups": 4,
        "layers_per_block": 1,
    },
}


def make_tissue(seed, shape):
    from scipy.ndimage import gaussian_filter

    field = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), (0, 1.5, 2, 2))
    return np.rint(field / field.std() * 4000 + 20000).clip(0, 65535).astype(np.uint16)


def random_model(folder, kind):
    torch.manual_seed(0)
    config = ModelConfig.model_validate(TINY | {"kind": kind})
    statistics = [ChannelStatistics(20000.0, 4000.0, 8000.0, 32000.0)] * 2
    transform = build_transform(("CH2", "CH3"), statistics, config.objective, "uint16")
    save_model(folder, Model(build_network(config, 2), transform, config.objective, kind=kind))
    return str(folder)


def run(*arguments):
    """Run a verb in this process; a user's mistake raises."""
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture
def tissue():
    return make_tissue


@pytest.fixture(name="run")
def run_fixture():
    return run


@pytest.fixture(scope="session")
def project(tmp_path_factory, standin_path):
    """A cohort that the workflow has been through, up to its metrics."""
    root = tmp_path_factory.mktemp("project")
    results = root / "results"
    rows = []
    for i, split in enumerate(("val", "val", "infer")):
        folder = results / f"tiny/slides/S{i}"
        store = folder / "denoised.ome.zarr"
        voxels = make_tissue(i, (2, 3 if split == "val" else 9, 56, 60))
        write_volume(store, voxels, VoxelSize(1, 0.5, 0.5), ("CH2", "CH3"), name=f"S{i}")
        write_manifest(store, Manifest(stage="denoise", algorithm=1, counts={"slide": i}))
        box = {"slide": f"S{i}", "y0": 0, "x0": 0, "height": 56, "width": 60, "background": False}
        pd.DataFrame([box]).to_parquet(folder / "patches.parquet")
        write_manifest(folder / "patches.parquet", Manifest(stage="patch", algorithm=1))
        rows.append(f"S{i}\tP{i}\tx.tif\t{split}\t1\t0.5\t0.5\tCH2,CH3\t\t\n")
    sheet = root / "tiny.tsv"
    sheet.write_text(HEAD + "".join(rows))
    values = {
        "cohorts": {
            "tiny": {"sheet": str(sheet), "model": "a", "baseline_models": {"ms_unet": "b"}}
        },
        "models": {
            "a": {"path": random_model(root / "a", "msdsr")},
            "b": {"path": random_model(root / "b", "ms_unet"), "kind": "ms_unet"},
        },
        "superresolve": {"steps": 2, "factors": [2]},
        "evaluate": {"crop": 16, "max_images": 6, "max_reference_images": 12},
    }
    config = root / "config.yaml"
    config.write_text(yaml.safe_dump(values))
    inception = results / "resources/inception.pt"
    inception.parent.mkdir()
    inception.write_bytes(standin_path.read_bytes())
    evaluate = ["--settings", json.dumps(values["evaluate"])]
    reference = results / "tiny/reference.npz"
    own = ["--cohort", "tiny", "--results", results]
    network = ["--inception", inception, "--work", root / "work"]
    run("evaluate", "reference", reference, *own, "--cohort-sheet", sheet, *network, *evaluate)
    for i in (2,):
        folder = results / f"tiny/slides/S{i}"
        store = folder / "denoised.ome.zarr"
        of_slide = ["--slide", f"S{i}", "--patient", f"P{i}", "--factor", 2]
        of_slide += ["--reference", reference, "--patches", folder / "patches.parquet"]
        run("evaluate", "slide", store, folder / "metrics_2x", *of_slide, *network, *evaluate)
    metrics = results / "tiny/metrics"
    of_cohort = ["--sheet", sheet, "--reference", reference, "--factor", 2]
    run("evaluate", "cohort", metrics, *own, *of_cohort, *evaluate)
    return root


@pytest.fixture
def source(project):
    config = check_config(yaml.safe_load((project / "config.yaml").read_text()))
    inception = project / "results/resources/inception.pt"
    return TableSource(config, "tiny", project / "results", "v2", inception, "cpu", 10)
