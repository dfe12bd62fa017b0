"""Wheel, keys, pointer and touch: what they move, and that the address says it."""

from urllib.parse import parse_qs

import numpy as np
import pytest


@pytest.fixture
def open_slide(viewer, report):
    def make(fragment="", **settings):
        return viewer(**settings).open(report[1]["S1"], fragment)

    return make


def where(page):
    """Return z, y, x as the page says them."""
    words = page.text("#where").replace("·", "").split()
    return int(words[1]), int(words[words.index("y") + 1]), int(words[words.index("x") + 1])


def middle_of(page, pane, view, right=0.5, down=0.5):
    box = page.page.query_selector(f'[data-pane="{pane}"] canvas.{view}').bounding_box()
    return box["x"] + right * box["width"], box["y"] + down * box["height"]


def zoom(page):
    return float(page.text("#zoom").rstrip("×"))


def address(page):
    """Return what the address says once it has caught up."""
    page.page.wait_for_timeout(260)
    return {k: v[0] for k, v in parse_qs(page.page.url.partition("#")[2]).items()}


def test_the_wheel_goes_through_z_and_the_page_follows(open_slide):
    page = open_slide("#z=5&y=20&x=24")
    before = page.canvas("msdsr", "xy")
    page.page.mouse.move(*middle_of(page, "input", "xy"))
    page.page.mouse.wheel(0, 120)
    page.settle()
    z, y, x = where(page)
    assert 5 < z <= 9
    assert (y, x) == (20, 24)
    assert not np.array_equal(page.canvas("msdsr", "xy"), before)
    page.page.mouse.wheel(0, -120)
    page.settle()
    assert where(page)[0] == 5
    np.testing.assert_array_equal(page.canvas("msdsr", "xy"), before)
    assert page.page.evaluate("scrollY") == 0


def test_at_the_last_plane_the_wheel_scrolls_the_page(open_slide):
    page = open_slide("#z=17", viewport={"width": 1200, "height": 500})
    page.page.mouse.move(*middle_of(page, "input", "xy"))
    page.page.mouse.wheel(0, 120)
    page.wait("scrollY > 0")
    assert where(page)[0] == 17


def test_keys_move_the_cross_hair_and_stop_at_the_edge(open_slide):
    page = open_slide()
    page.focus()
    for keys, expected in (
        (["PageDown"], (8, 20, 24)),
        (["PageUp", "PageUp"], (5, 20, 24)),
        (["Shift+PageDown"], (17, 20, 24)),
        (["Home"], (1, 20, 24)),
        (["End"], (17, 20, 24)),
        (["ArrowLeft", "ArrowUp"], (7, 19, 23)),
        (["Shift+ArrowRight", "ArrowDown"], (7, 21, 34)),
        (["Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowRight"], (7, 20, 47)),
        (["f", "]"], (9, 20, 24)),
        (["f", "["], (5, 20, 24)),
        (["PageDown", "f", "]"], (9, 20, 24)),
    ):
        page.go("#z=7&y=20&x=24&f=2")
        for key in keys:
            page.press(key)
            if key == "f":
                page.wait("document.querySelector('[name=factor]:checked').value === '4'")
        assert where(page) == expected, keys


def test_keys_are_heard_only_in_the_viewer(open_slide):
    page = open_slide("#z=7")
    page.press("PageDown", "3", "c", "?")
    assert where(page)[0] == 7
    assert len(page.panes()) == 6
    assert not page.page.evaluate("document.getElementById('help').open")


def test_a_click_moves_the_cross_hair_and_the_cross_sections_follow(open_slide):
    page = open_slide("#z=7&y=2&x=2")
    page.focus()
    page.press("c")
    before = {view: page.canvas("truth", view) for view in ("xy", "xz", "yz")}
    page.page.mouse.click(*middle_of(page, "linear", "xy", 30.5 / 48, 10.5 / 40))
    page.settle()
    assert where(page) == (7, 10, 30)
    np.testing.assert_array_equal(page.canvas("truth", "xy"), before["xy"])
    assert not np.array_equal(page.canvas("truth", "xz"), before["xz"])
    assert not np.array_equal(page.canvas("truth", "yz"), before["yz"])


def test_a_click_in_a_cross_section_moves_z(open_slide):
    page = open_slide("#z=7&y=20&x=24")
    page.page.mouse.click(*middle_of(page, "msdsr", "xz", 8.5 / 48, 15.5 / 17))
    page.settle()
    z, y, x = where(page)
    assert (y, x) == (20, 8)
    assert abs(z - 16) <= 1  # a strip is a whole number of pixels high
    page.page.mouse.click(*middle_of(page, "msdsr", "yz", 1.5 / 17, 3.5 / 40))
    page.settle()
    z, y, x = where(page)
    assert (y, x) == (3, 8)
    assert abs(z - 2) <= 1


