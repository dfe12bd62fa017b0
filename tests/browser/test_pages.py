"""That the pages open anywhere, speak to everyone, and can be read in any light and width."""

import io
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

CONTRAST = """() => {
  // Text whose contrast with what is behind it is under WCAG 2.1 AA: 4.5, or 3 where it is large.
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255)
    + 0.0722 * linear(b / 255);
  const behind = (node) => {
    const layers = [];
    for (let at = node; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      const alpha = colour.length > 3 ? colour[3] : 1;
      if (alpha > 0) layers.unshift([colour, alpha]);
      if (alpha === 1) break;
    }
    const over = (under, [c, a]) => under.map((v, i) => v * (1 - a) + c[i] * a);
    return layers.reduce(over, [255, 255, 255]);
  };
  const poor = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), node = walker.currentNode.parentElement;
    if (!text || !node.checkVisibility() || node.closest("script, .bar, option")) continue;
    const style = getComputedStyle(node), size = parseFloat(style.fontSize);
    const [dark, bright] = [light(parse(style.color)), light(behind(node))].sort((p, q) => p - q);
    const ratio = (bright + 0.05) / (dark + 0.05);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) poor.push(`${ratio.toFixed(2)} ${text.slice(0, 40)}`);
  }
  return poor;
}"""
PAGES = ("index", "tables", "figures", "slides", "pictures", "uncertainty", "method")
FOCUSED = """() => {
  const at = document.activeElement;
  return at.id || at.name || at.className || at.tagName;
}"""

TOO_WIDE = """() => [...document.body.querySelectorAll("*")]
  .filter((e) => e.checkVisibility() && !e.matches(".sr, .sr *, .skip, script") &&
    !e.parentElement.closest(".scroll, nav, .chips, .chart, .row") &&
    e.getBoundingClientRect().right > innerWidth + 0.5)
  .map((e) => `${e.tagName} ${e.className || e.id} ${e.innerText?.slice(0, 30)}`)"""


@pytest.fixture
def open_page(viewer, report):
    def make(which="S1", **settings):
        page = viewer(**settings)
        if which in PAGES:
            page.page.goto((report[0] / f"{which}.html").as_uri())
            return page
        return page.open(report[1][which])

    return make


def test_a_page_asks_for_nothing(open_page, report):
    page = open_page()
    page.page.wait_for_timeout(300)
    assert [url.partition("#")[0] for url in page.asked if not url.startswith("data:")] == [
        report[1]["S1"].as_uri()
    ]
    loaded = page.page.evaluate("performance.getEntriesByType('resource').map((e) => e.name)")
    assert all(name.startswith("data:") for name in loaded)


def test_the_policy_lets_no_other_script_run(open_page):
    page = open_page()
    page.page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'),"
        " {text: 'window.bad = 1'}))"
    )
    assert page.page.evaluate("window.bad") is None
    refused = [words for words in page.said if "Content Security Policy" in words]
    assert len(refused) == 1
    page.said.clear()


def test_pages_lead_to_each_other_and_to_slides(open_page, report):
    page = open_page("index")
    seen = []
    for label in ("Tables", "Figures", "Slides", "Pictures", "Where to doubt", "Method & prov"):
        page.page.click(f"nav a >> text={label}")
        seen.append(page.page.url.rpartition("/")[2])
        assert page.page.get_attribute("nav a[aria-current]", "href") == seen[-1]
    assert seen == [f"{name}.html" for name in PAGES[1:]]
    page.page.click("nav a >> text=Slides")
    links = page.page.query_selector_all("a[data-slide]")
    assert [link.inner_text() for link in links] == list(report[1])
    links[1].click()
    page.page.wait_for_selector("#viewer[data-ready]")
    page.page.click("nav.neighbours a >> text=S1")
    page.page.wait_for_selector("#viewer[data-ready]")
    assert page.text("h1") == "S1"
    page.page.click("nav a >> text=All slides")
    assert page.page.url.endswith("/slides.html")


@pytest.mark.parametrize("which", PAGES)
def test_every_page_has_landmarks_headings_and_names(open_page, which):
    page = open_page(which).page
    for landmark in ("header", "nav[aria-label]", "main#main", "footer"):
        assert len(page.query_selector_all(landmark)) == 1, landmark
    levels = page.eval_on_selector_all("h1, h2, h3, h4", "(all) => all.map((h) => +h.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    nameless = page.eval_on_selector_all(
        "button, select, input, a, img",
        "(all) => all.filter((e) => !(e.innerText?.trim() || e.alt || e.ariaLabel ||"
        " e.labels?.length)).length",
    )
    assert nameless == 0
    broken = page.evaluate(
        "Promise.allSettled([...document.images].map((i) => { i.loading = 'eager';"
        " return i.decode(); })).then((all) => all.filter((i) => i.status !== 'fulfilled').length)"
    )
    assert broken == 0


