"""The whole way with the real stages, on a phantom of a few thousand voxels."""

import json
import warnings

import pytest
import torch

from msdsr.config import PhantomConfig
from msdsr.phantom import sheet_rows
from msdsr.sheet import write_sheet

PHANTOM = {
    "train_patients": 1,
    "val_patients": 1,
    "infer_patients": 1,
    "size": 64,
    "planes": 6,
    "images_2d": 1,
}
CONFIG = {
    "cohorts": {
        "tiny": {"sheet": "config/cohorts/tiny.tsv", "source": "phantom", "model": "smallest"}
    },
    "models": {
        "smallest": {
            "preset": "tiny",
            "cohorts": ["tiny"],
            "network": {
                "image_size": 16,
                "block_out_channels": [8, 16],
                "attention_levels": [False, False],
                "attention_head_dim": 8,
                "norm_num_groups": 4,
            },
            "optimiser": {
                "images": 64,
                "batch": 16,
                "micro_batch": 16,
                "validate_every": 32,
                "restored_crops": 4,
            },
        }
    },
    "phantom": PHANTOM,
    "patch": {"size": 32},
    "trainset": {"size": 32, "min_side": 16},
    "superresolve": {"factors": [2], "steps": 2, "stride": 12},
    "evaluate": {
        "crop": 8,
        "max_images": 12,
        "max_reference_images": 20,
        "inception": "stand-in network.pt",
    },
}


class StandIn(torch.nn.Module):
    """Sixteen features of a picture; for plumbing alone, its distances mean nothing."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.weight = torch.nn.Parameter(torch.randn(16, 3, 23, 23, generator=generator) / 40)

    def forward(self, x):
        return torch.relu(torch.nn.functional.conv2d(x, self.weight, stride=23)).mean((2, 3))


@pytest.mark.slow
def test_a_phantom_comes_out_as_a_report(project):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        torch.jit.script(StandIn()).save(str(project.folder / "stand-in network.pt"))
    rows = sheet_rows(PhantomConfig(**PHANTOM), "tiny")
    write_sheet(project.folder / "config/cohorts/tiny.tsv", rows)
    project.config(CONFIG)

    project.run("--cores", "2")

    results = project.folder / "results"
    page = (results / "tiny/report/index.html").read_text()
    for method in ("nearest", "linear", "msdsr"):
        assert method in page
    for stage in ("raw", "patches", "denoised", "msdsr_2x", "metrics_2x"):
        for manifest in results.glob(f"tiny/slides/P03-S1/{stage}.json"):
            assert json.loads(manifest.read_text())["algorithm"] >= 1
    assert (results / "models/smallest/model/metrics.jsonl").stat().st_size > 0
    again = project.run()
    assert "Nothing to be done" in again, again

    # A damaged raw file stops its slide with one line, and leaves what was made.
    raw = results / "tiny/raw_files/P03-S1.tif"
    raw.write_bytes(raw.read_bytes()[:200])
    said = project.run("--forcerun", "ingest_slide", "--until", "ingest_slide", expect=1)
    assert "msdsr: error: " in said
    assert "Traceback" not in said