def test_the_cross_hair_can_be_seen_and_hidden(open_slide):
    page = open_slide("#z=7&y=20&x=24")
    with_hair = page.canvas("truth", "xy")
    page.page.click("#cross")
    page.settle()
    changed = np.any(with_hair != page.canvas("truth", "xy"), axis=-1)
    rows, columns = np.flatnonzero(changed.mean(1) > 0.7), np.flatnonzero(changed.mean(0) > 0.7)
    step = changed.shape[1] / 48
    assert abs(rows.mean() - 20.5 * step) < 1.5
    assert abs(columns.mean() - 24.5 * step) < 1.5
    assert page.page.get_attribute("#cross", "aria-pressed") == "false"


def test_acquired_planes_are_marked(open_slide):
    page = open_slide("#f=4&z=6")
    slider = page.page.query_selector("#z").bounding_box()
    ticks = page.page.query_selector_all("#ticks i")
    assert len(ticks) == 5
    assert page.text("#kind") == "generated"
    for i, tick in enumerate(ticks):
        box = tick.bounding_box()
        at = (box["x"] + box["width"] / 2 - slider["x"] - 9) / (slider["width"] - 18)
        assert at == pytest.approx(i / 4, abs=0.01)
    page.focus()
    page.press("]")
    assert page.text("#kind") == "acquired"
    assert page.page.get_attribute("#z", "aria-valuetext") == "plane 9 of 17, 4.0 µm, acquired"
    # The edge of a cross-section has a tick at every acquired plane.
    teal = np.abs(page.canvas("truth", "xz")[:, 1].astype(int) - (0x5C, 0xC8, 0xC4)).max(-1) < 3
    assert np.count_nonzero(np.diff(teal.astype(int)) == 1) + teal[0] == 5


def test_zoom_keeps_the_place_under_the_pointer_and_pan_moves_it(open_slide):
    page = open_slide("#z=7&y=20&x=24")
    page.focus()
    page.press("c")
    right, down = 36.5 / 48, 10.5 / 40
    at = middle_of(page, "truth", "xy", right, down)
    height, width, _ = page.canvas("truth", "xy").shape
    x, y = int(right * width), int(down * height)
    before = page.canvas("truth", "xy")[y, x]
    page.page.mouse.move(*at)
    page.page.keyboard.down("Control")
    page.page.mouse.wheel(0, -220)
    page.page.keyboard.up("Control")
    page.settle()
    assert zoom(page) > 2.5
    np.testing.assert_array_equal(page.canvas("truth", "xy")[y, x], before)
    hair = where(page)
    page.page.mouse.down()
    page.page.mouse.move(at[0] - 60, at[1] + 40, steps=4)
    page.page.mouse.up()
    page.settle()
    assert where(page) == hair
    np.testing.assert_array_equal(page.canvas("truth", "xy")[y + 40, x - 60], before)
    page.page.click("#reset")
    page.settle()
    assert zoom(page) == 1
    np.testing.assert_array_equal(page.canvas("truth", "xy")[y, x], before)


def test_zoomed_in_the_cross_hair_stays_in_sight(open_slide):
    page = open_slide("#z=7&y=20&x=24&zoom=8")
    page.focus()
    for _ in range(3):
        page.press("Shift+ArrowLeft")
    shown = page.canvas("truth", "xy").astype(int)
    hair = np.abs(shown - (0xFF, 0xD5, 0x4A)).max(-1) < 12
    assert hair.any(axis=0).mean() > 0.5
    assert hair.mean(axis=0).max() > 0.5


def test_a_key_shows_one_pane_alone_and_again_all(open_slide):
    page = open_slide()
    everything = page.panes()
    assert len(everything) == 6
    small = page.canvas("msdsr", "xy").shape
    page.focus()
    page.press("3")
    assert page.panes() == ["msdsr"]
    assert page.canvas("msdsr", "xy").shape > small
    page.press("3")
    assert page.panes() == everything
    page.press("Shift+Digit2", "Shift+Digit6")
    assert page.panes() == [p for p in everything if p not in ("linear", "msdsr-spread")]
    page.press("0")
    assert page.panes() == everything
    page.page.click("#chips button >> text=Input")
    page.settle()
    assert page.panes() == everything[1:]
    page.page.click('[data-pane="truth"] .name')
    page.settle()
    assert page.panes() == ["truth"]


