import itertools

import pytest

from msdsr import progress as module
from msdsr.progress import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by 25 s with every look."""
    ticks = itertools.count(0, 25)
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(ticks)))


def test_a_log_gets_a_plain_line_a_minute(clock, capsys):
    with progress("train", total=8, unit="crops", done=2) as bar:
        for _ in range(6):
            bar.advance()
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 4
    assert lines[-1].startswith("train: 8/8 crops, ")
    assert len(set(lines)) == len(lines)
    assert all("\x1b" not in line for line in lines)


def test_a_short_stage_prints_nothing(capsys):
    with progress("patch", total=2) as bar:
        bar.advance(2)
    assert capsys.readouterr().err == ""
