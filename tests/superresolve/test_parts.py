"""Parts on several nodes, and workers on one: the same bytes in the end."""

import json
import os
import signal
import subprocess
import threading
import time

import pytest
import torch

from msdsr.cli import app
from msdsr.errors import Stopped, UserError
from msdsr.manifest import read_manifest
from msdsr.superresolve import Part, blocks, superresolve, superresolve_part, workers
from msdsr.superresolve.blocks import fitting_side
from msdsr.volume import Region, ShardGrid

from .conftest import bytes_of, ended


@pytest.fixture
def arguments(tmp_path, wide_slide, make_model):
    """What the stage is called with for the wide slide."""
    path, settings = wide_slide
    model = make_model()

    def of(name, **options):
        return {
            "volume": path, "out": tmp_path / "results" / f"{name}.ome.zarr",
            "work": tmp_path / "work" / name, "method": "msdsr", "factor": 2,
            "settings": settings, "model": model, "device": "cpu", **options,
        }  # fmt: skip

    return of


@pytest.fixture
def call(arguments):
    """Run the stage, or a part of it; the store's files come back."""

    def run(name, part=None, **options):
        chosen = arguments(name, **options)
        if part is not None:
            return superresolve_part(part=Part.parse(part), **chosen)
        superresolve(**chosen)
        return bytes_of(chosen["out"])

    return run


def test_parts_in_any_order_make_the_whole(call, tmp_path):
    whole = call("whole")
    done = [call("parts", part) for part in ("2/3", "3-of-3", "1/3")]
    assert [d.blocks for d in done] == [2, 2, 2]
    assert not (tmp_path / "results" / "parts.ome.zarr").exists()
    assert call("parts", finish=True) == whole
    assert not (tmp_path / "work" / "parts").exists()
    first, second = (read_manifest(tmp_path / "results" / f"{n}.json") for n in ("whole", "parts"))
    assert first.counts == second.counts
    assert first.measured["tiles"] == second.measured["tiles"] > 0


def test_parts_that_start_at_the_same_moment_make_the_whole(call, arguments, stage_process):
    whole = call("whole")
    parts = [stage_process(**arguments("parts"), part=part) for part in ("1/3", "2/3", "3/3")]
    assert [ended(part) for part in parts] == [0, 0, 0]
    assert call("parts", finish=True) == whole


def test_what_parts_left_the_whole_run_restores(call):
    call("parts", "2/4")
    assert call("parts") == call("whole")


def test_a_finish_without_all_parts_is_refused(call, tmp_path):
    call("parts", "1/2")
    with pytest.raises(UserError, match="3 of 6 blocks are not restored"):
        call("parts", finish=True)
    assert (tmp_path / "work" / "parts").exists()


def test_more_parts_than_blocks_leave_some_empty(call):
    counts = [call("parts", f"{i}/8").blocks for i in range(1, 9)]
    assert sum(counts) == 6
    assert set(counts) == {0, 1}


def test_a_part_under_other_settings_sets_the_work_aside(call, tmp_path, wide_slide):
    call("parts", "1/2")
    other = wide_slide[1].model_copy(update={"steps": 3})
    call("parts", "1/2", settings=other)
    assert (tmp_path / "work" / "parts.stale" / "plan.json").exists()
    with pytest.raises(UserError, match="3 of 6"):
        call("parts", finish=True, settings=other)


HOLD = """
import time
from pathlib import Path
from msdsr.superresolve import superresolve as _
import sys
stage = sys.modules["msdsr.superresolve.superresolve"]
def wait(blocks, filler, writer, place, *arguments, **options):
    (place.path / "here").touch()
    time.sleep(60)
stage.restore_blocks = wait
"""


def test_a_part_that_is_being_worked_on_is_refused(call, arguments, stage_process, tmp_path):
    part = stage_process(HOLD, **arguments("parts"), part="1/2")
    try:
        while not (tmp_path / "work" / "parts" / "here").exists():
            assert part.is_alive()
            time.sleep(0.02)
        with pytest.raises(UserError, match="part 1-of-2: another process works here"):
            call("parts", "1/2")
        with pytest.raises(UserError, match="parts: another process works here"):
            call("parts")
        assert call("parts", "2/2").blocks == 3
    finally:
        part.kill()
        assert ended(part) == -signal.SIGKILL
    call("parts", "1/2")


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/2/3", "-1/2"])
def test_parts_that_are_none_are_refused(text):
    with pytest.raises(UserError, match="such as 2/3"):
        Part.parse(text)


