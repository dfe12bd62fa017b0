import pandas as pd
import pytest

from msdsr.tables.layout import Table, by_plane, counted


@pytest.fixture
def rows():
    """The paper's Table 2 in part: what is best, what is a floor, what is missing."""
    values = [
        ("acquired", "2×", "XY", 20.0, 50),
        ("msdsr", "2×", "SliceFID", 25.5, 40),
        ("msdsr", "2×", "XY", 16.2, 50),
        ("nearest", "2×", "SliceFID", 129.6, 40),
        ("nearest", "2×", "XY", 24.7, 50),
        ("msdsr", "4×", "SSIM", 0.4864, 0),
        ("nearest", "4×", "SSIM", 0.4256, 0),
        ("linear", "4×", "SSIM", float("nan"), 0),
    ]
    frame = pd.DataFrame(values, columns=["row", "group", "column", "value", "n"])
    return by_plane(frame, ["2×", "4×"])


def test_the_page_has_the_papers_layout_and_marks_the_best(rows):
    page = Table(2, "3D restoration", rows, ["read me"]).markdown()
    lines = page.splitlines()
    assert lines[0] == "# Table 2: 3D restoration"
    assert lines[2] == "| | 2× XY | 2× SliceFID | 4× SSIM |"
    assert lines[4:8] == [
        "| NN | 24.7 | 129.6 | 0.426 |",
        "| Linear | – | – | – |",
        "| MSDSR | **16.2** | **25.5** | **0.486** |",
        "| Acquired planes (floor) | 20.0 | – | – |",
    ]
    assert lines[-1] == "- read me"


def test_a_floor_is_no_competitor_and_one_method_wins_nothing(rows):
    low = rows.assign(value=rows["value"].where(rows["row"] != "acquired", 1.0))
    assert "**1.0**" not in Table(2, "", low).markdown()
    alone = rows[rows["row"] == "msdsr"]
    assert "**" not in Table(2, "", alone).markdown()


def test_the_numbers_are_not_rounded(rows):
    wide = Table(2, "", rows).wide()
    assert list(wide.columns) == ["method", "2× XY", "2× SliceFID", "4× SSIM"]
    assert wide.set_index("method").loc["msdsr", "4× SSIM"] == 0.4864


def test_a_difference_stands_in_parentheses():
    rows = pd.DataFrame(
        {"row": ["a", "b"], "group": "2×", "column": "XY", "value": [23.5, 30.7], "n": 9}
    ).assign(delta=[9.04, -14.5])
    page = Table(4, "blur", rows).markdown()
    assert "| a | **23.5 (+9.0)** |" in page
    assert "| b | 30.7 (-14.5) |" in page


def test_counts_are_given_as_a_range(rows):
    assert counted(rows) == "40 to 50"
    assert counted(rows.assign(n=7)) == "7"
    assert counted(rows.assign(n=0)) == "an unknown number"
