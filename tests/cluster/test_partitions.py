"""The lines that a lab edits, and what comes of them on the cluster."""

import shutil

import pytest
from lab import PROFILE

PATCHES = "results/tiny/slides/P03-S1/patches"
REFERENCE = "results/tiny/reference"


@pytest.fixture
def edited(whole, tmp_path):
    """A lab with a profile of its own, where two products were never made."""
    products = (f"{PATCHES}.parquet", f"{PATCHES}.json", f"{REFERENCE}.npz", f"{REFERENCE}.json")
    lab = whole.copy(tmp_path / "a lab's clone", without=products)
    shutil.copytree(PROFILE, lab.folder / "profiles/slurm")
    return lab


def edit(lab, name, changes):
    path = lab.folder / "profiles/slurm" / name
    text = path.read_text()
    for before, after in changes.items():
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    path.write_text(text)


def test_five_lines_say_where_jobs_go(edited):
    edit(
        edited,
        "partitions.yaml",
        {"  cpu: # EDIT": "  long: # EDIT", "max_gpu: 8 # EDIT": "max_gpu: 2 # EDIT"},
    )
    edit(
        edited,
        "profile.yaml",
        {
            "# - slurm_account=my_account # EDIT": "- slurm_account=my_account # EDIT",
            "train_model:runtime=1440 # EDIT": "train_model:runtime=240 # EDIT",
            "  # - train_model:gpu_model=h100": "  - evaluate_reference:gpu_model=a100",
        },
    )
    profile = edited.folder / "profiles/slurm"
    edited.run(f"{PATCHES}.json", f"{REFERENCE}.json", profile=profile)
    jobs = {job["Rule"]: job for job in edited.jobs()}
    assert set(jobs) == {"patch_slide", "evaluate_reference"}
    assert jobs["patch_slide"]["Partition"] == "long"
    assert jobs["evaluate_reference"]["Partition"] == "gpu"
    assert jobs["evaluate_reference"]["NodeList"] == "gpu2"  # where the a100 are
    assert {job["Account"] for job in jobs.values()} == {"my_account"}
    plan = edited.run("--dry-run", "--forcerun", "train_model", profile=profile)
    assert "--gpus 1 --budget-minutes 240" in plan


def test_limits_of_partitions_choose_between_queues(edited):
    edit(
        edited,
        "partitions.yaml",
        {
            "  cpu: # EDIT": "  long:\n    max_runtime: 10080\n  cpu: # EDIT",
            "    max_gpu: 0": "    max_runtime: 30",
        },
    )
    edited.run(
        f"{PATCHES}.json",
        f"{REFERENCE}.json",
        "--set-resources",
        "evaluate_reference:gpu=0",
        profile=edited.folder / "profiles/slurm",
    )
    jobs = {job["Rule"]: job for job in edited.jobs()}
    assert jobs["patch_slide"]["Partition"] == "cpu"  # 21 minutes
    assert jobs["evaluate_reference"]["Partition"] == "long"  # 240 minutes
