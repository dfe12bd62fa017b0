"""The profiles, as far as a dry run shows them."""

import json
import re
from pathlib import Path

from msdsr.needs import memory_mb, minutes

PROFILES = Path(__file__).parents[2] / "profiles"


def test_there_is_no_default_profile():
    # Snakemake would load it beside the named one, and silently drop the other's resources.
    assert not (PROFILES / "default").exists()


GPU_RULES = (
    "train_model",
    "superresolve_slide",
    "superresolve_heldout",
    "evaluate_reference",
    "evaluate_slide",
)


def test_slurm_jobs_carry_what_they_ask_for(demo):
    plan = demo.plan(profile="slurm")
    for job in plan.jobs:
        if job["rule"] == "all":
            continue
        assert bool(re.search(r"\bgpu=1\b", job["resources"])) == (job["rule"] in GPU_RULES)
        assert "mem_mb=" in job["resources"]
        assert "runtime=" in job["resources"]
        if job["rule"] in GPU_RULES:
            assert "cpus_per_gpu=8" in job["resources"]
    (train,) = plan.of("train_model")
    assert "mem_mb=32000" in train["resources"]
    assert "--gpus 1 --budget-minutes 1440" in plan.text
    assert "--device auto --gpus 1 >" in plan.text


def test_a_lab_can_ask_for_more_gpus_and_a_shorter_limit(demo):
    asked = ["train_model:gpu=4", "train_model:runtime=480"]
    plan = demo.plan("--set-resources", *asked, profile="slurm")
    assert "--gpus 4 --budget-minutes 480" in plan.text


def test_one_machine_has_no_time_limit(demo):
    assert "--gpus 1 --budget-minutes 10080" in demo.plan().text


def asked(plan, rule, slide):
    """Return the memory (MB) and the time (min) that a rule asks for, for one slide."""
    (job,) = (j for j in plan.of(rule) if f"slide={slide}" in j["wildcards"])
    found = {
        name: re.search(rf"\b{name}=(\d+)", job["resources"]) for name in ("mem_mb", "runtime")
    }
    return int(found["mem_mb"][1]), int(found["runtime"][1])


def test_jobs_ask_by_the_size_of_their_slide(project):
    (project.folder / "large.tif").write_bytes(bytes(10_000_000))
    rows = [("A", "PA", "train", "large.tif", ""), ("B", "PB", "val", "not there.tif", "")]
    project.sheet("mine", rows)
    model = {"preset": "tiny", "cohorts": ["mine"]}
    cohort = {"sheet": "config/cohorts/mine.tsv", "model": "own"}
    project.config({"cohorts": {"mine": cohort}, "models": {"own": model}})

    plan = project.plan("results/mine/slides/A/patches.json", profile="slurm")
    assert asked(plan, "patch_slide", "A") == (memory_mb("patch", 10), minutes("patch", 10))

    slide = project.folder / "results/mine/slides/A"
    (slide / "raw.ome.zarr").mkdir(parents=True)
    counts = {"channels": 2, "planes": 20, "rows": 9000, "columns": 9000, "dtype": "uint16"}
    (slide / "raw.json").write_text(json.dumps({"counts": counts}))
    plan = project.plan("results/mine/slides/A/patches.json", profile="slurm")
    assert plan.rules() == {"patch_slide"}
    assert asked(plan, "patch_slide", "A") == (memory_mb("patch", 6480), minutes("patch", 6480))
