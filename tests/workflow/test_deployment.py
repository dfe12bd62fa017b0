"""The workflow used as a module from another directory, fetched from a hosting site by its tag.

The site is a bare repository on this machine: git is told to take it for https://github.com/.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SITE = "https://github.com/"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The environment of a machine where the working tree is github.com/msdsr/msdsr, tag v1."""
    root = tmp_path_factory.mktemp("site")
    bare = root / "github/msdsr/msdsr.git"
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("GIT_") and key != "GITHUB_TOKEN"
    }
    environment |= {
        "HOME": str(root),
        "XDG_CACHE_HOME": str(root / "cache"),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": f"url.file://{root}/github/.insteadOf",
        "GIT_CONFIG_VALUE_0": SITE,
        "GIT_CONFIG_KEY_1": "safe.directory",
        "GIT_CONFIG_VALUE_1": "*",
        "GIT_AUTHOR_NAME": "a lab",
        "GIT_AUTHOR_EMAIL": "lab@example.org",
        "GIT_COMMITTER_NAME": "a lab",
        "GIT_COMMITTER_EMAIL": "lab@example.org",
    }
    git = ["git", f"--git-dir={bare}"]
    bare.parent.mkdir(parents=True)
    run([*git, "init", "--quiet", "--bare"], root, environment)
    tree = [*git, "-c", "core.bare=false", f"--work-tree={REPOSITORY}"]
    run([*tree, "add", "--all"], REPOSITORY, environment)
    run([*tree, "commit", "--quiet", "--message=all"], REPOSITORY, environment)
    run([*git, "tag", "v1"], root, environment)
    return environment


def run(command, folder, environment, expect=0):
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == expect, done.stdout
    return done.stdout


class Lab:
    """A directory beside no clone, where the workflow is deployed."""

    def __init__(self, folder, environment):
        self.folder = folder
        self.environment = environment

    def module(self, snakefile, body="", rules="use rule * from msdsr", config="config"):
        (self.folder / "workflow").mkdir(exist_ok=True)
        (self.folder / "workflow/Snakefile").write_text(
            'configfile: "config/config.yaml"\n\n'
            f"module msdsr:\n    snakefile: {snakefile}\n    config: {config}\n{body}\n{rules}\n"
        )

    def snakemake(self, *arguments, expect=0):
        command = [sys.executable, "-m", "snakemake", *arguments]
        return run(command, self.folder, self.environment, expect)


@pytest.fixture
def lab(site, project):
    """A directory with a cohort and a model of the lab's own, and nothing else."""
    rows = [("A", "PA", "train"), ("B", "PB", "val"), ("C", "PC", "infer")]
    project.sheet("ours", [(*row, f"raw files/{row[0]}.tif", "") for row in rows])
    (project.folder / "raw files").mkdir()
    for slide, *_ in rows:
        (project.folder / f"raw files/{slide}.tif").touch()
    project.frozen_model("ours")
    project.config(
        {
            "cohorts": {
                "ours": {"sheet": "config/cohorts/ours.tsv", "model": "ours"},
            },
            "models": {"ours": {"path": "resources/models/ours"}},
        }
    )
    return Lab(project.folder, dict(site))


HOSTED = 'github("msdsr/msdsr", path="workflow/Snakefile", tag="v1")'
LOCAL = repr(str(REPOSITORY / "workflow/Snakefile"))


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="snakedeploy needs an older Python")
def test_snakedeploy_brings_all_that_a_first_run_needs(site, tmp_path):
    command = [Path(sys.executable).with_name("snakedeploy"), "deploy-workflow"]
    run([*command, f"{SITE}msdsr/msdsr", "lab", "--tag", "v1"], tmp_path, site)
    lab = Lab(tmp_path / "lab", site)
    assert not (lab.folder / "resources").exists()
    # The configuration that ships, with the model that the installed package carries.
    said = lab.snakemake("--dry-run", "--profile", "profiles/local")
    assert "superresolve_slide" in said
    assert "--model=" in said
    assert "msdsr/resources/models/phantom-tiny" in said


def test_a_labs_own_cohort_is_planned_from_a_hosted_module(lab):
    lab.module(HOSTED)
    said = lab.snakemake("--dry-run", "--printshellcmds")
    for rule in ("ingest_slide", "denoise_slide", "superresolve_slide", "report_cohort"):
        assert f"rule {rule}:" in said
    assert "rule train_model" not in said
    # Nothing that is planned is in the place where the workflow came from. (What Snakemake says of
    # its own command is where Python is, which may be there.)
    planned = [line for line in said.splitlines() if not line.strip().startswith("Command:")]
    assert not any(str(REPOSITORY) in line for line in planned)
    assert "--model=resources/models/ours" in said


def test_the_hosted_module_runs_to_its_report(lab, project):
    # With a stand-in for the stages: sources, captions and schemas come from the site alone.
    project.use_standin()
    lab.environment["PATH"] = project.path
    lab.module(HOSTED)
    lab.snakemake("--cores", "2")
    assert (lab.folder / "results/ours/report/index.html").exists()
    lab.snakemake("--report", "all.html")
    text = (lab.folder / "all.html").read_text()
    assert "fills the missing planes" in text  # workflow/report/workflow.rst


def test_rules_can_be_renamed_and_the_configuration_overridden(lab):
    samples = {"superresolve": {"samples": 4, "methods": ["msdsr", "cubic"]}}
    lab.module(
        LOCAL, rules="use rule * from msdsr as srh_*", config=f"config | {samples} | {{'seed': 7}}"
    )
    said = lab.snakemake(
        "--dry-run", "--printshellcmds", "srh_report_ours", "--set-scatter", "part=2"
    )
    for rule in ("slide", "samples", "calibration", "part"):
        assert f"rule srh_superresolve_{rule}:" in said
    assert "--seed 7" in said


@pytest.mark.parametrize("line", ['prefix: "ours"', 'replace_prefix: {"results/": "ours/"}'])
def test_a_prefix_of_paths_is_refused_in_one_line(lab, line):
    lab.module(LOCAL, body=f"    {line}\n")
    said = lab.snakemake("--dry-run", expect=1)
    assert "expected neither: results/ is always under the working directory" in said
    assert "Traceback" not in said
