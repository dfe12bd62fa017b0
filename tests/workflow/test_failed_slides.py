"""Slides that fail, as a whole run sees them; the stand-in takes the place of the stages."""

import csv

import pytest


def read_failed(project, cohort="c"):
    with (project.folder / f"results/{cohort}/failed.csv").open(newline="") as handle:
        return {row["slide"]: row for row in csv.DictReader(handle)}


def write_raw(project, **texts):
    (project.folder / "raw").mkdir(exist_ok=True)
    for slide, text in texts.items():
        (project.folder / f"raw/{slide}.tif").write_text(text)


@pytest.fixture
def lab(project):
    """A cohort `c` of six slides with a frozen model; what its raw files hold is up to the test."""
    project.use_standin()
    project.frozen_model("frozen")
    splits = {"A": "infer", "B": "infer", "C": "infer", "V": "val", "W": "val"}
    project.sheet("c", [(s, f"P{s}", split, f"raw/{s}.tif", "") for s, split in splits.items()])
    write_raw(project, **dict.fromkeys(splits, "right"))
    project.config(
        {
            "cohorts": {"c": {"sheet": "config/cohorts/c.tsv", "model": "frozen"}},
            "models": {"frozen": {"path": "resources/models/frozen"}},
            "evaluate": {"inception": "raw/V.tif"},
        }
    )
    return project


def verbs(commands):
    """Return each command as the verb and the slide it is about."""
    return [
        (call[0], next((a for a in call if a.startswith("results/c/slides")), ""))
        for call in commands
    ]


def test_the_rest_is_reported_and_a_repaired_file_makes_what_is_missing(lab):
    write_raw(lab, B="wrong: cut short; copy it again", W="killer")
    said = lab.run("--retries", "0", expect=1)
    assert (lab.folder / "results/c/report/index.html").exists()
    assert "slide B failed in ingest" in said
    failed = read_failed(lab)
    assert list(failed) == ["B", "W"]
    assert failed["B"] == {
        "slide": "B", "patient": "PB", "split": "infer", "stage": "ingest", "cause": "data",
        "reason": "raw/B.tif: wrong: cut short; copy it again",
        "log": "results/logs/ingest/c/B.log",
    }  # fmt: skip
    assert failed["W"]["cause"] == "job"
    assert "3 of 7 shards" in failed["W"]["reason"]
    for product in ("report", "evaluate"):
        assert any("--without-failed" in call for call in lab.commands() if call[0] == product)
    before = lab.commands()

    # As it is, every run tries them again, makes nothing else, and ends with an error.
    lab.run("--retries", "0", expect=1)
    assert {verb for verb, _ in verbs(lab.commands()[len(before) :])} == {"ingest"}
    assert set(read_failed(lab)) == {"B", "W"}
    before = lab.commands()

    write_raw(lab, B="right", W="right")
    lab.run("--retries", "0")
    assert not (lab.folder / "results/c/failed.csv").exists()
    later = lab.commands()[len(before) :]
    restored = [call[1].split("/")[3] for call in later if call[0] == "superresolve"]
    assert set(restored) == {"B"}  # the slide, and its held-out planes
    assert sorted(call[1] for call in later if call[0] == "ingest") == ["raw/B.tif", "raw/W.tif"]
    assert "Nothing to be done" in lab.run()


def test_a_run_that_was_not_to_keep_going_stops(lab):
    write_raw(lab, B="wrong")
    lab.snakemake("--cores", "1", expect=1)
    assert set(read_failed(lab)) == {"B"}
    assert not (lab.folder / "results/c/report").exists()


def test_a_training_goes_on_without_a_wrong_slide_and_waits_for_one_broken_off(lab):
    splits = {"A": "infer", "T": "train", "U": "train", "V": "val"}
    lab.sheet("c", [(s, f"P{s}", split, f"raw/{s}.tif", "") for s, split in splits.items()])
    write_raw(lab, T="wrong", U="right")
    lab.config(
        {
            "cohorts": {"c": {"sheet": "config/cohorts/c.tsv", "model": "own"}},
            "models": {"own": {"preset": "tiny", "cohorts": ["c"]}},
            "evaluate": {"inception": "raw/V.tif"},
        }
    )
    write_raw(lab, U="killer")
    lab.run("--retries", "0", expect=1)
    assert {s: row["cause"] for s, row in read_failed(lab).items()} == {"T": "data", "U": "job"}
    assert not any(call[0] == "train" for call in lab.commands())
    write_raw(lab, U="right")
    lab.run("--retries", "0", expect=1)
    assert set(read_failed(lab)) == {"T"}
    assert sum(call[0] == "train" for call in lab.commands()) == 1
    assert (lab.folder / "results/c/report/index.html").exists()
