"""What a user gets wrong ends in one line and exit code 2, whatever the verb."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from msdsr.cli_options import left_of_job


def msdsr(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "msdsr", *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}, check=False,
    )  # fmt: skip


VERBS = [
    "ingest", "patch", "denoise", "trainset", "train", "superresolve", "evaluate", "report",
    "phantom", "fetch", "config", "export", "compare", "view",
]  # fmt: skip
INGEST = ["--slide", "S1", "--patient", "P1", "--channels", "a", "--work", "work"]


@pytest.fixture
def bad(tmp_path):
    stack = np.zeros((4, 32, 32), np.uint16)
    tifffile.imwrite(tmp_path / "whole.tif", stack, photometric="minisblack")
    data = (tmp_path / "whole.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(data[: len(data) // 2])
    (tmp_path / "key.yaml").write_text("superresolve: {factrs: [2]}\n")
    (tmp_path / "split.yaml").write_text(
        "cohorts: {c: {sheet: c.tsv, model: m}}\nmodels: {m: {path: .}}\n"
    )
    (tmp_path / "c.tsv").write_text(
        "slide\tpatient\tpath\tsplit\tz_um\ty_um\tx_um\tchannels\tnotes\n"
        "S1\tP1\twhole.tif\ttrain\t1\t0.5\t0.5\ta\t\n"
        "S2\tP1\twhole.tif\tval\t1\t0.5\t0.5\ta\t\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["ingest", "none.tif", "raw.ome.zarr", "--voxel-um", "1,1,1", *INGEST], "no such file"),
        (["config", "check", "key.yaml"], "did you mean 'factors'?"),
        (["config", "check", "split.yaml"], "patient 'P1' is in the splits train and val"),
        (["ingest", "cut.tif", "raw.ome.zarr", "--voxel-um", "1,1,1", *INGEST], "whole TIFF"),
        (["ingest", "whole.tif", "raw.ome.zarr", "--voxel-um", "0,1,1", *INGEST], "above 0"),
        (["patch", "none.ome.zarr", "p.parquet"], "not a Zarr store"),
        (["patch", "none.ome.zarr", "p.parquet", "--settings", '{"sise": 3}'], "'size'?"),
        (["superresolve", "v", "o", "--work", "w", "--factor", "9"], "from 2 to 8, or auto"),
        (["trainset", "build", "t.zarr", "--sheet", "c", "--work", "work"], "NAME=PATH"),
    ],
)
def test_one_clear_line_and_exit_code_2(bad, command, words):
    before = sorted(p.name for p in bad.rglob("*"))
    done = msdsr(*command, cwd=bad)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("msdsr: error: ")
    assert words in done.stderr
    assert sorted(p.name for p in bad.rglob("*")) == before


def test_every_verb_has_help(tmp_path):
    done = msdsr("--help", cwd=tmp_path)
    assert done.returncode == 0
    for verb in VERBS:
        assert verb in done.stdout


def test_a_right_command_says_what_it_made(bad):
    done = msdsr("ingest", "whole.tif", "raw.ome.zarr", "--voxel-um", "1,0.5,0.5", *INGEST, cwd=bad)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ingest: raw.ome.zarr (channels 1, planes 4")
    assert (bad / "raw.json").exists()


def test_a_job_s_limit_leaves_time_for_what_is_before_and_after_the_command():
    assert left_of_job(24 * 3600) == 24 * 3600 - 180
    assert left_of_job(60) == 0
