"""The stage as a whole: stops, kills, damage, release."""

import json
import os
import re
import shutil
import signal
import sys
import time

import numpy as np
import psutil
import pytest
import torch
from diffusers import UNet2DModel
from safetensors.torch import load_file

import msdsr.train.task as task
from msdsr.diffusion.network import load_model
from msdsr.errors import EXIT_RESUME, EXIT_USER_ERROR, Stopped, UserError
from msdsr.manifest import identity, read_manifest
from msdsr.train import train
from msdsr.train.distributed import Ranks
from msdsr.train.metrics import Diary, read_metrics
from msdsr.train.speed import out_of_memory_is_clear

WEIGHTS = "diffusion_pytorch_model.safetensors"
TIMED = ("images_per_s", "seconds")


def outcome(folder):
    """The weights' bytes and every figure of the diary that is not a time."""
    records = read_metrics(folder / "model" / "metrics.jsonl")
    figures = [{k: v for k, v in r.items() if k not in TIMED} for r in records]
    return (folder / "model" / WEIGHTS).read_bytes(), figures


@pytest.fixture
def go(trainset):
    def go(folder, model, **options):
        options = {"seed": 3, "device": "cpu", **options}
        return train(trainset, folder / "model", folder / "work", model=model, **options)

    return go


@pytest.fixture(scope="module")
def whole(trainset, recipe, tmp_path_factory):
    """A training of 20 steps that nothing came between."""
    folder = tmp_path_factory.mktemp("whole")
    train(trainset, folder / "model", folder / "work", model=recipe(), seed=3, device="cpu")
    return outcome(folder)


def at_step(monkeypatch, number, deed):
    """Do something in the middle of one step."""
    true, calls = task.training_loss, []

    def loss(*arguments):
        calls.append(1)
        if len(calls) == number:
            deed()
        return true(*arguments)

    monkeypatch.setattr(task, "training_loss", loss)


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_hundred_steps_sigterm_and_a_hundred_are_two_hundred(go, recipe, tmp_path, monkeypatch):
    model = recipe(images=2 * 200, batch=2, micro_batch=2, validate_every=200)
    before = signal.getsignal(signal.SIGTERM)
    go(tmp_path / "whole", model)
    parts = tmp_path / "parts"
    at_step(monkeypatch, 100, terminate)
    with pytest.raises(Stopped):
        go(parts, model)
    assert signal.getsignal(signal.SIGTERM) is before
    assert not (parts / "model").exists()
    newest = max(p.name for p in (parts / "work" / "states").glob("*.pt"))
    assert newest in ("state-000000000200.pt", "state-000000000202.pt")
    go(parts, model)
    assert outcome(parts) == outcome(tmp_path / "whole")
    assert not (parts / "work").exists()


def test_a_resume_may_take_smaller_micro_batches(go, recipe, tmp_path, whole, monkeypatch):
    at_step(monkeypatch, 10, terminate)
    with pytest.raises(Stopped):
        go(tmp_path, recipe())
    go(tmp_path, recipe(micro_batch=3, keep_checkpoints=5))
    found, expected = (
        np.concatenate([t.numpy().ravel() for t in load_file(p).values()])
        for p in (tmp_path / "model" / WEIGHTS, _written(tmp_path / "other", whole[0]))
    )
    np.testing.assert_allclose(found, expected, atol=1e-4)


def _written(path, content):
    path.write_bytes(content)
    return path


def test_a_budget_stops_and_a_retry_goes_on(go, recipe, tmp_path, whole):
    """Even an attempt without time takes one step, so that retries come to the end."""
    for steps in (1, 2, 3):
        with pytest.raises(Stopped, match="run again"):
            go(tmp_path, recipe(), budget_seconds=0.0)
        newest = max(p.name for p in (tmp_path / "work" / "states").glob("*.pt"))
        assert newest == f"state-{8 * steps:012d}.pt"
    go(tmp_path, recipe(), budget_seconds=600.0)
    assert outcome(tmp_path) == whole


def test_a_damaged_newest_state_costs_only_time(go, recipe, tmp_path, whole, monkeypatch, capsys):
    often = recipe(checkpoint_minutes=1e-9)
    at_step(monkeypatch, 10, terminate)
    with pytest.raises(Stopped):
        go(tmp_path, often)
    newest = sorted((tmp_path / "work" / "states").glob("*.pt"))[-1]
    newest.write_bytes(newest.read_bytes()[:-500])
    go(tmp_path, often)
    assert f"{newest.name} is damaged" in capsys.readouterr().err
    assert outcome(tmp_path) == whole


def test_another_seed_or_recipe_starts_anew(go, recipe, tmp_path, whole, monkeypatch):
    at_step(monkeypatch, 10, terminate)
    with pytest.raises(Stopped):
        go(tmp_path, recipe(), seed=4)
    go(tmp_path, recipe())
    assert outcome(tmp_path) == whole
    go(tmp_path, recipe(), seed=4)
    assert outcome(tmp_path)[0] != whole[0]


