"""The profiles for LSF, PBS and Kubernetes: dry runs, and real runs through stand-ins.

The stand-ins `qsub`, `qstat` and `kubectl` run what they are given at once and answer as PBS and
Kubernetes would; what the profiles' own scripts make of it is real.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
PROFILES = REPOSITORY / "profiles"
GENERIC = ("cluster-generic", "kubernetes")

PBS = """
case "$0" in
*qsub)
    for script; do :; done
    echo "$*" >> "$FOLDER/asked"
    echo "$FOLDER" > "$FOLDER/where"
    sh "$script" > "$FOLDER/said" 2>&1
    echo $? > "$FOLDER/code"
    echo 17.server
    ;;
*qstat) printf '    job_state = F\\n    Exit_status = %s\\n' "$(cat "$FOLDER/code")" ;;
esac
"""

KUBECTL = """
import pathlib, subprocess, sys, yaml

folder = pathlib.Path(FOLDER)
if sys.argv[1] == "create":
    manifest = yaml.safe_load(sys.stdin)
    (folder / "asked").write_text(yaml.safe_dump([sys.argv[1:], manifest]))
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    done = subprocess.run(container["command"], cwd=container["workingDir"], capture_output=True)
    (folder / "said").write_bytes(done.stdout + done.stderr)
    (folder / "code").write_text(str(done.returncode))
    print("job.batch/msdsr-x2b7q")
else:
    print("Failed " if int((folder / "code").read_text()) else "SuccessCriteriaMet Complete ")
