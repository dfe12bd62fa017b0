"""How the rules are written: complete, lintable, and in step with the stages behind them."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
WORKFLOW = REPOSITORY / "workflow"

EIGHT = (
    "ingest",
    "patch",
    "denoise",
    "trainset",
    "train",
    "superresolve",
    "evaluate",
    "report",
)

STAGES = {
    "phantom_slide": "msdsr.phantom.cohort",
    "phantom_slide_with_truth": "msdsr.phantom.cohort",
    "ingest_slide": "msdsr.ingest.ingest",
    "patch_slide": "msdsr.patch.patch",
    "denoise_slide": "msdsr.denoise.denoise",
    "trainset_slide": "msdsr.trainset.slide",
    "build_trainset": "msdsr.trainset.build",
    "train_model": "msdsr.train.stage",
    "superresolve_part": "msdsr.superresolve.superresolve",
    "superresolve_slide": "msdsr.superresolve.superresolve",
    "superresolve_calibration": "msdsr.superresolve.superresolve",
    "superresolve_heldout": "msdsr.superresolve.superresolve",
    "evaluate_reference": "msdsr.evaluate.reference",
    "evaluate_slide": "msdsr.evaluate.slide",
    "evaluate_cohort": "msdsr.evaluate.cohort",
    "report_cohort": "msdsr.report.build",
}


def rules():
    """Return the text of each rule that runs a command."""
    found = {}
    for path in sorted((WORKFLOW / "rules").glob("*.smk")):
        parts = re.split(r"^rule (\w+):$", path.read_text(), flags=re.MULTILINE)
        found |= dict(zip(parts[1::2], parts[2::2], strict=True))
    return found


RULES = rules()


def test_there_is_a_rule_file_for_each_stage():
    for stage in EIGHT:
        assert (WORKFLOW / f"rules/{stage}.smk").exists()
        assert (REPOSITORY / f"docs/reference/{stage}.md").exists()


@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_complete(name):
    text = RULES[name]
    for directive in ("log", "benchmark", "params", "threads", "resources", "conda", "shell"):
        assert re.search(rf"^    {directive}:", text, flags=re.MULTILINE), directive
    assert re.search(r"mem_mb=(growing|memory_for)\(", text)  # more on every further attempt
    for part in ("runtime=", "algorithm="):
        assert part in text
    assert "    retries:" not in text  # they belong in the profile
    (command,) = re.findall(r'^        "(?:exec )?(msdsr .*)', text, flags=re.MULTILINE)
    assert command
    assert "> {log} 2>&1" in text


@pytest.mark.parametrize("name", STAGES)
def test_a_rule_has_its_stages_algorithm_number(name):
    (number,) = re.findall(r"algorithm=(\d+)", RULES[name])
    assert int(number) == importlib.import_module(STAGES[name]).ALGORITHM


def test_gpu_jobs_are_those_that_run_networks():
    with_gpu = {name for name, text in RULES.items() if re.search(r"^        gpu=", text, re.M)}
    assert with_gpu == {
        "denoise_slide",
        "train_model",
        "superresolve_slide",
        "superresolve_part",
        "superresolve_calibration",
        "superresolve_heldout",
    }


def test_snakefmt_and_the_linter_have_nothing_to_say(demo):
    snakefmt = Path(sys.executable).with_name("snakefmt")
    done = subprocess.run(
        [snakefmt, "--check", WORKFLOW], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "good condition" in demo.snakemake("--lint")
