"""The page of benchmarks says what the results say."""

import importlib.util
import json
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def table():
    spec = importlib.util.spec_from_file_location("table", BENCHMARKS / "table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_current():
    expected = table().page(BENCHMARKS / "results")
    assert (BENCHMARKS / "README.md").read_text() == expected, "run benchmarks/table.py"


def test_a_missed_target_stands_on_the_page(tmp_path):
    figure = {"what": "ratio", "value": 0.9, "target": "≥ 1.3", "machine": "an abacus"}
    record = {"claim": "it is fast", "date": "2026-01-02", "figures": [figure]}
    (tmp_path / "speed.json").write_text(json.dumps(record))
    (tmp_path / "bare.json").write_text(json.dumps({"claim": "nothing yet"}))
    found = table().page(tmp_path)
    assert "| ratio | 0.9 | ≥ 1.3 | 2026-01-02 | an abacus |" in found
    assert "nothing yet (`results/bare.json`)" in found