"""


def profile(name):
    return yaml.safe_load((PROFILES / name / "profile.yaml").read_text())


def test_lsf_jobs_carry_what_they_ask_for(demo):
    plan = demo.plan(profile="lsf")
    assert plan.count("superresolve_slide") == 4
    for job in plan.jobs:
        if job["rule"] != "all":
            assert re.search(r"\bmem_mb=\d+", job["resources"])
            assert re.search(r"\bruntime=\d+", job["resources"])
            gpus = re.search(r"\bgpu=[1-9]", job["resources"])
            assert bool(gpus) == ("lsf_extra=-gpu num=1" in job["resources"])


def test_every_rule_with_a_gpu_asks_lsf_for_it():
    found = set()
    for file in (REPOSITORY / "workflow/rules").glob("*.smk"):
        parts = re.split(
            r"^(?:rule|use rule (\w+) as) (\w+)(?: with)?:$", file.read_text(), flags=re.M
        )
        for base, rule, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
            if re.search(r"^        gpu=", text, flags=re.M) or base in found:
                found.add(rule)
    text = (PROFILES / "lsf/profile.yaml").read_text()
    found |= {"evaluate_reference", "evaluate_slide"}  # by the profile's own choice
    assert set(re.findall(r"- (\w+):lsf_extra='-gpu num=1'", text)) == found


class Cluster:
    """A project with the profiles copied into it, as a deployment has them, and a scheduler."""

    def __init__(self, project):
        self.project = project
        self.folder = project.folder
        project.use_standin()
        shutil.copytree(PROFILES, self.folder / "profiles")
        project.sheet("ours", [("A", "PA", "infer", "raw files/A.tif", "")])
        (self.folder / "raw files").mkdir()
        (self.folder / "raw files/A.tif").touch()
        project.frozen_model("ours")
        project.config(
            {
                "cohorts": {"ours": {"sheet": "config/cohorts/ours.tsv", "model": "ours"}},
                "models": {"ours": {"path": "resources/models/ours"}},
            }
        )

    def command(self, name, text):
        file = self.folder / "bin" / name
        file.write_text(text)
        file.chmod(0o755)

    def run(self, name, expect=0):
        quick = ["--seconds-between-status-checks", "1", "--retries", "0", "--latency-wait", "5"]
        arguments = ["--profile", f"profiles/{name}", *quick, "results/ours/slides/A/raw.json"]
        return self.project.snakemake(*arguments, expect=expect)


@pytest.fixture
def pbs(project):
    cluster = Cluster(project)
    for name in ("qsub", "qstat"):
        cluster.command(name, f'#!/bin/sh\nFOLDER="{cluster.folder}/bin"\n{PBS}')
    return cluster


@pytest.fixture
def kubernetes(project):
    cluster = Cluster(project)
    text = f"#!{sys.executable}\nFOLDER = {str(cluster.folder / 'bin')!r}\n{KUBECTL}"
    cluster.command("kubectl", text)
    return cluster


def test_pbs_runs_a_job_with_what_its_rule_asks_for(pbs):
    pbs.run("cluster-generic")
    assert (pbs.folder / "results/ours/slides/A/raw.json").exists()
    asked = (pbs.folder / "bin/asked").read_text()
    assert re.search(r"-V -N msdsr\.ingest_slide -j oe -o .*/results/logs/cluster/ ", asked)
    assert re.search(r"-l select=1:ncpus=2:mem=\d+mb -l walltime=\d+:\d+:00 ", asked)
    assert "ngpus" not in asked
    assert " -q " not in asked


def test_kubernetes_runs_a_job_with_what_its_rule_asks_for(kubernetes):
    kubernetes.run("kubernetes")
    assert (kubernetes.folder / "results/ours/slides/A/raw.json").exists()
    arguments, manifest = yaml.safe_load((kubernetes.folder / "bin/asked").read_text())
    assert arguments[:3] == ["create", "--namespace", "default"]
    spec = manifest["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["image"] == "msdsr:cuda"
    assert container["workingDir"] == str(kubernetes.folder)
    assert container["resources"]["limits"].keys() == {"cpu", "memory"}
    assert manifest["metadata"]["labels"]["rule"] == "ingest_slide"
    assert spec["volumes"][0]["persistentVolumeClaim"]["claimName"] == "msdsr-data"


def test_a_job_that_failed_ends_the_run_with_an_error(pbs):
    pbs.command("msdsr", "#!/bin/sh\necho msdsr: nothing to be had; exit 2\n")
    said = pbs.run("cluster-generic", expect=1)
    assert "Error in rule ingest_slide" in said
    assert "nothing to be had" in said


def script(folder, profile, name, *arguments, tool, says, code=0):
    """Run a profile's script with a tool that notes its arguments and answers in one way."""
    (folder / "bin").mkdir()
    command = folder / "bin" / tool
    command.write_text(
        f"#!/bin/sh\nprintf '%s\\n' \"$@\" > {folder}/asked\ncat > {folder}/read < /dev/stdin\n"
        f"cat << 'END'\n{says}\nEND\nexit {code}\n"
    )
    command.chmod(0o755)
    done = subprocess.run(
        [PROFILES / profile / name, *arguments],
        cwd=folder,
        env={"PATH": f"{folder}/bin:/usr/bin:/bin"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("says", "code", "status"),
    [
        ("    job_state = Q", 0, "running"),
        ("    job_state = R\n    exec_host = a/0", 0, "running"),
        ("    job_state = F\n    Exit_status = 0", 0, "success"),
        ("    job_state = F\n    Exit_status = 75", 0, "failed"),
        ("    job_state = F", 0, "failed"),  # deleted before it started
        ("qstat: cannot connect to server", 1, "running"),
    ],
)
def test_pbs_states(tmp_path, says, code, status):
    assert (
        script(tmp_path, GENERIC[0], "status", "17", tool="qstat", says=says, code=code) == status
    )


@pytest.mark.parametrize(
    ("says", "code", "status"),
    [
        ("", 0, "running"),
        ("Suspended ", 0, "running"),
        ("SuccessCriteriaMet Complete ", 0, "success"),
        ("FailureTarget Failed ", 0, "failed"),
        ('Error from server (NotFound): jobs.batch "x" not found', 1, "failed"),
        ("Unable to connect to the server: Failed to dial", 1, "running"),
    ],
)
def test_kubernetes_states(tmp_path, says, code, status):
    found = script(tmp_path, GENERIC[1], "status", "ns/x", tool="kubectl", says=says, code=code)
    assert found == status


def test_gpus_and_queues_reach_pbs(tmp_path):
    asked = ["superresolve_slide", "8", "16000", "1441", "2", "gpu", "job script.sh"]
    assert (
        script(tmp_path, GENERIC[0], "submit", *asked, tool="qsub", says="18.server") == "18.server"
    )
    said = (tmp_path / "asked").read_text().splitlines()
    assert "select=1:ncpus=8:mem=16000mb:ngpus=2" in said
    assert "walltime=24:1:00" in said
    assert said[-3:] == ["-q", "gpu", "job script.sh"]


def test_gpus_reach_kubernetes(tmp_path):
    where = ["registry.example.org/msdsr:cuda", "lab", "claim", "/data"]
    asked = [*where, "superresolve_slide", "8", "16000", "60", "2", "a lab's script.sh"]
    name = script(tmp_path, GENERIC[1], "submit", *asked, tool="kubectl", says="job.batch/msdsr-1")
    assert name == "lab/msdsr-1"
    manifest = yaml.safe_load((tmp_path / "read").read_text())
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {
        "cpu": "8", "memory": "16000M", "nvidia.com/gpu": "2",
    }  # fmt: skip
    assert container["command"] == ["sh", "a lab's script.sh"]
    assert manifest["spec"]["activeDeadlineSeconds"] == 3600


def test_what_is_interrupted_is_cancelled(tmp_path):
    script(tmp_path, GENERIC[0], "cancel", "17", "18", tool="qdel", says="")
    assert (tmp_path / "asked").read_text().split() == ["17", "18"]


def test_pods_that_are_interrupted_are_deleted_in_their_namespace(tmp_path):
    script(tmp_path, GENERIC[1], "cancel", "ns/x", tool="kubectl", says="")
    said = (tmp_path / "asked").read_text().split()
    assert said[:5] == ["delete", "job", "x", "--namespace", "ns"]


@pytest.mark.parametrize("name", GENERIC)
def test_the_scripts_are_where_the_profile_says(name):
    for key in ("submit", "status", "cancel"):
        file = REPOSITORY / profile(name)[f"cluster-generic-{key}-cmd"].split()[0]
        assert file.stat().st_mode & 0o111
