"""What a slide's page shows, compared voxel by voxel with the volumes it was made from."""

import itertools
import json
from pathlib import Path
from urllib.parse import parse_qs, unquote

import numpy as np
import pytest

from msdsr.report.viewer import Neighbours, Volumes, slide_page
from msdsr.volume.colour import Window, to_rgb8, virtual_he
from msdsr.volume.interpolate import interpolate

SRH = ("CH2", "CH3")
WINDOW = Window((4000, 3000, 2500), (12000, 26000, 28000))
EVEN = Window((3000,) * 3, (26000,) * 3)
ROWS, COLUMNS, PLANES = 40, 48, 17


def embedded(path):
    """Return the data that a page carries."""
    _, _, rest = path.read_text(encoding="utf-8").partition('<script type="application/json"')
    return json.loads(rest.partition(">")[2].partition("</script>")[0])


def tolerance(data):
    """Return how far red, green and blue may be off: half a step of 8 bits, and rounding."""
    step = {c["name"]: (c["high"] - c["low"]) / 255 for c in data["channels"]}
    reach = [step["CH2"] + step["CH3"], step["CH2"], step["CH3"]]
    width = np.subtract(WINDOW.high, WINDOW.low)
    return np.array([255 * r / 2 / w + 1 for r, w in zip(reach, width, strict=True)])


def cut(volume_CZYX, view, z, y, x):
    """Return a slice as (c, down, right)."""
    plane = {"xy": volume_CZYX[:, z], "xz": volume_CZYX[:, :, y]}.get(view)
    return volume_CZYX[..., x].transpose(0, 2, 1) if plane is None else plane


@pytest.fixture
def open_slide(viewer, report):
    def make(fragment="", slide="S1", **settings):
        _, pages, _ = report
        return viewer(**settings).open(pages[slide], fragment)

    return make


def sources(arrays, factor):
    keep = factor // 2
    acquired = arrays["acquired"][:, ::keep]
    return {
        "input": interpolate(acquired, factor, "nearest"),
        "linear": interpolate(acquired, factor, "linear"),
        "msdsr": arrays[f"msdsr {factor}"],
        "truth": arrays["truth"],
    }


@pytest.mark.parametrize("factor", [2, 4])
def test_every_pane_shows_its_volume(open_slide, report, factor):
    _, pages, arrays = report
    page = open_slide(f"#f={factor}&z=7&y=13&x=29")
    page.focus()
    page.press("c")
    allowed = tolerance(embedded(pages["S1"]))
    volumes = sources(arrays, factor)
    for pane, view in itertools.product(volumes, ("xy", "xz", "yz")):
        volume = volumes[pane]
        expected = to_rgb8(cut(volume, view, 6, 13, 29), SRH, WINDOW)
        shown = np.moveaxis(page.voxels(pane, view), -1, 0)
        error = np.abs(shown.astype(int) - expected).max(axis=(1, 2))
        # What the page interpolates is rounded twice: its sources, and the mean of them.
        most = 2 * allowed - 1 if pane == "linear" else allowed
        assert (error <= most).all(), (pane, view, error, most)
        assert expected.std() > 20


def test_h_and_e_and_grey_are_those_of_python(open_slide, report):
    _, pages, arrays = report
    data = embedded(pages["S1"])
    page = open_slide("#f=2&z=5&colour=he")
    page.focus()
    page.press("c")
    low, high = (np.array([c[k] for c in data["channels"]])[:, None, None] for k in ("low", "high"))
    plane = arrays["truth"][:, 4]
    levels = np.rint((np.clip(plane, low, high) - low) / (high - low) * 255)
    seen = levels / 255 * (high - low) + low
    expected = virtual_he(np.rint(seen).astype(np.uint16), SRH, WINDOW)
    shown = np.moveaxis(page.voxels("truth", "xy"), -1, 0)
    assert np.abs(shown.astype(int) - expected).max() <= 1
    assert shown[1].std() > 10

    page.page.select_option("#mode", label="CH3")
    page.settle()
    grey = to_rgb8(plane[1:], ("CH3",), Window((2500,) * 3, (28000,) * 3))
    shown = np.moveaxis(page.voxels("truth", "xy"), -1, 0)
    assert np.abs(shown.astype(int) - grey).max() <= 2


def test_the_difference_is_black_where_planes_are_kept_and_has_a_sign(open_slide, report):
    _, _, arrays = report
    page = open_slide("#f=2&z=5&y=13&x=29&colour=CH2")
    page.focus()
    page.press("c")
    kept = page.voxels("msdsr-difference", "xy")
    assert kept.max() <= 2
    page.press("PageDown")
    shown = page.voxels("msdsr-difference", "xy").astype(int)
    change = arrays["msdsr 2"][0, 5].astype(int) - arrays["truth"][0, 5]
    clear = np.abs(change) > 600
    warmer = shown[..., 0] > shown[..., 2]
    np.testing.assert_array_equal(warmer[clear], (change > 0)[clear])
    percent = float(
        page.text('[data-pane="msdsr-difference"] .value').rstrip(" %").replace("−", "-")
    )
    assert percent == pytest.approx(100 * change[13, 29] / 23000, abs=0.7)