def test_killed_and_resumed(start, recipe, tmp_path, whole):
    """SIGKILL in a process of its own, then SIGTERM, then to the end."""
    often = recipe(checkpoint_minutes=1e-9)
    killed = start(tmp_path, often)
    _wait_for(tmp_path / "work" / "states", "*.json", killed)
    killed.kill()
    killed.wait()
    finished = start(tmp_path, often)
    assert finished.wait(timeout=300) == 0, finished.stderr.read()
    assert outcome(tmp_path) == whole


@pytest.mark.slow
def test_sigkill_at_ten_random_moments(start, recipe, tmp_path):
    model = recipe(images=8 * 200, checkpoint_minutes=1e-9)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert start(tmp_path / "a", model).wait(timeout=300) == 0
    rng = np.random.default_rng(0)
    for _ in range(10):
        process = start(tmp_path / "b", model)
        states = tmp_path / "b" / "work" / "states"
        _wait_for(states, "*.json", process)
        time.sleep(rng.uniform(0, 1))
        process.kill()
        process.wait()
    assert start(tmp_path / "b", model).wait(timeout=300) == 0
    assert outcome(tmp_path / "a") == outcome(tmp_path / "b")


@pytest.mark.slow
def test_sigterm_to_a_process_exits_75(start, recipe, tmp_path):
    model = recipe(images=8 * 2000, checkpoint_minutes=60)
    process = start(tmp_path, model)
    _wait_for(tmp_path / "work", "metrics.jsonl", process)
    process.terminate()
    assert process.wait(timeout=60) == EXIT_RESUME
    assert len(list((tmp_path / "work" / "states").glob("*.pt"))) == 1


@pytest.fixture(scope="module")
def shared(trainset, recipe, tmp_path_factory):
    """200 steps on one rank, cut as two ranks would cut them: the sum of two has one order."""
    folder = tmp_path_factory.mktemp("shared")
    model = recipe(images=4 * 200, batch=4, micro_batch=2, validate_every=400, tracking=[])
    train(trainset, folder / "model", folder / "work", model=model, seed=3, device="cpu")
    return model, outcome(folder)


def _wait_for_records(folder, count, process):
    _wait_for(folder / "work", "metrics.jsonl", process)
    while len(read_metrics(folder / "work" / "metrics.jsonl")) < count:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)


@pytest.mark.slow
def test_two_ranks_leave_together_and_end_as_if_nothing_had_been(start, tmp_path, shared):
    """200 steps = about 100, SIGTERM to every process as a cluster sends it, and the rest."""
    model, expected = shared
    process = start(tmp_path, model, gpus=2)
    _wait_for_records(tmp_path, 100, process)
    for one in [psutil.Process(process.pid), *psutil.Process(process.pid).children(True)]:
        one.terminate()
    assert process.wait(timeout=120) == EXIT_RESUME, process.stderr.read()
    assert "Traceback" not in process.stderr.read()
    assert start(tmp_path, model, gpus=2).wait(timeout=300) == 0
    assert outcome(tmp_path) == expected


@pytest.mark.slow
def test_two_ranks_die_with_their_parent_and_one_goes_on(start, tmp_path, shared):
    model, expected = shared
    often = model.model_copy(
        update={"optimiser": model.optimiser.model_copy(update={"checkpoint_minutes": 1e-9})}
    )
    process = start(tmp_path, often, gpus=2)
    _wait_for_records(tmp_path, 20, process)
    ranks = psutil.Process(process.pid).children(True)
    assert len(ranks) >= 3
    process.kill()
    if sys.platform == "linux":
        assert psutil.wait_procs(ranks, timeout=20)[1] == []
    assert start(tmp_path, model).wait(timeout=300) == 0
    assert outcome(tmp_path) == expected


@pytest.mark.slow
def test_a_rank_that_fails_gives_its_line(start, recipe, tmp_path):
    process = start(tmp_path, recipe(network={"image_size": 64}), gpus=2)
    assert process.wait(timeout=300) == EXIT_USER_ERROR
    assert "no training image holds a crop of 64" in process.stderr.read()


def _wait_for(folder, pattern, process):
    deadline = time.monotonic() + 240
    while not list(folder.glob(pattern)):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_processes_on_one_training_are_refused(go, recipe, tmp_path, monkeypatch):
    refused = []

    def again():
        with pytest.raises(UserError, match="another process") as caught:
            go(tmp_path, recipe())
        refused.append(caught.value)

    at_step(monkeypatch, 3, again)
    go(tmp_path, recipe())
    assert len(refused) == 1


def test_out_of_memory_names_a_micro_batch(go, recipe, tmp_path, monkeypatch):
    def full():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    at_step(monkeypatch, 2, full)
    with pytest.raises(UserError, match=r"out of memory with 8 crops.*set it to 4"):
        go(tmp_path, recipe())