def test_another_factor_stays_at_the_same_depth(open_slide):
    page = open_slide("#f=2&z=6")
    page.focus()
    page.page.check("input[value='4']")
    page.wait("document.querySelectorAll('#ticks i').length === 5")
    page.settle()
    assert where(page)[0] == 6
    assert address(page)["f"] == "4"


def test_an_address_opens_what_it_says_and_follows(open_slide, report):
    page = open_slide("#slide=S1&f=4&z=12&y=31&x=5&colour=CH3&window=10,80&zoom=2&pane=truth")
    assert where(page) == (12, 31, 5)
    assert page.panes() == ["truth"]
    assert page.page.input_value("#mode") == "1"
    assert (page.text("#window"), zoom(page)) == ("10 – 80 %", 2)
    page.focus()
    page.press("PageDown", "ArrowRight", "3")
    said = address(page)
    assert (said["slide"], said["f"], said["z"], said["y"], said["x"]) == (
        "S1",
        "4",
        "13",
        "31",
        "6",
    )
    assert (said["pane"], said["colour"], said["window"]) == ("msdsr", "CH3", "10,80")
    page.page.evaluate("location.hash = '#f=2&z=3'")
    page.wait("document.getElementById('where').textContent.startsWith('z 3 ')")
    assert len(page.panes()) == 6


def test_a_wrong_address_opens_the_page(open_slide):
    page = open_slide("#%E0%A4%A")
    for nonsense in (
        "#%E0%A4%A",
        "#z=-4&y=1e9&x=NaN&f=77&zoom=-1",
        "#z=<script>&pane=__proto__",
        "#viewer",
        "#colour=he&colour=",
        "#window=90,10&zoom=1e99",
    ):
        page.go(nonsense)
        assert len(page.panes()) == 6
        assert 1 <= where(page)[0] <= 17
        assert 1 <= zoom(page) <= 16


def test_the_first_page_leads_on(viewer, report):
    folder, pages, _ = report
    page = viewer()
    page.page.goto((folder / "index.html").as_uri() + "#slide=S1&f=4&z=3&y=9&x=8")
    page.page.wait_for_selector("#viewer[data-ready]")
    assert page.page.url.partition("#")[0] == pages["S1"].as_uri()
    assert where(page) == (3, 9, 8)
    # A slide that this page does not hold: back to the list, which knows them all.
    page.page.evaluate("location.hash = '#slide=S2'")
    page.page.wait_for_url("**/slides.html#slide=S2")
    assert page.page.query_selector("#slides")


def test_fingers_tap_drag_and_pinch(open_slide):
    page = open_slide("#z=7&y=2&x=2", has_touch=True, viewport={"width": 390, "height": 800})
    page.page.eval_on_selector('[data-pane="msdsr"]', "(p) => p.scrollIntoView({block: 'center'})")
    x, y = middle_of(page, "msdsr", "xy")
    page.page.touchscreen.tap(x, y)
    page.settle()
    assert where(page) == (7, 20, 24)
    session = page.page.context.new_cdp_session(page.page)

    def touch(kind, *points):
        held = [{"x": a, "y": b, "id": i} for i, (a, b) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": held})
        page.settle()  # moves of one frame are put together

    page.page.evaluate(
        """() => { window.fingers = []; document.getElementById("panes")
          .addEventListener("pointerdown", (e) => window.fingers.push(e.pointerId)) }"""
    )
    touch("touchStart", (x - 15, y), (x + 15, y))
    for apart in (20, 30, 45):
        touch("touchMove", (x - apart, y), (x + apart, y))
    page.page.eval_on_selector(
        '[data-pane="msdsr"] canvas.xy',
        """(canvas) => canvas.dispatchEvent(new PointerEvent("pointercancel",
          {pointerId: window.fingers[0], bubbles: true}))""",
    )
    touch("touchMove", (x, y), (x + 5, y))  # a finger that is no longer there zooms nothing
    touch("touchEnd")
    page.settle()
    assert zoom(page) == pytest.approx(3, abs=0.7)
    before, hair = page.canvas("msdsr", "xy"), where(page)
    touch("touchStart", (x, y))
    for step in (8, 16, 24):
        touch("touchMove", (x + step, y + step))
    touch("touchEnd")
    page.settle()
    assert where(page) == hair
    assert not np.array_equal(page.canvas("msdsr", "xy"), before)
