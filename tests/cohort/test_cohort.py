"""A cohort that is added: checked against its files, estimated, written into the configuration."""

import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

from msdsr.cli import app, run_guarded
from msdsr.cohort import CheckedSlide, check_slides, cohort_block, estimate_cohort, with_cohort
from msdsr.cohort.rates import earlier_runs
from msdsr.config import Config
from msdsr.configfile import read_config
from msdsr.manifest import Manifest, write_manifest
from msdsr.sheet import read_sheet

HEAD = "slide\tpatient\tpath\tsplit\tz_um\ty_um\tx_um\tchannels\tnotes\n"
CONFIG = """\
# A lab's own words.
seed: 3 # not to be changed

cohorts:
    # the first one
    january:
        sheet: january.tsv # 12 slides
        model: srh

# what restores them
models:
    srh:
        path: released
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A folder with a configuration, a model's files, and a sheet of two good slides."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "released").symlink_to(model_of_the_demo())
    for name in ("A", "B"):
        write_stack(tmp_path / f"{name}.tif", (6, 2, 64, 80))
    write_rows("february.tsv", ("A", "infer", "A.tif"), ("B", "val", "B.tif"))
    write_rows("january.tsv", ("A", "infer", "A.tif"))
    return tmp_path


def model_of_the_demo():
    return Path(__file__).parents[2] / "resources/models/phantom-tiny"


def write_stack(path, shape_zcyx):
    tifffile.imwrite(path, np.ones(shape_zcyx, np.uint16), imagej=True, metadata={"axes": "ZCYX"})


def write_rows(path, *rows):
    text = "".join(f"{s}\tP{s}\t{p}\t{split}\t1\t0.5\t0.5\tCH2,CH3\t\n" for s, split, p in rows)
    Path(path).write_text(HEAD + text)


def msdsr(capsys, *arguments):
    """Run the command line; return its exit code and what it said on both ways out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["msdsr", *map(str, arguments)])
        code = run_guarded(lambda: app(standalone_mode=False))
    said = capsys.readouterr()
    return code, said.out + said.err


def test_a_cohort_is_added_and_every_comment_stays(lab, capsys):
    code, said = msdsr(capsys, "cohort", "add", "february.tsv", "--config", "config.yaml")
    assert code == 0, said
    text = (lab / "config.yaml").read_text()
    added = "    february:\n      sheet: february.tsv\n      model: srh\n"
    assert text == CONFIG.replace("\n# what restores", f"{added}\n# what restores")
    for comment in ("# A lab's own words.", "# not to be changed", "# 12 slides", "# the first"):
        assert comment in text
    assert read_config(lab / "config.yaml").cohorts["february"].model == "srh"
    assert "snakemake --profile profiles/slurm --configfile config.yaml report_february" in said
    assert "GPU-hours" in said
    assert "not measured" in said
    code, said = msdsr(capsys, "cohort", "add", "february.tsv", "--config", "config.yaml")
    assert code == 2
    assert "there already" in said


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda: Path("A.tif").write_bytes(b"II*\0"), "A.tif: unreadable or cut short"),
        (lambda: write_stack("A.tif", (6, 3, 64, 80)), "A.tif: 3 channels"),
        (lambda: write_stack("A.tif", (1, 2, 64, 80)), "1 plane; expected 2 or more"),
    ],
)
def test_a_file_that_does_not_fit_its_row_adds_nothing(lab, capsys, spoil, line):
    spoil()
    code, said = msdsr(capsys, "cohort", "add", "february.tsv", "--config", "config.yaml")
    assert code == 2
    assert line in said
    assert "1 of 2 files cannot be used" in said
    assert (lab / "config.yaml").read_text() == CONFIG


def test_a_configuration_in_another_style_is_left_alone(lab, capsys):
    flow = "cohorts: {january: {sheet: january.tsv, model: srh}}\nmodels: {srh: {path: released}}\n"
    (lab / "config.yaml").write_text(flow)
    code, said = msdsr(capsys, "cohort", "add", "february.tsv", "--config", "config.yaml")
    assert code == 0
    assert "add below `cohorts:`\n\n  february:\n    sheet: february.tsv" in said
    assert (lab / "config.yaml").read_text() == flow


@pytest.mark.parametrize("ending", ["\n", "", "\n\n# the end\n"])
def test_the_block_stands_with_the_others(ending):
    text = f"cohorts:\n  a:\n    sheet: a.tsv\n    model: m{ending}"
    changed = with_cohort(text, cohort_block("b", "my sheets/b.tsv", "m"))
    assert yaml.safe_load(changed)["cohorts"]["b"] == {"sheet": "my sheets/b.tsv", "model": "m"}
    assert changed.startswith("cohorts:\n  a:\n    sheet: a.tsv\n    model: m\n")


def test_an_estimate_grows_with_the_cohort_and_says_where_it_comes_from():
    config = Config()
    slide = CheckedSlide("A", "infer", (2, 20, 1000, 1000), 2, True)
    one = estimate_cohort(config, "demo", [slide], [2])
    ten = estimate_cohort(config, "demo", [slide] * 10, [2])
    assert ten.hours("GPU") == pytest.approx(10 * one.hours("GPU"))
    assert ten.disk_gb == pytest.approx(10 * one.disk_gb)
    (restored,) = [line for line in one.lines if line.what == "superresolve msdsr 2×"]
    assert "not measured" in restored.source
    # The demo's network on a core: benchmarks/results/superresolve.json has 2235 s for this slide.
    assert restored.cpu_hours * 3600 == pytest.approx(2235, rel=0.1)


def test_earlier_runs_are_believed_before_the_table(tmp_path):
    folder = tmp_path / "old/slides/A"
    counts = {"channels": 2, "planes": 20, "rows": 1000, "columns": 1000, "dtype": "uint16"}
    record = {"algorithm": 1, "settings": {"steps": 20, "samples": 1}}
    ingest = Manifest(stage="ingest", counts=counts, seconds=80.0, **record)
    write_manifest(folder / "raw.ome.zarr", ingest)
    restored = Manifest(stage="superresolve", seconds=720.0, device="cuda", **record)
    write_manifest(folder / "msdsr_2x.ome.zarr", restored)
    slide = CheckedSlide("B", "infer", (2, 20, 1000, 1000), 2, True)
    found = estimate_cohort(Config(), "demo", [slide], [2], earlier_runs(tmp_path))
    lines = {line.what: line for line in found.lines}
    assert lines["ingest"].hours == pytest.approx(80 / 3600)
    assert lines["superresolve msdsr 2×"].hours == pytest.approx(0.2)
    assert "measured here, 1 earlier jobs" in lines["superresolve msdsr 2×"].source
    assert "measured 2026" in lines["patch"].source


def test_what_was_ingested_is_not_opened_again(lab):
    rows = read_sheet("february.tsv").to_dict("records")
    (lab / "A.tif").unlink()
    first, second = check_slides(rows, lab / "results/february/slides")
    assert not first.known
    assert not first.problem
    assert second.shape == (2, 6, 64, 80)
    assert check_slides(rows)[0].problem