def test_parts_are_all_blocks_once():
    blocks = [Region(0, 1, i, i + 1, 0, 1) for i in range(10)]
    for count in (1, 3, 7, 10, 13):
        parts = [Part(i, count).of(blocks) for i in range(1, count + 1)]
        assert [block for part in parts for block in part] == blocks
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_blocks_shrink_until_they_fit():
    grid = ShardGrid((1, 4, 100, 70), (1, 4, 10, 10), (1, 4, 10, 10))

    class Area:
        def memory(self, region):
            return region.shape[1] * region.shape[2]

    assert fitting_side(grid, Area(), 7000) == 100
    assert fitting_side(grid, Area(), 6999) == 50
    assert fitting_side(grid, Area(), 900) == 25  # 30 × 30 pixels: whole shards
    assert fitting_side(grid, Area(), 1) == 10


def test_automatic_blocks_are_chosen_once(call, wide_slide, monkeypatch, tmp_path):
    settings = wide_slide[1].model_copy(update={"block": "auto"})
    with monkeypatch.context() as small:
        small.setattr(blocks, "HOST_BYTES", 1)
        assert call("parts", "1/2", settings=settings).blocks == 3
    # Another node, with more memory, goes on with the blocks that were begun.
    assert call("parts", "2/2", settings=settings).blocks == 3
    call("parts", finish=True, settings=settings)
    assert read_manifest(tmp_path / "results" / "parts.json").settings["block"] == 16


def test_workers_make_the_same_bytes_and_take_over_from_the_killed(
    call, tmp_path, monkeypatch, capfd
):
    whole = call("whole")
    started = []
    popen = subprocess.Popen

    def start(*arguments, **options):
        started.append(popen(*arguments, **options))
        if len(started) == 1:  # dies with a claim, or before it: both must be made good
            started[0].kill()
        return started[-1]

    monkeypatch.setattr(workers.subprocess, "Popen", start)
    assert call("crew", gpus=2) == whole
    assert len(started) >= 3
    assert "worker 0 died (signal 9)" in capfd.readouterr().err


def test_a_worker_s_mistake_is_told_in_one_line(call, wide_slide, monkeypatch):
    prepared = workers.Request.to_json

    def elsewhere(self):
        return {**prepared(self), "model": "/nowhere"}

    monkeypatch.setattr(workers.Request, "to_json", elsewhere)
    with pytest.raises(UserError, match="/nowhere: no such folder"):
        call("crew", gpus=2)


def test_workers_that_die_again_and_again_are_given_up(call, monkeypatch):
    monkeypatch.setattr(workers, "DEATHS_EACH", 1)
    monkeypatch.setattr(workers.sys, "executable", "/bin/false")
    with pytest.raises(UserError, match=r"3 workers died \(the last: exit code 1\)"):
        call("crew", gpus=2)


def test_sigterm_ends_workers_and_says_so(call, monkeypatch):
    begun = threading.Event()
    start = workers._Crew._start

    def note(self, rank):
        begun.set()
        return start(self, rank)

    monkeypatch.setattr(workers._Crew, "_start", note)

    def terminate():
        begun.wait()
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=terminate)
    thread.start()
    with pytest.raises(Stopped, match="run again to go on"):
        call("crew", gpus=2)
    thread.join()


def test_a_request_survives_its_journey(wide_slide, tmp_path):
    path, settings = wide_slide
    request = workers.Request(path, "msdsr", 3, settings, tmp_path, 7)
    assert workers.Request.from_json(json.loads(json.dumps(request.to_json()))) == request


def test_the_command_line_restores_parts_and_joins_them(arguments, capsys):
    call = arguments("cli")
    command = [
        "superresolve", str(call["volume"]), str(call["out"]), "--factor", "2", "--work",
        str(call["work"]), "--model", str(call["model"]), "--device", "cpu", "--settings",
        call["settings"].model_dump_json(),
    ]  # fmt: skip

    def run(*more):
        return app([*command, *more], standalone_mode=False)

    run("--part", "1/2")
    run("--part", "2-of-2")
    assert capsys.readouterr().out.splitlines() == [
        "superresolve: part 1-of-2, 3 of 6 blocks", "superresolve: part 2-of-2, 3 of 6 blocks",
    ]  # fmt: skip
    with pytest.raises(UserError, match="--finish: given with --part"):
        run("--part", "1/2", "--finish")
    run("--finish")
    assert call["out"].exists()


def test_a_block_that_does_not_fit_is_told_in_one_line(call, monkeypatch):
    from msdsr.superresolve.diffused import Diffused

    def full(self, *inputs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Diffused, "restore", full)
    with pytest.raises(UserError, match=r"does not fit the memory of cpu; .*superresolve.block"):
        call("full")


def test_a_gpu_s_free_memory_bounds_a_block(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (60 * 10**9, 80 * 10**9))
    assert blocks.memory_budget(torch.device("cuda")) == 30 * 10**9
    assert blocks.memory_budget(torch.device("cpu")) == 2 * 10**9
