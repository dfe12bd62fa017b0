import io
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from msdsr.config import ReportConfig
from msdsr.manifest import Manifest
from msdsr.report.calibrated import coverage
from msdsr.report.doubts import SpotStores, pictured, worst_spots
from msdsr.report.rows import flags_of, thumbnail
from msdsr.volume import read_spec
from msdsr.volume.colour import Window

WINDOW = Window((0, 1000, 1000), (9000, 30000, 30000))


def spot_table(places, slide="s1"):
    rows = [
        (2, "msdsr", slide, "p1", "std", z, y, x, 8, 1.0 - i) for i, (z, y, x) in enumerate(places)
    ]
    columns = ["factor", "method", "slide", "patient", "reason", "z", "y", "x", "side", "score"]
    return pd.DataFrame(rows, columns=columns)


def test_the_first_places_of_each_reason_are_listed():
    table = spot_table([(z, 5, 5) for z in range(12)])
    both = pd.concat([table, table.assign(reason="distance")])
    found = worst_spots(both, most=3)
    assert [(spot.reason, spot.z) for spot in found] == [
        (reason, z) for reason in ("std", "distance") for z in range(3)
    ]
    assert worst_spots(table.iloc[:0]) == []


def test_a_place_is_shown_with_its_uncertainty(slide_of):
    slide = slide_of(std=True)
    stores = {"s1": SpotStores(slide.restored, slide.spread)}
    spots = pictured(worst_spots(spot_table([(3, 2, 77), (18, 40, 40)])), stores, WINDOW)
    assert [[what for what, _ in spot.pictures] for spot in spots] == [
        ["msdsr", "standard deviation"]
    ] * 2
    shown = Image.open(io.BytesIO(spots[0].pictures[0][1]))
    assert shown.size == (64, 64)
    assert spots[0].part == 8 / 64
    assert pictured(spots, {}, WINDOW) == spots


@pytest.mark.parametrize("most", [0, 2])
def test_places_outside_every_page_get_one_of_their_own(build, published, slide_of, tmp_path, most):
    places = [(3, 30, 30), (4, 2, 78), (5, 3, 77), (6, 60, 2), (7, 2, 2)]
    metrics = published()
    spot_table(places).to_parquet(metrics / "hotspots.parquet")
    settings = ReportConfig(viewer_side=16, viewer_spots=most, slides_with_pictures=0)
    _, pages = build([slide_of()], metrics, settings=settings)
    folder = tmp_path / "report/slides"
    links = re.findall(r'href="(slides/s1[^"]*)"', pages["uncertainty"])
    made = {path.name for path in folder.iterdir()}
    assert made == {"s1.html"} | {f"s1.{i + 1}.html" for i in range(most)}
    for link in links:
        file, z, y, x = re.fullmatch(
            r"slides/(.+)#slide=s1&amp;f=2&amp;z=(\d+)&amp;y=(\d+)&amp;x=(\d+)", link
        ).groups()
        data = (folder / file).read_text()
        y0, x0 = (int(re.search(rf'"{k}":(\d+)', data)[1]) for k in ("y0", "x0"))
        assert (int(z) - 1, int(y), int(x)) in places
        assert y0 <= int(y) < y0 + 16
        assert x0 <= int(x) < x0 + 16
    outside = sum("Open there" in part for part in pages["uncertainty"].split("<li"))
    assert outside == len(links)


def test_coverage_is_the_mean_over_slides_by_their_voxels():
    columns = ["factor", "method", "level", "n", "coverage", "coverage_calibrated"]
    rows = [(2, "msdsr", 0.9, 100, 0.5, 0.9), (2, "msdsr", 0.9, 300, 0.9, 0.9)]
    table = pd.DataFrame(rows, columns=columns).assign(width=0.1, width_calibrated=0.2)
    table["against"] = "heldout"
    (found,) = coverage(table).to_dict("records")
    assert found["coverage"] == pytest.approx(0.8)
    assert (found["width_calibrated"], found["slides"]) == (pytest.approx(0.2), 2)
    (equal,) = coverage(table.assign(n=np.nan)).to_dict("records")
    assert equal["coverage"] == pytest.approx(0.7)


def test_a_thumbnail_is_small_and_of_the_middle_plane(slide_of):
    slide = slide_of()
    picture = Image.open(io.BytesIO(thumbnail(slide.acquired, WINDOW, 40)))
    rows, columns = read_spec(slide.acquired).shape[2:]
    assert picture.size == (40, 40 * rows // columns)
    assert np.asarray(picture.convert("RGB")).std() > 5
    assert len(thumbnail(slide.acquired, WINDOW)) < 4000


def test_what_is_flagged_stands_beside_its_slide(tmp_path):
    patched = Manifest(
        stage="patch",
        algorithm=1,
        counts={"flagged_planes": 2, "flagged": {"3": "empty", "7": "x"}},
    )
    warned = Manifest(stage="ingest", algorithm=1, warnings=["no spacing in the file"])
    records = [(tmp_path / "s1/patches.json", patched), (tmp_path / "s2/raw.json", warned)]
    found = flags_of(["s1", "s2", "s3"], records, [])
    assert [(flag.kind, flag.text) for flag in found["s1"]] == [
        ("planes flagged", "2 planes flagged: 3, 7")
    ]
    assert [flag.kind for flag in found["s2"]] == ["warning"]
    assert found["s3"] == ()
