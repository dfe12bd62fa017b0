"""Jobs of a slide that are submitted together (`--config fused=true`)."""

import re

import pytest


@pytest.fixture
def lab(project):
    project.frozen_model("frozen")
    splits = {"A": "infer", "B": "infer", "T": "train", "V": "val"}
    project.sheet("c", [(s, f"P{s}", split, f"raw/{s}.tif", "") for s, split in splits.items()])
    (project.folder / "raw").mkdir()
    for slide in splits:
        (project.folder / f"raw/{slide}.tif").write_text(f"slide {slide}")
    configure(project)
    return project


def configure(project, **changed):
    values = {
        "cohorts": {"c": {"sheet": "config/cohorts/c.tsv", "model": "frozen"}},
        "models": {
            "frozen": {"path": "resources/models/frozen"},
            "own": {"preset": "tiny", "cohorts": ["c"]},
        },
        "evaluate": {"inception": "raw/V.tif"},
    }
    project.config(values | changed)


def groups(plan):
    """Return the name of each group that would be submitted, and the rules of its jobs."""
    found = []
    for text in re.split(r"^\[[^\n]*\] (?=Group job )", plan.text, flags=re.M)[1:]:
        rules = re.findall(r"^    rule (\S+):", text.split("\n[", 1)[0], re.M)
        found.append((re.match(r"Group job (\S+)", text)[1], rules))
    return found


def commands(plan):
    return sorted(re.findall(r"^ *Shell command: (.*)$", plan.text, re.M))


def test_a_slide_is_two_jobs_and_its_commands_stay_what_they_are(lab):
    apart, fused = lab.plan(profile="slurm"), lab.plan("--config", "fused=true", profile="slurm")
    assert commands(fused) == commands(apart)
    assert not groups(apart)
    infer = ["denoise_slide", "ingest_slide", "patch_slide", "superresolve_slide"]
    found = sorted((name, sorted(rules)) for name, rules in groups(fused))
    assert found == [
        *[("judge", ["evaluate_slide", "superresolve_heldout"])] * 2,
        *[("prepare", infer)] * 2,
        *[("prepare", [*infer[:3], "trainset_slide"])] * 2,
    ]
    # A slide that is restored was six submissions.
    assert sum("slide=A" in job.get("wildcards", "") for job in apart.jobs) == 6


@pytest.mark.parametrize(
    "changed",
    [
        {"superresolve": {"factors": [2, 4]}},
        {"superresolve": {"methods": ["msdsr", "ms_unet", "nearest"]}},
        {"superresolve": {"samples": 2}},
        {"denoise": {"mode": "rscd", "prior": "prior", "calibrator": "judge"}},
    ],
)
def test_jobs_that_would_stand_side_by_side_do_not_ask_for_a_gpu_each(lab, changed):
    models = {"frozen": {"path": "resources/models/frozen"}}
    kinds = {"masked": "ms_unet", "prior": "rscd_prior", "judge": "rscd_calibrator"}
    models |= {
        name: {"kind": kind, "path": "resources/models/frozen"} for name, kind in kinds.items()
    }
    cohort = {"sheet": "config/cohorts/c.tsv", "model": "frozen"}
    cohort |= {"baseline_models": {"ms_unet": "masked"}}
    configure(lab, models=models, cohorts={"c": cohort}, **changed)
    fused = lab.plan("--config", "fused=true", profile="slurm")
    found = groups(fused)
    assert found
    for _, rules in found:  # those of a chain are done one after another
        assert len(set(rules)) == len(rules)
    assert len(commands(fused)) == len(commands(lab.plan(profile="slurm")))


def test_parts_stay_jobs_of_their_own(lab):
    plan = lab.plan("--config", "fused=true", "--set-scatter", "part=2", profile="slurm")
    assert not any("superresolve_slide" in rules for _, rules in groups(plan))
    assert plan.count("superresolve_part") == 4