def test_the_whole_page_can_be_walked_by_keyboard(open_page):
    page = open_page()
    met = []
    while met.count("skip") < 2:
        page.page.keyboard.press("Tab")
        met.append(page.page.evaluate(FOCUSED))
        assert len(met) < 80, "the focus is trapped"
    # Round once: every control was met, and each pane's name.
    for control in ("viewer", "factor", "mode", "black", "white", "zoom-in", "cross", "help-open"):
        assert control in met, control
    assert met.index("help-open") < met.index("z") < met.index("name")
    assert met.count("name") == 6


def test_keys_alone_do_all_that_matters(open_page):
    page = open_page()
    page.press("Tab", "Enter", "Tab")  # along the link that skips to the viewer
    assert page.page.evaluate("document.activeElement.closest('#viewer') !== null")
    page.press("Shift+Tab")
    assert page.page.evaluate("document.activeElement.id") == "viewer"
    page.press("PageDown", "ArrowLeft", "+", "v", "3", "?")
    assert page.page.evaluate("document.getElementById('help').open")
    assert page.page.evaluate("document.getElementById('help').contains(document.activeElement)")
    page.press("Escape")
    assert page.page.evaluate("document.activeElement.id") == "viewer"
    assert page.panes() == ["msdsr"]
    assert page.page.input_value("#mode") == "he"


def test_what_is_seen_is_also_said(open_page):
    page = open_page()
    page.focus()
    page.press("Home", "PageDown")
    page.wait("document.getElementById('live').textContent === 'plane 2 of 17, 0.5 µm, generated'")
    assert page.page.get_attribute("#live", "aria-live") == "polite"
    labels = page.page.eval_on_selector_all(
        "canvas", "(all) => all.map((c) => [c.getAttribute('role'), c.getAttribute('aria-label')])"
    )
    assert len(labels) == 18
    assert all(role == "img" and label for role, label in labels)
    assert len({label for _, label in labels}) == 18
    assert labels[0][1] == "Input, XY at plane 2 of 17, 0.5 µm, generated"
    nameless = page.page.eval_on_selector_all(
        "button, select, input, a",
        "(all) => all.filter((e) => !(e.innerText.trim() || e.ariaLabel || e.labels?.length))"
        ".length",
    )
    assert nameless == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("which", ["S1", *PAGES])
def test_text_can_be_read_in_the_light_and_in_the_dark(open_page, scheme, which):
    page = open_page(which, color_scheme=scheme)
    assert page.page.evaluate(CONTRAST) == []
    if which == "S1":
        page.focus()
        page.press("?")
        assert page.page.evaluate(CONTRAST) == []
    paper = page.page.evaluate("getComputedStyle(document.body).backgroundColor")
    dark = max(int(v) for v in paper[4:-1].split(",")) < 100
    assert dark == (scheme == "dark")


@pytest.mark.parametrize("width", [390, 1600])
@pytest.mark.parametrize("which", ["S1", *PAGES])
def test_nothing_is_cut_off_at_any_width(open_page, which, width):
    page = open_page(which, viewport={"width": width, "height": 900})
    assert page.page.evaluate(TOO_WIDE) == []
    assert page.page.evaluate("document.scrollingElement.scrollWidth") <= width
    if which in PAGES:
        return
    picture = np.asarray(Image.open(io.BytesIO(page.page.screenshot())))
    assert picture.shape[:2] == (900, width)
    assert picture.std() > 20
    across = page.page.eval_on_selector("#panes", "(e) => getComputedStyle(e).gridTemplateColumns")
    assert len(across.split()) == (2 if width == 390 else 3)


def test_still_sharp_on_a_fine_screen(open_page):
    page = open_page(device_scale_factor=2)
    width, shown = page.page.eval_on_selector("canvas.xy", "(c) => [c.width, c.clientWidth]")
    assert width == 2 * shown


def test_nothing_moves_for_those_who_ask_for_that(open_page):
    page = open_page(reduced_motion="reduce")
    moving = page.page.evaluate(
        "[...document.querySelectorAll('*')].filter((e) =>"
        " parseFloat(getComputedStyle(e).transitionDuration) > 0).length"
    )
    assert moving == 0


def test_without_javascript_the_page_says_so(context_of, report):
    page = context_of(java_script_enabled=False).new_page()
    page.goto(report[1]["S1"].as_uri())
    assert "needs JavaScript" in page.inner_text("main")
