import json
import signal
import subprocess
import sys
import time

import pytest

from msdsr.errors import UserError
from msdsr.manifest import Manifest, manifest_path, read_manifest
from msdsr.volume import Helper, Work
from msdsr.volume.ledger import Ledger


def test_ledger_goes_on_after_a_kill(tmp_path):
    with Work(tmp_path / "work", {"a": 1}) as work:
        work.record("s1", sha="x")
    with (tmp_path / "work" / "ledger.jsonl").open("a") as handle:
        handle.write('{"key": "s2", "sh')
    with Work(tmp_path / "work", {"a": 1}) as work:
        assert work.done() == {"s1": {"sha": "x"}}
        work.record("s2")
    with Work(tmp_path / "work", {"a": 1}) as work:
        assert set(work.done()) == {"s1", "s2"}


def test_another_plan_sets_old_work_aside(tmp_path):
    with Work(tmp_path / "work", {"a": 1}) as work:
        work.record("s1")
        (work.path / "part").write_text("old")
    with Work(tmp_path / "work", {"a": 2}) as work:
        assert work.done() == {}
        assert not (work.path / "part").exists()
    assert (tmp_path / "work.stale" / "part").read_text() == "old"


def test_two_processes_on_one_plan_are_refused(tmp_path):
    code = (
        "import sys, time; from msdsr.volume.resume import Work\n"
        "with Work(sys.argv[1], {'a': 1}): print('in', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "work")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout.readline() == "in\n"
        with pytest.raises(UserError, match="another process"), Work(tmp_path / "work", {"a": 1}):
            pass
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    with Work(tmp_path / "work", {"a": 1}) as work:
        assert work.done() == {}


def test_publish_is_the_last_thing_and_leaves_nothing(tmp_path):
    product = tmp_path / "results" / "raw.ome.zarr"
    with Work(tmp_path / "work", {"a": 1}) as work:
        (work.path / "raw.ome.zarr").mkdir()
        (work.path / "raw.ome.zarr" / "zarr.json").write_text("{}")
        work.publish_product(
            work.path / "raw.ome.zarr", product, Manifest(stage="test", algorithm=1)
        )
    assert product.is_dir()
    assert read_manifest(product).product == "raw.ome.zarr"
    assert manifest_path(product).name == "raw.json"
    assert not (tmp_path / "work").exists()


def test_what_a_killed_write_left_in_a_store_is_not_published(tmp_path):
    with Work(tmp_path / "work", {}) as work:
        chunks = work.path / "a.zarr" / "c"
        chunks.mkdir(parents=True)
        (chunks / "0").write_bytes(b"chunk")
        (chunks / "0.5f3c.partial").write_bytes(b"chu")
        work.publish({work.path / "a.zarr": tmp_path / "a.zarr"})
    assert [p.name for p in (tmp_path / "a.zarr").rglob("*") if p.is_file()] == ["0"]


def test_nothing_is_published_when_a_part_is_missing(tmp_path):
    with Work(tmp_path / "work", {}) as work:
        (work.path / "a").write_text("a")
        with pytest.raises(FileNotFoundError, match="never made"):
            work.publish({work.path / "a": tmp_path / "a", work.path / "b": tmp_path / "b"})
    assert not (tmp_path / "a").exists()


@pytest.fixture
def cut_short(tmp_path, monkeypatch):
    """Work that is killed between the renames of its two products."""
    from msdsr.volume import resume

    def die(source, target):
        if target.name == "b":
            raise KeyboardInterrupt
        rename(source, target)

    rename = resume.replace_path
    monkeypatch.setattr(resume, "replace_path", die)
    with pytest.raises(KeyboardInterrupt), Work(tmp_path / "work", {}) as work:  # noqa: PT012
        work.record("s1")
        for name in "ab":
            (work.path / name).write_text(name)
        (work.path / "checkpoint").touch()
        work.publish({work.path / name: tmp_path / name for name in "ab"})
    monkeypatch.undo()
    assert (tmp_path / "a").exists()
    return tmp_path


def test_a_publication_cut_short_is_taken_back_and_done_again(cut_short):
    for _ in range(2):  # being killed again at once changes nothing
        with Work(cut_short / "work", {}) as work:
            assert set(work.done()) == {"s1"}
            assert (work.path / "a").read_text() == "a"
    with Work(cut_short / "work", {}) as work:
        work.publish({work.path / name: cut_short / name for name in "ab"})
    assert (cut_short / "a").read_text() + (cut_short / "b").read_text() == "ab"
    assert not (cut_short / "work").exists()


def test_a_product_deleted_since_empties_the_ledger_but_keeps_the_rest(cut_short):
    (cut_short / "a").unlink()  # as Snakemake does before it runs a job again
    with Work(cut_short / "work", {}) as work:
        assert work.done() == {}
        assert (work.path / "checkpoint").exists()


def test_seconds_add_up_over_attempts(tmp_path):
    for _ in range(3):
        with Work(tmp_path / "work", {}):
            time.sleep(0.05)
    attempts = (tmp_path / "work" / "ledger.jsonl").read_text().splitlines()
    total = sum(json.loads(line)["seconds"] for line in attempts)
    with Work(tmp_path / "work", {}) as work:
        assert work.seconds() == pytest.approx(total, abs=0.04)


def test_plan_is_readable(tmp_path):
    with Work(tmp_path / "work", {"model": "abc"}) as work:
        record = json.loads((work.path / "plan.json").read_text())
    assert record["plan"] == {"model": "abc"}


def test_parts_work_side_by_side_and_are_joined(tmp_path):
    with Work(tmp_path / "work", {}, "1-of-2") as one, Work(tmp_path / "work", {}, "2-of-2") as two:
        one.record("a")
        two.record("b")
        assert set(one.done()) == set(two.done()) == {"a", "b"}
        with pytest.raises(ValueError, match="publishes nothing"):
            one.publish({})
        with pytest.raises(UserError, match="part 1-of-2: another process"):
            Work(tmp_path / "work", {}, "1-of-2").__enter__()
        with pytest.raises(UserError, match="another process"), Work(tmp_path / "work", {}):
            pass
        with pytest.raises(UserError, match="another process"), Work(tmp_path / "work", {"new": 1}):
            pass
    with Work(tmp_path / "work", {}) as whole:
        assert set(whole.done()) == {"a", "b"}
        with (
            pytest.raises(UserError, match="another process"),
            Work(tmp_path / "work", {}, "1-of-2"),
        ):
            pass


def test_a_part_under_another_plan_sets_old_work_aside(tmp_path):
    with Work(tmp_path / "work", {"a": 1}, "1-of-2") as old:
        old.record("s1")
    with Work(tmp_path / "work", {"a": 2}, "2-of-2") as new:
        assert new.done() == {}
    assert (tmp_path / "work.stale" / "ledger.part-1-of-2.jsonl").exists()


def test_a_claim_is_one_process_s_until_it_ends(tmp_path):
    with Work(tmp_path / "work", {}) as work, work.claim("b1") as claim:
        assert claim.acquire()
        assert not Helper(work.path, "worker-1").claim("b1").acquire()
        claim.release()
        with Helper(work.path, "worker-1").claim("b1") as other:
            assert other.acquire()


def test_a_publication_cut_short_speaks_for_all_ledgers(tmp_path, monkeypatch):
    """What parts recorded must not outlive the store that it speaks of."""
    from msdsr.volume import resume

    with Work(tmp_path / "work", {}, "1-of-1") as part:
        part.record("s1")
    with Work(tmp_path / "work", {}) as work:
        (work.path / "a").write_text("a")
        monkeypatch.setattr(resume.shutil, "rmtree", lambda path: None)  # killed before it
        work.publish({work.path / "a": tmp_path / "a"})
    monkeypatch.undo()
    assert [file.name for file in (tmp_path / "work").glob("ledger*")] == ["ledger.jsonl"]
    (tmp_path / "a").unlink()  # as Snakemake does before it runs a job again
    with Work(tmp_path / "work", {}) as work:
        assert work.done() == {}


def test_a_torn_ledger_line_is_left_out_and_cut_off(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append("a")
    with ledger.path.open("a") as handle:
        handle.write('{"key": "b", "n"')
    assert Ledger(ledger.path).read() == [("a", {})]
    Ledger(ledger.path).append("c", n=1)
    assert Ledger(ledger.path).read() == [("a", {}), ("c", {"n": 1})]
