import json
from xml.etree import ElementTree

import pytest

from msdsr.report.charts import distance_chart, read_curve, safe_name, training_chart

PNG = b"\x89PNG\r\n\x1a\n"


def texts(svg):
    root = ElementTree.fromstring(svg[svg.index("<svg") :])
    return "".join(root.itertext())


def test_the_chart_names_methods_and_planes_and_says_its_numbers(numbers):
    chart = distance_chart(numbers)
    shown = texts(chart.svg)
    for word in ("nearest", "linear", "msdsr", "real planes", "SliceFID", "XZ", "2×"):
        assert word in shown
    assert "SliceFID: nearest 140.3, linear 82.0, msdsr 57.0" in chart.alt
    assert chart.png.startswith(PNG)


def test_the_chart_follows_light_and_dark_and_loads_nothing(numbers):
    svg = distance_chart(numbers).svg
    assert "prefers-color-scheme:dark" in svg
    assert "var(--ink)" in svg
    outside = [w for w in ('href="http', "url(http", "<script", "@import") if w in svg]
    assert outside == []
    assert svg == distance_chart(numbers).svg


def test_without_methods_there_is_no_chart(numbers):
    assert distance_chart(numbers[numbers["method"] == "truth"]) is None
    assert distance_chart(numbers.iloc[:0]) is None


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
    chart = training_chart("tiny <b>$x^2$</b>", diary)
    assert chart.name == "training_tiny__b__x_2___b_"
    assert "last validation loss 0.1250" in chart.alt
    assert "training images seen" in texts(chart.svg)
    assert "mathdefault" not in chart.svg
    assert chart.png.startswith(PNG)


def test_a_training_without_losses_has_no_chart(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("")
    assert training_chart("tiny", tmp_path / "metrics.jsonl") is None


def test_file_names_are_safe():
    assert safe_name("../a b/<c>.d") == "___a_b__c__d"
