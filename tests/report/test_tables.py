import pandas as pd
import pytest

from msdsr.report.tables import factor_tables, order, slide_rows


def column(table, label):
    index = [c.label for c in table.columns].index(label)
    return {row.method: row.cells[index] for row in table.rows}


def test_rows_stand_in_the_order_of_reading():
    found = order(["truth", "msdsr", "linear", "acquired", "another", "nearest"])
    assert found == ["nearest", "linear", "another", "msdsr", "acquired", "truth"]


def test_the_best_value_is_marked_and_floors_never_are(numbers):
    (table,) = factor_tables(numbers, slides=12)
    best = {
        c.label: [row.method for row in table.rows if row.cells[i].best]
        for i, c in enumerate(table.columns)
    }
    assert best == {
        "SliceFID": ["msdsr"],
        "XY": ["nearest"],
        "XY generated": ["nearest"],
        "XZ": ["msdsr"],
        "YZ": ["msdsr"],
        "KID": ["msdsr"],
        "PSNR": ["linear"],
        "SSIM": ["msdsr"],
    }
    assert [row.method for row in table.rows if row.floor] == ["acquired", "truth"]


def test_numbers_are_shown_in_their_units(numbers):
    (table,) = factor_tables(numbers, slides=12)
    assert column(table, "SliceFID")["msdsr"].text == "57.0"
    assert column(table, "KID")["msdsr"].text == "57.0"
    assert column(table, "PSNR")["linear"].text == "24.20"
    assert column(table, "SSIM")["linear"].text == "0.720"
    assert column(table, "SliceFID")["acquired"].text == "–"
    assert column(table, "XZ")["linear"].detail == "40 images"
    assert [row.n for row in table.rows] == ["40"] * 5


def test_the_headline_is_what_the_table_says(numbers):
    (table,) = factor_tables(numbers, slides=2)
    assert table.headline == (
        "msdsr has the lowest SliceFID at 2×: 57.0, 30\u00a0% below linear (82.0)"
    )
    assert "KID agrees." in table.verdict
    assert "PSNR is highest for linear: 24.20 dB (msdsr: 23.70 dB)." in table.verdict
    assert "The worst plane of msdsr is YZ (FID 66.0)." in table.verdict
    assert "The true volume itself scores 43.3 on as many images." in table.verdict
    assert any("2 slides only" in line for line in table.verdict)


def test_a_method_that_loses_is_said_to_lose(numbers):
    worse = numbers.copy()
    worse.loc[(worse["method"] == "msdsr") & (worse["metric"] == "FID"), "value"] *= 3
    (table,) = factor_tables(worse, slides=12)
    assert table.headline.startswith("linear has the lowest SliceFID")
    assert "KID does not agree: it is lowest for msdsr." in table.verdict
    assert not any("only" in line for line in table.verdict)


def test_without_truth_the_columns_of_pairs_are_gone(numbers):
    (table,) = factor_tables(numbers[numbers["metric"].isin(["FID", "KID"])], slides=12)
    assert [c.label for c in table.columns][-1] == "KID"


def test_one_method_alone_has_no_best(numbers):
    (table,) = factor_tables(numbers[numbers["method"] == "nearest"], slides=12)
    assert not any(cell.best for row in table.rows for cell in row.cells)
    assert "too few" in table.headline


def test_slides_have_a_row_each(metrics_of):
    folder = metrics_of()
    table = pd.read_parquet(folder / "slides.parquet")
    extra = table.iloc[:1].assign(plane="mean", metric="PSNR", value=23.456)
    table = table[~((table["slide"] == "s2") & (table["plane"] == "XZ"))]
    pd.concat([table, extra]).to_parquet(folder / "slides.parquet")
    headings, rows = slide_rows(folder)
    assert headings == ["KID ×10³ nearest", "KID ×10³ msdsr", "PSNR dB nearest"]
    assert [row["slide"] for row in rows] == ["s1", "s2"]
    assert rows[0]["cells"] == ["20.0", "20.0", "23.5"]
    assert rows[1]["cells"] == ["–", "–", "–"]


@pytest.mark.parametrize("value", [-0.0123])
def test_a_negative_kid_has_a_proper_minus(numbers, value):
    numbers.loc[(numbers["metric"] == "KID") & (numbers["plane"] == "mean"), "value"] = value
    (table,) = factor_tables(numbers, slides=12)
    assert column(table, "KID")["linear"].text == "−12.3"
