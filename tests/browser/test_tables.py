"""Tables that sort, lists that filter, and places that lead where they say."""

import re
import shutil
from urllib.parse import parse_qs

import pytest

COLUMN = """([selector, index]) => [...document.querySelector(selector).tBodies[0].rows]
  .filter((row) => row.checkVisibility()).map((row) => row.cells[index].textContent.trim())"""


@pytest.fixture
def open_page(viewer, report):
    def make(name, fragment="", **settings):
        page = viewer(**settings)
        page.page.goto((report[0] / f"{name}.html").as_uri() + fragment)
        return page

    return make


def header(page, table, label):
    return page.page.locator(f"{table} thead th", has_text=label).first


def column(page, table, index):
    return page.page.evaluate(COLUMN, [table, index])


def test_a_table_sorts_by_click_and_by_key(open_page):
    page = open_page("tables")
    table, head = "#distances table", header(page, "#distances table", "SliceFID")
    assert column(page, table, 0) == ["nearest", "linear", "msdsr"]
    floors = page.page.inner_text("#distances table tbody.floors")
    head.locator("button").click()
    assert column(page, table, 0) == ["msdsr", "linear", "nearest"]
    assert head.get_attribute("aria-sort") == "ascending"
    page.page.keyboard.press("Enter")  # the button has the focus
    assert column(page, table, 0) == ["nearest", "linear", "msdsr"]
    assert head.get_attribute("aria-sort") == "descending"
    other = header(page, table, "Method").locator("button")
    other.focus()
    page.page.keyboard.press("Space")
    assert column(page, table, 0) == ["linear", "msdsr", "nearest"]
    assert page.page.locator(f"{table} >> nth=0").locator("th[aria-sort]").count() == 1
    assert page.page.inner_text("#distances table tbody.floors") == floors


def test_a_choice_shows_its_tables_and_no_others(open_page):
    page = open_page("tables")
    shown = "(all) => all.filter((e) => e.checkVisibility()).map((e) => e.dataset.view)"
    parts = "#distances [data-view]"
    assert page.page.eval_on_selector_all(parts, shown) == ["v2/window"] * 2
    page.page.focus("#distances input:checked")
    page.page.keyboard.press("ArrowRight")
    assert page.page.eval_on_selector_all(parts, shown) == ["v2/equalised"] * 2
    page.page.check("#paired input[value=CH3]")
    assert page.page.eval_on_selector_all("#paired [data-view]", shown) == ["CH3"] * 2
    assert page.page.eval_on_selector_all(parts, shown) == ["v2/equalised"] * 2


def test_a_table_can_be_taken_home(open_page):
    page = open_page("tables")
    with page.page.expect_download() as waiting:
        page.page.click("#distances caption a")
    assert waiting.value.path().read_text(encoding="utf-8").startswith("factor,method,SliceFID")


def test_slides_are_found_filtered_and_counted(open_page, report):
    page = open_page("slides")
    hostile = next(name for name in report[1] if name != "S1")
    assert column(page, "#list", 1) == ["S1", hostile, "S3"]
    assert page.text("#count") == "3 slides"
    page.page.fill("#text", "<SCRIPT> alert")
    assert column(page, "#list", 1) == [hostile, "S3"]
    assert page.text("#count") == "2 of 3 slides"
    page.page.select_option("#flag", "failed")
    assert column(page, "#list", 1) == ["S3"]
    page.page.fill("#text", "")
    page.page.select_option("#flag", "none")
    assert column(page, "#list", 1) == ["S1", hostile]


def test_slides_sort_by_a_number_and_what_is_missing_stays_last(open_page):
    page = open_page("slides")
    head = header(page, "#list", "PSNR")
    index = head.evaluate("(th) => th.cellIndex")
    for way in ("ascending", "descending"):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == way
        *values, last = column(page, "#list", index)
        found = [float(value) for value in values]
        assert found == sorted(found, reverse=way == "descending")
        assert last == "–"


def test_numbers_of_another_factor_are_shown_on_demand(open_page):
    page = open_page("slides")
    seen = (
        "(all) => [...new Set(all.filter((e) => e.checkVisibility()).map((e) => e.dataset.view))]"
    )
    assert page.page.eval_on_selector_all("#list [data-view]", seen) == ["2"]
    page.page.check("#find input[value='4']")
    assert page.page.eval_on_selector_all("#list [data-view]", seen) == ["4"]


def test_places_lead_to_where_they_say(open_page, report):
    page = open_page("uncertainty")
    links = page.page.eval_on_selector_all(
        ".spot a", "(all) => all.map((a) => a.getAttribute('href'))"
    )
    assert len(links) >= 12
    for link in links[::4]:
        file, _, fragment = link.partition("#")
        asked = {key: values[0] for key, values in parse_qs(fragment).items()}
        page.page.goto("about:blank")
        page.open(report[0] / file, f"#{fragment}")
        said = re.findall(r"z (\d+) of .* y (\d+) · x (\d+)", page.text("#where"))
        assert said == [(asked["z"], asked["y"], asked["x"])]
        assert page.text("h1") == asked["slide"]
        assert page.page.is_checked(f'[name=factor][value="{asked["f"]}"]')


def test_without_javascript_everything_is_shown(context_of, report):
    page = context_of(java_script_enabled=False).new_page()
    page.goto((report[0] / "tables.html").as_uri())
    assert len([t for t in page.query_selector_all("#distances table") if t.is_visible()]) == 6
    assert not page.is_visible("#distances fieldset")
    page.goto((report[0] / "slides.html").as_uri())
    assert len(page.query_selector_all("#list tbody tr")) == 3
    assert not page.is_visible("#find")


def test_an_archive_opens_where_it_is_unpacked(viewer, report, tmp_path):
    shutil.unpack_archive(report[0] / "report.zip", tmp_path)
    page = viewer()
    page.page.goto((tmp_path / "report/index.html").as_uri())
    page.page.click("nav a >> text=Slides")
    page.page.click("a[data-slide]")
    page.page.wait_for_selector("#viewer[data-ready]")
    assert page.text("h1") == "S1"
