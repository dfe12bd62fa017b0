"""What goes wrong on clusters: each time the run ends well, nothing that was finished is done
again, and the result is that of the undisturbed run, byte for byte."""

import pytest
from sandbox import wait_until

MODEL = "results/models/smallest/model"
TRAINING = "results/.work/models/smallest/train"
RESTORED = "results/tiny/slides/P03-S1/msdsr_2x"


@pytest.fixture
def untrained(whole, tmp_path):
    """A lab where all is there but the model and the volume that was restored with it."""
    products = (MODEL, f"{MODEL}.json", f"{RESTORED}.ome.zarr", f"{RESTORED}.json")
    return whole.copy(tmp_path / "a lab's clone", without=products)


def await_training(lab):
    """Wait until a training has been saved; return its job and its first step, with its rate."""
    work = lab.folder / TRAINING
    wait_until(lambda: list((work / "states").glob("*.json")), f"a state\n{lab.said()}", 180)
    job = lab.await_job("train_model")
    return job, (work / "metrics.jsonl").read_text().splitlines()[0]


def first_step_of_model(lab):
    """Return the first record of the curve: the rate in it is of the moment, and no other's."""
    return (lab.folder / MODEL / "metrics.jsonl").read_text().splitlines()[0]


def states(lab, rule):
    return sorted(job["JobState"] for job in lab.jobs() if job["Rule"] == rule)


def same(lab, whole, *names):
    assert lab.contents(*names) == whole.contents(*names)


def test_a_training_that_is_cancelled_is_retried_and_goes_on(untrained, whole):
    run = untrained.start(f"{MODEL}.json")
    job, first = await_training(untrained)
    untrained.slurm.command("scancel", job["JobId"])
    untrained.finish(run)
    assert states(untrained, "train_model") == ["CANCELLED", "COMPLETED"]
    assert untrained.count() == {"train_model": 2}
    assert first_step_of_model(untrained) == first
    same(untrained, whole, MODEL, f"{MODEL}.json")
