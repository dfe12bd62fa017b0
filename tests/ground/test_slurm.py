"""What `msdsr cluster recover` does, with stand-ins for Slurm's commands."""

import subprocess
import time

import pytest

from msdsr.errors import UserError
from msdsr.slurm import LeftJob, recover

RUN = "msdsr_0f8fad5b-d9cb-469f-a165-70867728950e"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder in which Snakemake has run, and a queue that scancel empties."""
    lab = tmp_path / "a lab's clone"
    (lab / ".snakemake/locks").mkdir(parents=True)
    (lab / ".snakemake/locks/0.input.lock").touch()
    queue = tmp_path / "queue"
    (tmp_path / "bin").mkdir()
    for name, does in {
        "squeue": f"cat {queue}",
        "scancel": f'echo "$@" > {tmp_path}/cancelled;'
        f' grep -v "|RUNNING|rule_s" {queue} > {queue}.new; mv {queue}.new {queue}',
    }.items():
        program = tmp_path / "bin" / name
        program.write_text(f"#!/bin/sh\n{does}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    fill(
        lab,
        (7, RUN, "rule_superresolve_slide_wildcards_tiny_P1", lab),
        (8, RUN, "rule_superresolve_slide_wildcards_tiny_P2", lab / "another"),
        (9, "my own job", "rule_superresolve_slide", lab),
    )
    return lab


def fill(lab, *jobs):
    lines = [f"{n}|{name}|RUNNING|{comment}|{where}\n" for n, name, comment, where in jobs]
    (lab.parent / "queue").write_text("".join(lines))


def test_the_jobs_of_the_folder_are_cancelled_and_no_others(folder):
    assert recover(folder) == [LeftJob("7", "superresolve_slide tiny_P1")]
    assert (folder.parent / "cancelled").read_text() == "7\n"
    assert not (folder / ".snakemake/locks").exists()
    assert recover(folder) == []


def test_a_snakemake_at_work_is_left_alone(folder):
    program = folder.parent / "bin/snakemake"
    program.write_text("#!/bin/sh\nsleep 30\n")
    program.chmod(0o755)
    with subprocess.Popen([program], cwd=folder) as process:
        time.sleep(0.2)
        try:
            with pytest.raises(UserError, match=f"at work here \\(process {process.pid}\\)"):
                recover(folder)
        finally:
            process.kill()
    assert not (folder.parent / "cancelled").exists()
    assert (folder / ".snakemake/locks").exists()


def test_jobs_that_do_not_end_keep_the_folder_locked(folder):
    fill(folder, (7, RUN, "rule_train_model_wildcards_own", folder))
    with pytest.raises(UserError, match="1 jobs have not ended"):
        recover(folder, patience=0)
    assert (folder / ".snakemake/locks").exists()


def test_where_there_is_no_slurm_or_no_run_one_line_says_so(folder, monkeypatch):
    with pytest.raises(UserError, match="no Snakemake has run here"):
        recover(folder.parent)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="squeue: no such command"):
        recover(folder)
    assert (folder / ".snakemake/locks").exists()