def test_out_of_memory_names_what_a_rank_really_holds(recipe):
    full = torch.OutOfMemoryError("CUDA out of memory")
    for settings, world, message in (
        ({"batch": 64, "micro_batch": 64}, 4, "with 16 crops.*set it to 8"),
        ({"batch": 64, "micro_batch": 1}, 1, "with 1 crops.*smaller network"),
    ):
        ranks = Ranks(0, world, torch.device("cpu"))
        with (
            pytest.raises(UserError, match=message),
            out_of_memory_is_clear(recipe(**settings).optimiser, ranks),
        ):
            raise full


def test_a_state_of_another_training_is_refused(go, recipe, tmp_path, monkeypatch):
    """As when states are copied from one work folder to another."""
    for name, seed in (("mine", 3), ("theirs", 4)):
        at_step(monkeypatch, 5, terminate)
        with pytest.raises(Stopped):
            go(tmp_path / name, recipe(), seed=seed)
    states = tmp_path / "mine/work/states"
    shutil.rmtree(states)
    shutil.copytree(tmp_path / "theirs/work/states", states)
    with pytest.raises(UserError, match=r"state-\d+\.pt.*another recipe, seed or training set"):
        go(tmp_path / "mine", recipe())


def test_other_errors_pass_through(go, recipe, tmp_path, monkeypatch):
    def broken():
        raise RuntimeError("shapes do not fit")

    at_step(monkeypatch, 2, broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        go(tmp_path, recipe())


def test_the_release(go, recipe, tmp_path, trainset):
    model = recipe(images=64, validate_every=32)
    manifest = go(tmp_path, model)
    folder = tmp_path / "model"
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md",
        "config.json",
        WEIGHTS,
        "metrics.jsonl",
        "msdsr.json",
        "tracking",
    ]
    ours = load_model(folder)
    theirs = UNet2DModel.from_pretrained(folder, use_safetensors=True).eval()
    x, t = torch.randn(1, 5, 16, 16), torch.tensor([500])
    with torch.no_grad():
        assert torch.equal(ours.network(x, t).sample, theirs(x, t).sample)
    assert ours.channels == ("CH2", "CH3")
    assert ours.objective == model.objective
    card = (folder / "README.md").read_text()
    assert manifest.counts["weights_sha256"] in card
    assert identity(trainset) in card
    assert re.search(r"training images \| 8 of 2 patients", card)
    written = read_manifest(folder)
    assert written.inputs == {"trainset": identity(trainset)}
    assert written.counts["images_seen"] == 64
    assert written.seed == 3


def test_the_diary(go, recipe, tmp_path):
    go(tmp_path, recipe(images=80, validate_every=32))
    records = read_metrics(tmp_path / "model" / "metrics.jsonl")
    assert [r["images"] for r in records if r["kind"] == "train"] == list(range(8, 81, 8))
    validations = [r for r in records if r["kind"] == "validation"]
    assert [r["images"] for r in validations] == [32, 64, 80]
    for record in validations:
        assert record["loss"] == pytest.approx(np.mean([record[f"loss_{f}x"] for f in (2, 4, 8)]))
    assert all(0 < r["loss"] < 2 and r["images_per_s"] > 0 for r in records if r["kind"] == "train")


def test_a_resume_takes_back_what_was_written_after_its_state(tmp_path):
    diary = Diary(tmp_path, 0)
    for images in (8, 16, 24):
        diary.write("train", images, loss=0.5)
    diary.close()
    with (tmp_path / "metrics.jsonl").open("a") as handle:
        handle.write('{"kind": "tr')
    Diary(tmp_path, 16).close()
    assert [r["images"] for r in read_metrics(tmp_path / "metrics.jsonl")] == [8, 16]


def test_without_validation_images_the_card_says_so(recipe, tmp_path, monkeypatch, go):
    import msdsr.train.validation as validation

    monkeypatch.setattr(validation.Validation, "draw", classmethod(lambda cls, *a: None))
    manifest = go(tmp_path, recipe(images=16))
    assert manifest.measured["validation"] is None
    assert "no validation images" in (tmp_path / "model" / "README.md").read_text()


def test_a_frozen_model_is_never_trained(go, recipe, tmp_path):
    frozen = recipe().model_copy(update={"path": "somewhere", "cohorts": []})
    with pytest.raises(UserError, match="never trained"):
        go(tmp_path, frozen)


def test_an_unknown_device_is_refused(go, recipe, tmp_path):
    with pytest.raises(UserError, match="auto, cpu or cuda"):
        go(tmp_path, recipe(), device="abacus")


def test_a_compiler_that_does_not_work_is_done_without(go, recipe, tmp_path, monkeypatch, capsys):
    def broken(network):
        def call(*arguments):
            raise RuntimeError("no C++ compiler")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    go(tmp_path, recipe(images=16, compile=True))
    assert "cannot compile (no C++ compiler); going on without" in capsys.readouterr().err
    assert json.loads((tmp_path / "model" / "config.json").read_text())["sample_size"] == 16
