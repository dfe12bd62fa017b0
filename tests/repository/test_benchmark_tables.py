"""Tables in the documentation are those of benchmarks/results/, digit by digit."""

import importlib.util
from pathlib import Path

import pytest

from msdsr.config import SuperresolveConfig

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tables():
    spec = importlib.util.spec_from_file_location(
        "sampler_page", REPOSITORY / "benchmarks/sampler_page.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_sampler_s_page_shows_the_measured_tables(tables):
    page = tables.PAGE.read_text()
    assert len(tables.MARKER.findall(page)) == page.count("<!-- table ") >= 5
    assert tables.filled(page) == page, "run `python benchmarks/sampler_page.py`"


def test_a_changed_figure_would_show(tables):
    page = tables.PAGE.read_text()
    assert tables.filled(page.replace("| linear |", "| liner |")) == page


def test_the_default_is_a_measured_way(tables):
    settings = SuperresolveConfig()
    wanted = (settings.mode, settings.steps, settings.noise_strength, settings.noise_length)
    for bed, factor in (
        ("phantom", "2"),
        ("phantom", "4"),
        ("phantom", "8"),
        ("blastocyst", "2"),
        ("blastocyst", "4"),
        ("blastocyst", "8"),
    ):
        ways = {
            (r["mode"], int(r["steps"]), float(r["noise_strength"]), float(r["noise_length"]))
            for r in tables.read("consistency.csv")
            if (r["bed"], r["factor"]) == (bed, factor)
        }
        assert wanted in ways
