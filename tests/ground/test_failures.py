"""Tables of slides that failed, and the command that goes on without them."""

import sys

import pytest

from msdsr.errors import UserError
from msdsr.failures import Failure, read_failures, reason_in, teaches, write_failures
from msdsr.finish import command_without_failed


def test_a_table_comes_back_as_it_was_written(tmp_path):
    rows = [
        Failure("A", "P", "train", "ingest", "data", 'raw, "cut" short; µ', "logs/a.log"),
        Failure("B", "Q", "infer", "superresolve", "job", "ended", "logs/b.log"),
    ]
    write_failures(tmp_path / "c/failed.csv", rows)
    assert read_failures(tmp_path / "c/failed.csv") == rows
    assert read_failures(tmp_path / "none.csv") == []
    assert [teaches(row) for row in (*rows, None)] == [False, True, True]


def test_another_table_is_refused(tmp_path):
    (tmp_path / "failed.csv").write_text("slide,why\nA,unknown\n")
    with pytest.raises(UserError, match="not a table of failed slides"):
        read_failures(tmp_path / "failed.csv")


@pytest.mark.parametrize(
    ("text", "cause", "reason"),
    [
        ("ingest: 2 of 3\nmsdsr: error: a.tif: cut short\n", "data", "a.tif: cut short"),
        ("Traceback:\n  in f\nMemoryError\n", "job", "ended after: MemoryError"),
        ("bar 1\rbar 2\r", "job", "ended after: bar 2"),
        ("", "job", "ended without a word: killed, or out of memory or time"),
    ],
)
def test_the_reason_is_the_line_that_matters(tmp_path, text, cause, reason):
    (tmp_path / "a.log").write_text(text)
    assert reason_in(tmp_path / "a.log") == (cause, reason)
    assert reason_in(tmp_path / "missing.log")[0] == "job"


@pytest.mark.parametrize(
    ("arguments", "given", "expected"),
    [
        (["report_a", "-n"], [], "report_a -n --nolock --config without_failed=true"),
        (
            ["--config", "x=1", "y=2", "--profile", "p", "report_a"],
            ["x=1", "y=2"],
            "--profile p report_a --nolock --config x=1 y=2 without_failed=true",
        ),
        (["-C", "x=1"], ["x=1"], "--nolock --config x=1 without_failed=true"),
        (["--config=x=1", "all"], ["x=1"], "all --nolock --config x=1 without_failed=true"),
        (
            ["--cores", "2", "--", "all"],
            ["without_failed=true"],
            "--cores 2 --nolock --config without_failed=true -- all",
        ),
    ],
)
def test_the_command_keeps_its_options_and_its_configuration(arguments, given, expected):
    command = command_without_failed(arguments, given)
    assert command == [sys.executable, "-m", "snakemake", *expected.split()]
