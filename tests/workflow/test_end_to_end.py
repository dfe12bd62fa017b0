"""The whole way with the real stages, on a phantom of a few thousand voxels."""

import io
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import tifffile

from msdsr.config import ModelConfig, PhantomConfig
from msdsr.diffusion.network import Model, build_network, save_model
from msdsr.diffusion.transform import ChannelStatistics, build_transform
from msdsr.phantom import sheet_rows
from msdsr.sheet import write_sheet
from msdsr.volume.labels import read_label

PHANTOM = {
    "train_patients": 1,
    "val_patients": 1,
    "infer_patients": 1,
    "size": 64,
    "planes": 6,
    "images_2d": 1,
}
NETWORK = {
    "image_size": 16,
    "block_out_channels": [8, 16],
    "attention_levels": [False, False],
    "attention_head_dim": 8,
    "norm_num_groups": 4,
}
UNETS = ("ms_unet", "e2e_unet")
CONFIG = {
    "cohorts": {
        "tiny": {
            "sheet": "config/cohorts/tiny.tsv",
            "source": "phantom",
            "model": "smallest",
            "baseline_models": {kind: f"random-{kind}" for kind in UNETS},
        }
    },
    "models": {
        **{f"random-{kind}": {"kind": kind, "path": f"released models/{kind}"} for kind in UNETS},
        "smallest": {
            "preset": "tiny",
            "cohorts": ["tiny"],
            "network": NETWORK,
            "optimiser": {
                "images": 64,
                "batch": 16,
                "micro_batch": 16,
                "validate_every": 32,
                "restored_crops": 4,
            },
        },
    },
    "phantom": PHANTOM,
    "patch": {"size": 32},
    "trainset": {"size": 32, "min_side": 16},
    "superresolve": {
        "factors": ["auto"],
        "methods": ["msdsr", *UNETS],
        "steps": 2,
        "stride": 12,
        "samples": 2,
        "calibrate": 24,
    },
    "evaluate": {
        "baselines": ["nearest", "linear", "cubic"],
        "crop": 8,
        "max_images": 12,
        "max_reference_images": 20,
        "inception": "stand-in network.pt",
    },
}


def release_unet(folder, kind):
    """Save a model of random weights: what comes out of it means nothing."""
    config = ModelConfig.model_validate(
        {"kind": kind, "preset": "tiny", "cohorts": ["x"], "network": NETWORK}
    )
    statistics = [ChannelStatistics(12000.0, 4000.0, 100.0, 40000.0)] * 2
    transform = build_transform(("CH2", "CH3"), statistics, config.objective)
    save_model(folder, Model(build_network(config, 2), transform, config.objective, kind=kind))


@pytest.mark.slow
def test_a_phantom_comes_out_as_a_report(project, standin_path):
    shutil.copy(standin_path, project.folder / "stand-in network.pt")
    for kind in UNETS:
        release_unet(project.folder / "released models" / kind, kind)
    rows = sheet_rows(PhantomConfig(**PHANTOM), "tiny")
    write_sheet(project.folder / "config/cohorts/tiny.tsv", rows)
    project.config(CONFIG)

    project.run("--cores", "2")

    results = project.folder / "results"
    page = (results / "tiny/report/index.html").read_text()
    for method in ("nearest", "linear", "cubic", "msdsr", *UNETS):
        assert method in page
    slide = results / "tiny/slides/P03-S1"
    for stage in (
        "raw", "patches", "denoised", "msdsr_2x", "msdsr_2x_std", "msdsr_2x_calibration",
        "ms_unet_2x", "e2e_unet_2x", "msdsr_2x_heldout", "msdsr_2x_heldout_std",
        "e2e_unet_2x_heldout", "metrics_2x",
    ):  # fmt: skip
        assert json.loads((slide / f"{stage}.json").read_text())["algorithm"] >= 1
    spread = json.loads((slide / "msdsr_2x_std.json").read_text())
    calibrated = json.loads((slide / "msdsr_2x_calibration.json").read_text())
    assert spread["counts"]["scales"] == calibrated["counts"]["scales"]
    assert set(np.unique(read_label(slide / "msdsr_2x.ome.zarr", "origin"))) >= {1, 2}
    heldout = pd.read_csv(results / "tiny/metrics/heldout.csv")
    assert set(heldout.method) == {"ceiling", *CONFIG["evaluate"]["baselines"], "msdsr", *UNETS}
    assert set(pd.read_csv(results / "tiny/metrics/uncertainty.csv").against) == {
        "heldout", "truth",
    }  # fmt: skip
    assert len(pd.read_csv(results / "tiny/metrics/hotspots.csv"))
    assert (results / "models/smallest/model/metrics.jsonl").stat().st_size > 0
    again = project.run()
    assert "Nothing to be done" in again, again

    # A damaged file and a slide without tissue: the report is made without them, and says why.
    raw = (results / "tiny/raw_files/P03-S1.tif").read_bytes()
    for slide, content in (("damaged", raw[:200]), ("blank", blank_tiff())):
        (project.folder / f"{slide}.tif").write_bytes(content)
    columns = ["slide", "patient", "path", "notes", "truth"]
    added = [[slide, slide, f"{slide}.tif", "", ""] for slide in ("damaged", "blank")]
    template = rows[rows["slide"] == "P03-S1"].to_dict("records")[0]
    more = [template | dict(zip(columns, values, strict=True)) for values in added]
    write_sheet(project.folder / "config/cohorts/tiny.tsv", pd.concat([rows, pd.DataFrame(more)]))
    said = project.run("--retries", "0", expect=1)
    assert "Traceback" not in said
    page = (results / "tiny/report/index.html").read_text()
    assert "damaged.tif: cut short" in page
    assert "every plane is flagged (empty)" in page
    assert "P03-S1" in page


def blank_tiff():
    """Return the bytes of a stack in which nothing is to be seen."""
    file = io.BytesIO()
    stack = np.full((6, 2, 64, 64), 700, np.uint16)
    tifffile.imwrite(file, stack, imagej=True, metadata={"axes": "ZCYX"})
    return file.getvalue()