def test_uncertainty_grows_with_the_standard_deviation(open_slide, report):
    _, _, arrays = report
    page = open_slide("#f=2&z=6&y=13&x=29&colour=CH3")
    page.focus()
    page.press("c")
    spread = arrays["spread 2"][1, 5]
    order = np.argsort(spread, axis=None)
    red = page.voxels("msdsr-spread", "xy")[..., 0].reshape(-1)[order].astype(int)
    assert (np.diff(red) >= -1).all()
    assert red[0] < 5 < 240 < red[-1]
    value = float(page.text('[data-pane="msdsr-spread"] .value'))
    assert value == pytest.approx(spread[13, 29], rel=0.02, abs=10)


def test_what_is_said_of_a_voxel_is_its_intensity(open_slide, report):
    _, pages, arrays = report
    page = open_slide("#f=2&z=6&y=20&x=7")
    words = page.text('[data-pane="truth"] .value')
    steps = [(c["high"] - c["low"]) / 255 for c in embedded(pages["S1"])["channels"]]
    values = dict(part.split() for part in words.split(" · "))
    for name, true, step in zip(SRH, arrays["truth"][:, 5, 20, 7], steps, strict=True):
        assert float(values[name]) == pytest.approx(true, abs=step / 2 + 1)


def test_the_window_clips_and_stretches(open_slide, report):
    _, _, arrays = report
    page = open_slide("#f=2&z=6&colour=CH2&window=20,60")
    page.focus()
    page.press("c")
    low, high = (3000 + part * 23000 for part in (0.2, 0.6))
    expected = to_rgb8(arrays["truth"][:1, 5], ("CH2",), Window((low,) * 3, (high,) * 3))
    shown = np.moveaxis(page.voxels("truth", "xy"), -1, 0)
    assert np.abs(shown.astype(int) - expected).max() <= 3
    page.page.focus("#white")
    page.press("ArrowRight")
    assert page.text("#window") == "20 – 61 %"


@pytest.mark.parametrize(("count", "modes"), [(1, 1), (2, 3), (3, 4), (5, 6)])
def test_other_channels(viewer, slide_of, tmp_path, count, modes):
    names = tuple(f"C{i}" for i in range(count))
    slide, arrays = slide_of("other", names, factors=(2,), seed=count)
    volumes = Volumes(slide.acquired, slide.restored, {}, slide.truth)
    path = tmp_path / "other.html"
    path.write_text(
        slide_page(
            volumes, EVEN, 64, cohort="c", title="t", slide="other", patient="p", notes="",
            neighbours=Neighbours(None, None),
        ).html
    )  # fmt: skip
    page = viewer().open(path, "#z=4")
    page.focus()
    page.press("c")
    assert len(page.page.query_selector_all("#mode option")) == modes
    assert not page.page.query_selector('#mode option[value="he"]')
    assert page.panes() == ["input", "linear", "msdsr", "truth", "msdsr-difference"]
    if count > 1:
        shown = np.moveaxis(page.voxels("truth", "xy"), -1, 0)
        expected = to_rgb8(arrays["truth"][:, 3], names, EVEN)
        assert np.abs(shown.astype(int) - expected).max() <= 2
    page.page.select_option("#mode", label=names[-1])
    page.settle()
    shown = page.voxels("truth", "xy")
    assert (shown[..., 0] == shown[..., 2]).all()
    correlation = np.corrcoef(shown[..., 0].ravel(), arrays["truth"][-1, 3].ravel())
    assert correlation[0, 1] > 0.95


def test_without_a_truth_the_difference_is_to_linear(open_slide, report):
    _, pages, _ = report
    hostile = next(name for name in pages if name != "S1")
    page = open_slide("#z=3", hostile)
    assert page.panes() == ["input", "linear", "msdsr", "msdsr-difference", "msdsr-spread"]
    assert page.text('[data-pane="msdsr-difference"] .name').endswith("msdsr − linear")


def test_names_are_shown_and_never_run(open_slide, report):
    _, pages, _ = report
    hostile = next(name for name in pages if name != "S1")
    page = open_slide("", hostile)
    assert page.text("h1") == hostile
    assert page.page.title().startswith(hostile)
    assert page.text("h1 + .facts").count("<script>") == 1
    assert page.page.query_selector("h1 *, .facts *") is None
    page.wait("location.hash.includes('slide=')")
    said = parse_qs(page.page.url.partition("#")[2])
    assert said["slide"] == [hostile]
    # The same address after the first page leads here.
    fragment = page.page.url.partition("#")[2]
    page.page.goto((report[0] / "index.html").as_uri() + "#" + fragment)
    page.page.wait_for_selector("#viewer[data-ready]")
    assert Path(unquote(page.page.url.partition("#")[0])).name == pages[hostile].name
