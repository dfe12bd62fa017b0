"""Killed at any moment, a volume comes out the same to the byte."""

import os
import random
import signal
import time

import numpy as np
import pytest

from msdsr.cli import run_guarded
from msdsr.diffusion.denoiser import NetworkDenoiser
from msdsr.errors import EXIT_RESUME
from msdsr.superresolve import Preview, superresolve

from .conftest import bytes_of, ended

KILLS = 20

DIE = """
import os, signal, sys
left = [AFTER]
def count(event, arguments):
    if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(count)
"""
"""A SIGKILL before something is done to a file for the n-th time: between any two of them."""


@pytest.fixture
def arguments(tmp_path, wide_slide, make_model):
    path, settings = wide_slide
    settings = settings.model_copy(update={"checkpoint_minutes": 0.0})
    model = make_model()

    def of(name, **changed):
        return {
            "volume": path, "out": tmp_path / "results" / f"{name}.ome.zarr",
            "work": tmp_path / "work" / name, "method": "msdsr", "factor": 2,
            "settings": settings.model_copy(update=changed), "model": model, "device": "cpu",
        }  # fmt: skip

    return of


def test_twenty_kills_at_random_moments_change_nothing(arguments, stage_process, tmp_path):
    superresolve(**arguments("whole"))
    whole = bytes_of(arguments("whole")["out"])
    moments = random.Random(5)
    kills = by_clock = runs = 0
    while kills < KILLS:
        runs += 1
        call = arguments(f"run-{runs}")
        while True:
            at_a_file = kills % 4 != 3
            after = moments.randint(20, 250) if at_a_file else 1 << 40
            process = stage_process(DIE.replace("AFTER", str(after)), **call)
            if not at_a_file:
                time.sleep(moments.uniform(0.1, 0.5))
                process.kill()
            code = ended(process)
            if code == 0:
                break
            assert code == -signal.SIGKILL
            kills += 1
            by_clock += not at_a_file
        assert bytes_of(call["out"]) == whole
        assert not call["work"].exists()
        left = {path.name for path in call["out"].parent.glob(f"*run-{runs}*")}
        assert left - {f".run-{runs}.ome.zarr.old"} == {f"run-{runs}.ome.zarr", f"run-{runs}.json"}
    assert by_clock >= 4


@pytest.mark.parametrize(
    "settings",
    [
        {"mode": "average", "steps": 3},
        {"mode": "joint", "steps": 4, "order": 2},
        {"mode": "alternate", "steps": 4, "noise_strength": 0.5, "noise_length": 1.0},
    ],
)
def test_a_block_goes_on_from_the_step_it_had_reached(arguments, monkeypatch, settings):
    call = NetworkDenoiser.__call__
    calls = []

    def counting(self, *inputs):
        calls.append(1)
        if len(calls) == dies_at:
            raise KeyboardInterrupt
        return call(self, *inputs)

    monkeypatch.setattr(NetworkDenoiser, "__call__", counting)
    dies_at = None
    superresolve(**arguments("whole", block=64, **settings))
    in_all = len(calls)
    calls.clear()
    dies_at = int(0.8 * in_all)
    with pytest.raises(KeyboardInterrupt):
        superresolve(**arguments("cut", block=64, **settings))
    calls.clear()
    dies_at = None
    superresolve(**arguments("cut", block=64, **settings))
    assert len(calls) < in_all / 2
    assert bytes_of(arguments("cut")["out"]) == bytes_of(arguments("whole")["out"])


def test_nothing_is_saved_before_its_time(arguments, tmp_path, monkeypatch):
    monkeypatch.setattr("msdsr.superresolve.saved.SavedSteps.save", None)
    superresolve(**arguments("whole", checkpoint_minutes=10.0))


def test_sigterm_saves_the_step_and_ends_with_a_line(arguments, monkeypatch, capfd, tmp_path):
    call = NetworkDenoiser.__call__
    calls = []

    def terminated(self, *inputs):
        calls.append(1)
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return call(self, *inputs)

    late = {"checkpoint_minutes": 10.0}
    monkeypatch.setattr(NetworkDenoiser, "__call__", terminated)
    code = run_guarded(lambda: superresolve(**arguments("cut", **late)))
    assert code == EXIT_RESUME
    assert capfd.readouterr().err.splitlines()[-1] == (
        "msdsr: superresolve: stopped; what is done is kept: run again to go on"
    )
    assert len(list((tmp_path / "work" / "cut" / "steps").glob("*.safetensors"))) == 1
    superresolve(**arguments("cut", **late))
    superresolve(**arguments("whole", **late))
    assert bytes_of(arguments("cut")["out"]) == bytes_of(arguments("whole")["out"])


def test_pictures_while_it_runs(arguments, tmp_path):
    from PIL import Image

    call = arguments("shown", block=64, mode="xz", steps=5)
    superresolve(**call, preview=Preview(tmp_path / "pictures", 2))
    files = sorted((tmp_path / "pictures").iterdir())
    assert [file.name for file in files] == [
        f"z0-3_y0-20_x0-40_walk-0_step-{step:04}.png" for step in (2, 4)
    ]
    with Image.open(files[-1]) as picture:
        grey = np.asarray(picture)
    assert grey.shape == (2 * 16, 40)  # two channels of a window of 16 rows
    assert grey.std() > 10
