"""What goes wrong on clusters: each time the run ends well, nothing that was finished is done
again, and the result is that of the undisturbed run, byte for byte."""

import json
import subprocess
import sys
import time

import pytest
from safetensors import safe_open
from sandbox import wait_until

MODEL = "results/models/smallest/model"
TRAINING = "results/.work/models/smallest/train"
RESTORED = "results/tiny/slides/P03-S1/msdsr_2x"
RESTORING = "results/.work/tiny/P03-S1/msdsr_2x"


@pytest.fixture
def untrained(whole, tmp_path):
    """A lab where all is there but the model and the volume that was restored with it."""
    products = (MODEL, f"{MODEL}.json", f"{RESTORED}.ome.zarr", f"{RESTORED}.json")
    return whole.copy(tmp_path / "a lab's clone", without=products)


@pytest.fixture
def unrestored(whole, tmp_path):
    return whole.copy(
        tmp_path / "a lab's clone", without=(f"{RESTORED}.ome.zarr", f"{RESTORED}.json")
    )


def await_training(lab):
    """Wait until a training has been saved; return its job and its first step, with its rate."""
    work = lab.folder / TRAINING
    wait_until(lambda: list((work / "states").glob("*.json")), f"a state\n{lab.said()}", 180)
    job = lab.await_job("train_model")
    return job, (work / "metrics.jsonl").read_text().splitlines()[0]


def step_of(lab):
    """Return how many steps of the walk are on the disk; -1 before the first and after the last."""
    for path in (lab.folder / RESTORING / "steps").glob("*.safetensors"):
        try:
            with safe_open(path, "pt") as file:
                return json.loads(file.metadata()["state"])["step"]
        except FileNotFoundError:
            break
    return -1


def first_step_of_model(lab):
    """Return the first record of the curve: the rate in it is of the moment, and no other's."""
    return (lab.folder / MODEL / "metrics.jsonl").read_text().splitlines()[0]


def states(lab, rule):
    return sorted(job["JobState"] for job in lab.jobs() if job["Rule"] == rule)


def same(lab, whole, *names):
    assert lab.contents(*names) == whole.contents(*names)


def recover(lab, expect=0):
    done = subprocess.run(
        [sys.executable, "-m", "msdsr", "cluster", "recover"],
        cwd=lab.folder,
        env=lab.slurm.env(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == expect, done.stdout
    return done.stdout


def test_a_training_that_is_cancelled_is_retried_and_goes_on(untrained, whole):
    run = untrained.start(f"{MODEL}.json")
    job, first = await_training(untrained)
    untrained.slurm.command("scancel", job["JobId"])
    untrained.finish(run)
    assert states(untrained, "train_model") == ["CANCELLED", "COMPLETED"]
    assert untrained.count() == {"train_model": 2}
    assert first_step_of_model(untrained) == first
    same(untrained, whole, MODEL, f"{MODEL}.json")


def test_a_restoration_that_is_preempted_goes_back_into_the_queue_and_goes_on(unrestored, whole):
    run = unrestored.start(f"{RESTORED}.json")
    wait_until(lambda: step_of(unrestored) >= 2, f"a step\n{unrestored.said()}", 180)
    job = unrestored.await_job("superresolve_slide")
    urgent = ("--partition=urgent", "--exclusive", f"--nodelist={job['NodeList']}", "--time=5")
    unrestored.slurm.command("sbatch", *urgent, "--output=/dev/null", "--wrap=sleep 5")
    reached, seen, deadline = step_of(unrestored), [], time.monotonic() + 300
    while run.poll() is None and time.monotonic() < deadline:
        seen.append(step_of(unrestored))
        time.sleep(0.05)
    unrestored.finish(run)
    (job,) = unrestored.jobs()
    assert (job["Restarts"], job["JobState"]) == ("1", "COMPLETED")
    assert min(step for step in seen if step >= 0) >= reached  # no step was taken again
    same(unrestored, whole, f"{RESTORED}.ome.zarr", f"{RESTORED}.json")


def test_a_training_whose_node_goes_down_goes_on_elsewhere(untrained, whole):
    run = untrained.start(f"{MODEL}.json")
    job, first = await_training(untrained)
    node = f"nodename={job['NodeList']}"
    untrained.slurm.command("scontrol", "update", node, "state=down", "reason=a test")
    untrained.finish(run)
    (again,) = untrained.jobs()
    assert (again["JobId"], again["Restarts"]) == (job["JobId"], "1")
    assert again["NodeList"] != job["NodeList"]
    assert first_step_of_model(untrained) == first
    same(untrained, whole, MODEL, f"{MODEL}.json")
    untrained.slurm.command("scontrol", "update", node, "state=resume")
    wait_until(untrained.slurm.is_idle, "all nodes idle")


def test_jobs_outlive_a_controller_that_is_started_again(untrained, whole):
    run = untrained.start(f"{MODEL}.json")
    job, first = await_training(untrained)
    untrained.slurm.end("slurmctld")
    untrained.slurm.start_controller()
    untrained.finish(run)
    (again,) = untrained.jobs()
    assert (again["JobId"], again["JobState"], again["Restarts"]) == (
        job["JobId"],
        "COMPLETED",
        "0",
    )
    assert first_step_of_model(untrained) == first
    same(untrained, whole, MODEL, f"{MODEL}.json")


def test_after_snakemake_was_killed_one_command_clears_the_way(untrained, whole):
    run = untrained.start(f"{RESTORED}.json")
    untrained.await_job("train_model")
    assert "Snakemake is at work here" in recover(untrained, expect=2)
    job, first = await_training(untrained)
    run.kill()
    run.wait()
    assert job["JobId"] in untrained.slurm.jobs_alive()
    assert list((untrained.folder / ".snakemake/locks").iterdir())

    said = recover(untrained)
    assert f"cancelled {job['JobId']} (train_model smallest)" in said
    assert untrained.slurm.jobs_alive() == []
    assert "0 jobs were left" in recover(untrained)

    untrained.run(f"{RESTORED}.json")
    assert states(untrained, "train_model") == ["CANCELLED", "COMPLETED"]
    assert untrained.count() == {"train_model": 2, "superresolve_slide": 1}
    assert first_step_of_model(untrained) == first
    same(untrained, whole, MODEL, f"{MODEL}.json", f"{RESTORED}.ome.zarr", f"{RESTORED}.json")
