"""Curves beside the diary: what each tracker is told, over stops, and where its files end up."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import msdsr.train.loop as loop
from msdsr.errors import Stopped, UserError
from msdsr.train import train
from msdsr.train.metrics import Diary, read_metrics
from msdsr.train.tracking import open_tracker


def scalars(folder, name):
    board = EventAccumulator(str(folder))
    board.Reload()
    return [(e.step, pytest.approx(e.value, rel=1e-6)) for e in board.Scalars(name)]


def test_tensorboards_files_are_published_and_go_on_after_a_stop(trainset, recipe, tmp_path):
    def go(**options):
        model = recipe(images=64)
        out, work = tmp_path / "model", tmp_path / "work"
        return train(trainset, out, work, model=model, seed=3, device="cpu", **options)

    for _ in range(2):
        with pytest.raises(Stopped):
            go(budget_seconds=0.0)
    go()
    records = read_metrics(tmp_path / "model" / "metrics.jsonl")
    expected = [(r["images"], r["loss"]) for r in records if r["kind"] == "train"]
    board = tmp_path / "model" / "tracking" / "tensorboard"
    assert len(list(board.iterdir())) == 3
    assert scalars(board, "train/loss") == expected
    assert len(scalars(board, "restored/ssim")) == 1


def test_points_after_the_state_are_hidden_by_a_resume(tmp_path):
    first = Diary(tmp_path, 0, {}, ["tensorboard"])
    for images in (8, 16, 24):
        first.write("train", images, loss=images / 8)
    first.close()
    second = Diary(tmp_path, 8, {}, ["tensorboard"])
    second.write("train", 16, loss=20.0)
    second.close()
    found = scalars(tmp_path / "tracking" / "tensorboard", "train/loss")
    assert found == [(8, 1.0), (16, 20.0)]


class Recorder:
    """Stands in for the run of wandb and the client of MLflow."""

    def __init__(self, **options):
        self.options, self.points, self.ended = options, [], 0

    def log(self, values, step):
        self.points.append((step, values))

    def finish(self):
        self.ended += 1

    def get_experiment_by_name(self, name):
        return None

    def create_experiment(self, name):
        return "7"

    def create_run(self, experiment):
        assert experiment == "7"
        return SimpleNamespace(info=SimpleNamespace(run_id=f"run {id(self)}"))

    def log_metric(self, run, name, value, step):
        self.points.append((run, step, name, value))

    def set_terminated(self, run):
        self.ended += 1


@pytest.fixture
def standins(monkeypatch):
    """Modules with the few functions of wandb and MLflow that are used."""
    made = []

    def make(**options):
        made.append(Recorder(**options))
        return made[-1]

    wandb = ModuleType("wandb")
    wandb.init, wandb.Settings = make, SimpleNamespace
    tracking = ModuleType("mlflow.tracking")
    tracking.MlflowClient = make
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setitem(sys.modules, "mlflow", ModuleType("mlflow"))
    monkeypatch.setitem(sys.modules, "mlflow.tracking", tracking)
    return made


def test_wandb_is_offline_and_one_run_over_all_attempts(standins, tmp_path):
    for images in (0, 16):
        diary = Diary(tmp_path, images, {}, ["wandb"])
        diary.write("train", images + 8, loss=0.5, mfu=float("nan"))
        diary.close()
    one, two = standins
    assert one.options["mode"] == "offline"
    assert one.options["id"] == two.options["id"]
    assert one.options["dir"] == str(tmp_path / "tracking")
    assert two.points == [(24, {"train/loss": 0.5, "images": 24})]
    assert (one.ended, two.ended) == (1, 1)


def test_mlflow_writes_files_and_is_one_run_over_all_attempts(standins, tmp_path):
    for images in (0, 16):
        diary = Diary(tmp_path, images, {}, ["mlflow"])
        diary.write("validation", images + 8, loss=0.5)
        diary.close()
    one, two = standins
    assert one.options["tracking_uri"] == (tmp_path / "tracking" / "mlruns").as_uri()
    run = one.points[0][0]
    assert one.points == [(run, 8, "validation/loss", 0.5)]
    assert two.points == [(run, 24, "validation/loss", 0.5)]


@pytest.mark.parametrize("name", ["wandb", "mlflow", "tensorboard"])
def test_a_tracker_that_is_not_installed_is_one_line(monkeypatch, tmp_path, name):
    for module in ("wandb", "mlflow", "mlflow.tracking", "tensorboard"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr("importlib.import_module", _absent)
    with pytest.raises(UserError, match=rf"optimiser\.tracking.*{name}.*pip install"):
        open_tracker(name, tmp_path, 0)


def _absent(name):
    raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_a_validation_repeated_after_a_kill_stands_once(trainset, recipe, tmp_path, monkeypatch):
    """Killed after a validation was written down and before its state was saved."""
    true = loop.Check

    def killed(kind, every, measure):
        def measure_and_die():
            figures = measure()
            if kind == "validation" and not dead:
                dead.append(1)
                raise KeyboardInterrupt
            return figures

        return true(kind, every, measure_and_die)

    dead = []
    monkeypatch.setattr(loop, "Check", killed)
    model = recipe(images=96, validate_every=32, validate_restored_every=32, tracking=[])
    calls = {"model": model, "seed": 3, "device": "cpu"}
    with pytest.raises(KeyboardInterrupt):
        train(trainset, tmp_path / "model", tmp_path / "work", **calls)
    train(trainset, tmp_path / "model", tmp_path / "work", **calls)
    records = read_metrics(tmp_path / "model" / "metrics.jsonl")
    for kind in ("validation", "restored"):
        assert [r["images"] for r in records if r["kind"] == kind] == [32, 64, 96]
