import numpy as np
import pandas as pd
import pytest

from msdsr.report.numbers import order, read_numbers
from msdsr.report.rows import slide_numbers
from msdsr.report.tables import groups
from msdsr.report.verdict import verdicts

SUMMARY = {"heldout": {"2": {"note": "Twice as far apart."}, "4": {}}}


def said_of(slides, **more):
    return {"slides": ["s"] * slides} | more


def column(table, label):
    index = [c.label for c in table.columns].index(label)
    return {row.method: row.cells[index] for row in table.rows}


def first(numbers, name="distances"):
    return next(group.tables[0] for group in groups(numbers, SUMMARY) if group.name == name)


def best(table):
    return {
        c.label: [row.method for row in table.rows if row.cells[i].best]
        for i, c in enumerate(table.columns)
    }


def test_rows_stand_in_the_order_of_reading():
    found = order(["truth", "msdsr", "linear", "acquired", "real", "another", "nearest"])
    assert found == ["nearest", "linear", "another", "msdsr", "acquired", "truth", "real"]


def test_the_best_value_is_marked_and_floors_never_are(numbers):
    table = first(numbers())
    assert best(table) == {
        "SliceFID": ["msdsr"],
        "XY": ["nearest"],
        "XY generated": ["nearest"],
        "XZ": ["msdsr"],
        "YZ": ["msdsr"],
        "worst": ["msdsr"],
        "KID": ["msdsr"],
    }
    assert best(first(numbers(), "paired")) == {"PSNR mean": ["linear"], "SSIM mean": ["msdsr"]}
    assert [row.method for row in table.rows if row.floor] == ["acquired", "truth"]


def test_numbers_are_shown_in_their_units(numbers):
    table = first(numbers())
    assert column(table, "SliceFID")["msdsr"].text == "57.0"
    assert column(table, "KID")["msdsr"].text == "57.0"
    assert column(table, "worst")["msdsr"].text == "66.0"
    assert column(table, "worst")["msdsr"].note == "YZ"
    assert column(table, "SliceFID")["acquired"].text == "–"
    assert column(table, "XZ")["linear"].detail == "40 images"
    assert [row.n for row in table.rows] == ["40"] * 5
    paired = first(numbers(), "paired")
    assert column(paired, "PSNR mean")["linear"].text == "24.20"
    assert column(paired, "SSIM mean")["linear"].text == "0.720"


def test_every_table_of_the_contract_is_shown(published):
    found = {
        group.name: group for group in groups(read_numbers(published(factors=(2, 4))), SUMMARY)
    }
    assert {name: len(group.tables) for name, group in found.items()} == {
        "distances": 6,
        "by-distance": 8,
        "paired": 6,
        "axes": 6,
        "heldout": 6,
    }
    assert [label for _, label in found["distances"].views] == [
        "one fixed window",
        "equalised histograms",
        "as the paper",
    ]
    assert [label for _, label in found["paired"].views] == ["all channels", "CH2", "CH3"]
    cell = column(found["distances"].tables[0], "SliceFID")["msdsr"]
    assert (cell.text, cell.interval) == ("40.3", "[37.5, 43.6]")
    kid = column(found["distances"].tables[0], "KID")["msdsr"]
    assert kid.detail == "900 images; standard error 1.1"
    assert found["heldout"].notes == ("2×: Twice as far apart.",)
    held = found["heldout"].tables[0]
    assert [row.label for row in held.rows if row.floor] == ["perfect restoration"]
    assert column(held, "PSNR XY")["msdsr"].best
    labels = [c.label for c in found["paired"].tables[0].columns]
    assert {"PSNR XY", "SSIM mean", "NRMSE 3D"} < set(labels)
    # A ratio is best where it is nearest to 1, not where it is largest.
    lag = column(found["axes"].tables[0], "LAG1 z")
    assert lag["msdsr"].best
    assert column(found["by-distance"].tables[0], "1")["msdsr"].best


def test_a_table_as_csv_holds_what_is_shown(numbers):
    lines = first(numbers()).csv().splitlines()
    assert (
        lines[0]
        == "factor,method,SliceFID,XY FID,XY generated FID,XZ FID,YZ FID,worst FID,KID ×10³,n"
    )
    assert lines[3].startswith("2,msdsr,57.0,45.0,55.0,60.0,66.0,66.0,0.057")


