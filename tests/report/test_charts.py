import json
from xml.etree import ElementTree

import pytest

from msdsr.report.charts import file_names, safe_name
from msdsr.report.figures import figures, slicefid_chart
from msdsr.report.numbers import read_numbers
from msdsr.report.training import read_curve, training_chart, training_charts

PNG = b"\x89PNG\r\n\x1a\n"


def texts(svg):
    root = ElementTree.fromstring(svg[svg.index("<svg") :])
    return "".join(root.itertext())


def test_the_chart_names_methods_and_planes_and_says_its_numbers(numbers):
    chart = slicefid_chart(numbers())
    shown = texts(chart.svg)
    for word in ("nearest", "linear", "msdsr", "real planes", "SliceFID", "XZ", "2×"):
        assert word in shown
    assert "SliceFID: nearest 140.3, linear 82.0, msdsr 57.0" in chart.alt
    assert chart.png.startswith(PNG)


def test_the_chart_follows_light_and_dark_and_loads_nothing(numbers):
    svg = slicefid_chart(numbers()).svg
    assert "prefers-color-scheme:dark" in svg
    assert "var(--ink)" in svg
    outside = [w for w in ('href="http', "url(http", "<script", "@import") if w in svg]
    assert outside == []
    assert svg == slicefid_chart(numbers()).svg


def test_without_methods_there_is_no_chart(numbers):
    table = numbers()["slicefid"]
    assert slicefid_chart(numbers(slicefid=table[table["method"] == "truth"])) is None
    assert slicefid_chart(numbers(slicefid=table.iloc[:0])) is None


def test_everything_that_was_measured_is_drawn(published):
    charts = {chart.name: chart for chart in figures(read_numbers(published(factors=(2, 4))))}
    assert list(charts) == ["slicefid", "spectra", "frc", "distance", "seams", "calibration"]
    for name, words in (
        ("slicefid", ("real against real", "4×")),
        ("spectra", ("4×, along z", "cycles/µm", "power ratio")),
        ("frc", ("2×, 3D", "correlation")),
        ("distance", ("planes from an acquired one",)),
        ("seams", ("along z", "lag-1 ratio")),
        ("calibration", ("nominal level", "coverage", "msdsr, calibrated, truth")),
    ):
        shown = texts(charts[name].svg)
        assert all(word in shown for word in words), name
        assert "mathdefault" not in shown
    assert "2× msdsr, heldout: 0.40 as given and 0.5" in charts["calibration"].alt
    assert "At 2×, along z: nearest 0.50, linear 0.65, msdsr 0.82." in charts["seams"].alt
    assert all(chart.caption and chart.section for chart in charts.values())


@pytest.fixture
def diary(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [
        {"kind": "train", "images": 64 * i, "loss": 1 / i, "grad_norm": 1} for i in range(1, 9)
    ]
    lines.append({"kind": "train", "images": 600, "learning_rate": 0.1})
    lines.append({"kind": "validation", "images": 512, "loss": 0.125, "loss_2x": 0.1})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "tr')
    return path


def test_a_curve_is_read_up_to_its_torn_line(diary):
    curve = read_curve(diary)
    assert list(curve.columns) == ["kind", "images", "loss"]
    assert len(curve) == 9


def test_a_training_is_drawn(diary):
    chart = training_chart("tiny <b>$x^2$</b>", diary, "tiny")
    assert chart.name == "training_tiny"
    assert "last validation loss 0.1250" in chart.alt
    assert "training images seen" in texts(chart.svg)
    assert "mathdefault" not in chart.svg
    assert chart.png.startswith(PNG)


def test_a_training_without_losses_has_no_chart(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("")
    assert training_charts({"tiny": tmp_path / "metrics.jsonl", "gone": tmp_path / "gone"}) == []


def test_file_names_are_safe():
    assert safe_name("../a b/<c>.d") == "___a_b__c__d"
    names = file_names(["a b", "a_b", "a<b", "A_B"])
    assert names["a_b"] == "a_b" or names["a_b"].startswith("a_b-")
    assert len({name.lower() for name in names.values()}) == 4