def test_the_headline_is_what_the_table_says(numbers):
    (said,) = verdicts(numbers(), said_of(2))
    assert said.headline == (
        "msdsr has the lowest SliceFID at 2×: 57.0, 30\u00a0% below linear (82.0)"
    )
    methods = dict(said.methods)
    assert list(methods) == ["nearest", "linear", "msdsr"]
    assert methods["msdsr"] == (
        "SliceFID 57.0; 30\u00a0% below the best baseline, linear; worst plane YZ, 66.0"
    )
    assert "KID agrees." in said.lines
    assert "PSNR against the truth is highest for linear: 24.20 dB; msdsr 23.70 dB." in said.lines
    assert "The true volume itself scores 43.3 on as many images." in said.lines
    assert any("2 slides only" in line for line in said.lines)
    assert "Intervals were not measured." in said.lines


def test_intervals_and_the_floor_are_said(published):
    (said,) = verdicts(read_numbers(published()), said_of(12, floor={"by": "patient"}))
    assert "The 95\u00a0% intervals of msdsr and linear do not overlap." in said.lines
    assert dict(said.methods)["msdsr"].startswith("SliceFID 40.3 (95\u00a0%: 37.5 to 43.6)")
    assert "times the floor" not in dict(said.methods)["msdsr"]
    floor = next(line for line in said.lines if "real ones of other patients: 26.0" in line)
    assert "images alone: not to be compared" in floor
    held = next(line for line in said.lines if line.startswith("PSNR on held-out acquired planes"))
    assert held.endswith("a perfect restoration would score 36.10 dB.")


def test_many_images_may_be_held_against_the_floor(published):
    folder = published()
    table = pd.read_parquet(folder / "slicefid.parquet").assign(n=4000)
    table.to_parquet(folder / "slicefid.parquet")
    (said,) = verdicts(read_numbers(folder), said_of(12, floor={"by": "patient"}))
    assert dict(said.methods)["msdsr"].endswith("1.6 times the floor")


def test_overlapping_intervals_are_said_to_be_chance(published):
    folder = published()
    table = pd.read_parquet(folder / "slicefid.parquet")
    table["low"], table["high"] = table["value"] * 0.5, table["value"] * 1.5
    table.to_parquet(folder / "slicefid.parquet")
    (said,) = verdicts(read_numbers(folder), said_of(12))
    assert any("overlap: which is lower may be chance" in line for line in said.lines)


def test_why_there_are_no_intervals_is_said(published):
    folder = published()
    table = pd.read_parquet(folder / "slicefid.parquet").assign(low=np.nan, high=np.nan)
    table.to_parquet(folder / "slicefid.parquet")
    (said,) = verdicts(read_numbers(folder), said_of(12, intervals="fewer than 3 patients"))
    assert "No intervals: fewer than 3 patients." in said.lines


def test_a_method_that_loses_is_said_to_lose(numbers):
    worse = numbers()["slicefid"].copy()
    worse.loc[(worse["method"] == "msdsr") & (worse["metric"] == "FID"), "value"] *= 3
    (said,) = verdicts(numbers(slicefid=worse), said_of(12))
    assert said.headline.startswith("linear has the lowest SliceFID")
    assert "109\u00a0% above the best baseline, linear" in dict(said.methods)["msdsr"]
    assert "KID does not agree: it is lowest for msdsr." in said.lines
    assert not any("only" in line for line in said.lines)


def test_one_method_alone_has_no_best(numbers):
    table = numbers()["slicefid"]
    alone = numbers(slicefid=table[table["method"] == "nearest"])
    assert not any(cell.best for row in first(alone).rows for cell in row.cells)
    assert "too few" in verdicts(alone, said_of(12))[0].headline


def test_equal_values_have_no_best(numbers):
    same = numbers()["slicefid"].assign(value=1.0)
    assert not any(found for found in best(first(numbers(slicefid=same))).values())


def test_slides_have_a_row_each(metrics_of):
    folder = metrics_of()
    table = pd.read_parquet(folder / "slides.parquet")
    extra = table.iloc[:1].assign(plane="mean", metric="PSNR", value=23.456)
    table = table[~((table["slide"] == "s2") & (table["plane"] == "XZ"))]
    pd.concat([table, extra]).to_parquet(folder / "slides.parquet")
    headings, found = slide_numbers(read_numbers(folder))
    assert [f"{h.label} {h.method} {h.factor}" for h in headings] == [
        "KID nearest 2",
        "KID msdsr 2",
        "PSNR nearest 2",
    ]
    assert found["s1"] == [pytest.approx(20.0), pytest.approx(20.0), pytest.approx(23.456)]
    assert found["s2"] == [None, None, None]


@pytest.mark.parametrize("value", [-0.0123])
def test_a_negative_kid_has_a_proper_minus(numbers, value):
    table = numbers()["slicefid"].copy()
    table.loc[(table["metric"] == "KID") & (table["plane"] == "mean"), "value"] = value
    cell = column(first(numbers(slicefid=table)), "KID")["linear"]
    assert (cell.text, cell.value) == ("−12.3", value)
