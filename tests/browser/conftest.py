"""A report of small volumes, and a real Chromium to open it in."""

import io
import os
import shutil
from base64 import b64decode

import numpy as np
import pytest
from PIL import Image

from msdsr.config import ReportConfig
from msdsr.failures import Failure
from msdsr.report import ReportSlide, build_report
from msdsr.volume import VoxelSize, write_volume
from msdsr.volume.colour import Window

HOSTILE = """<script>alert("1")</script>'&amp;<img src=x onerror=alert(2)>"""
WINDOW = Window((4000, 3000, 2500), (12000, 26000, 28000))
ROWS, COLUMNS, PLANES = 40, 48, 9
FINE, COARSE = VoxelSize(0.5, 0.5, 0.5), VoxelSize(1.0, 0.5, 0.5)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def missing(what):
    """Skip where a developer has no browser; in continuous integration that is a failure."""
    if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
        pytest.fail(f"{what}: continuous integration runs the browser tests", pytrace=False)
    pytest.skip(f"{what}: `make browser` installs Chromium")


@pytest.fixture(scope="session")
def chromium():
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        missing("no Chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("no playwright")
    # Playwright gives every launch a fresh profile.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


def volume(rng, shape):
    """Smooth shapes and some noise; smooth alone would hide an error of one voxel."""
    from scipy.ndimage import gaussian_filter

    field = gaussian_filter(rng.standard_normal(shape), (0, 1, 2, 2))
    field = (field - field.min()) / np.ptp(field) * 24000 + 2500
    return (field + rng.normal(0, 500, shape)).clip(0, 65535).astype(np.uint16)


@pytest.fixture(scope="session")
def slide_of(tmp_path_factory):
    """Write the volumes of a slide; return it and its arrays by name."""
    root = tmp_path_factory.mktemp("stores")

    def make(slide, channels=("CH2", "CH3"), truth=True, factors=(2, 4), seed=5):
        rng = np.random.default_rng(seed)
        folder = root / f"{len(list(root.iterdir()))}"
        whole = volume(rng, (len(channels), 2 * PLANES - 1, ROWS, COLUMNS))
        arrays = {"truth": whole, "acquired": whole[:, ::2]}
        write_volume(folder / "truth.ome.zarr", whole, FINE, channels)
        write_volume(folder / "acquired.ome.zarr", whole[:, ::2], COARSE, channels)
        restored, spread = {}, {}
        for factor in factors:
            made = (whole + rng.normal(0, 1500, whole.shape)).clip(0, 65535).astype(np.uint16)
            made[:, ::factor] = whole[:, ::factor]
            arrays[f"msdsr {factor}"] = made
            arrays[f"spread {factor}"] = np.abs(rng.normal(0, 800, whole.shape)).astype(np.float32)
            restored[factor] = {"msdsr": folder / f"msdsr_{factor}x.ome.zarr"}
            spread[factor] = {"msdsr": folder / f"msdsr_{factor}x_std.ome.zarr"}
            write_volume(restored[factor]["msdsr"], made, FINE, channels)
            write_volume(spread[factor]["msdsr"], arrays[f"spread {factor}"], FINE, channels)
        found = ReportSlide(
            slide,
            "P1",
            folder / "acquired.ome.zarr",
            restored,
            folder / "truth.ome.zarr" if truth else None,
            slide,
            spread,
        )
        return found, arrays

    return make


@pytest.fixture(scope="session")
def report(tmp_path_factory, slide_of, publish):
    """A report of two slides: its folder, its pages by slide, and the first one's arrays."""
    root = tmp_path_factory.mktemp("a lab's report")
    first, arrays = slide_of("S1")
    second, _ = slide_of(HOSTILE, truth=False, factors=(2,), seed=6)
    metrics = publish(
        root / "metrics", [("S1", "P1"), (HOSTILE, HOSTILE)], factors=(2, 4), warnings=[HOSTILE],
        window=(WINDOW.low, WINDOW.high), planes=2 * PLANES - 1, side=(ROWS, COLUMNS),
        intervals=HOSTILE,
    )  # fmt: skip
    build_report(
        cohort=HOSTILE,
        metrics_dir=metrics,
        slides=[first, second],
        curves={},
        manifests=[],
        out_dir=root / "report",
        settings=ReportConfig(title=HOSTILE, slides_with_pictures=1, viewer_side=64),
        attribution=HOSTILE,
        failed=[Failure("S3", "P3", "infer", "ingest", "data", HOSTILE, HOSTILE)],
    )
    pages = {
        "S1": root / "report/slides/S1.html",
        HOSTILE: next(p for p in (root / "report/slides").iterdir() if p.name != "S1.html"),
    }
    return root / "report", pages, arrays


class Viewer:
    """A page that is open, and what it said."""

    def __init__(self, page):
        self.page, self.said, self.asked, self.alerts, self.visits = page, [], [], [], 0
        self.heard = {
            "console": lambda message: self.said.append(message.text),
            "pageerror": lambda error: self.said.append(str(error)),
            "request": lambda request: self.asked.append(request.url),
            "dialog": self._dismiss,
        }
        for event, listener in self.heard.items():
            page.on(event, listener)

    def leave(self):
        """Leave the page to the next test; return whatever it should not have done."""
        for event, listener in self.heard.items():
            self.page.remove_listener(event, listener)
        away = [url for url in self.asked if not url.startswith(("file:", "data:"))]
        return [*self.said, *self.alerts, *away]

    def _dismiss(self, dialog):
        self.alerts.append(dialog.message)
        dialog.dismiss()

    def open(self, path, fragment=""):
        self.page.goto(path.as_uri() + fragment)
        self.page.wait_for_selector("#viewer[data-ready]")
        return self

    def settle(self):
        """Wait until what was asked for is drawn: two frames, and the delayed address."""
        self.page.evaluate(
            "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )

    def wait(self, expression):
        """Wait until an expression holds; the page's own policy forbids Playwright's waiting."""
        for _ in range(2400):
            if self.page.evaluate(expression):
                return
            self.page.wait_for_timeout(25)
        raise AssertionError(f"never came true: {expression}")

    def go(self, fragment):
        """Open another address of the same page."""
        # Never the hash that is there already: that would be no change.
        self.visits += 1
        self.page.evaluate(
            "(hash) => { delete document.getElementById('viewer').dataset.ready;"
            " location.hash = hash; }",
            f"{fragment}&visit={self.visits}",
        )
        self.page.wait_for_selector("#viewer[data-ready]")

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)
        self.settle()

    def focus(self):
        self.page.focus("#viewer")

    def text(self, selector):
        return self.page.inner_text(selector)

    def panes(self):
        """Return the panes that are seen."""
        return self.page.eval_on_selector_all(
            ".viewpane:not([hidden])", "(all) => all.map((pane) => pane.dataset.pane)"
        )

    def canvas(self, pane, view):
        """Return what a canvas shows: (rows, columns, 3), uint8."""
        uri = self.page.eval_on_selector(
            f'[data-pane="{pane}"] canvas.{view}', "(canvas) => canvas.toDataURL()"
        )
        return np.asarray(Image.open(io.BytesIO(b64decode(uri.partition(",")[2]))).convert("RGB"))

    def voxels(self, pane, view, planes=2 * PLANES - 1):
        """Return the colour in the middle of every voxel, at zoom 1: (down, right, 3)."""
        shown = self.canvas(pane, view)
        xy = self.page.eval_on_selector(f'[data-pane="{pane}"] canvas.xy', "(c) => c.width")
        step = xy / COLUMNS
        right, down = {"xy": (COLUMNS, ROWS), "xz": (COLUMNS, planes), "yz": (planes, ROWS)}[view]
        rows, columns = (
            ((length - count * step) / 2 + (np.arange(count) + 0.5) * step).astype(int)
            for length, count in zip(shown.shape[:2], (down, right), strict=True)
        )
        return shown[np.ix_(rows, columns)]


@pytest.fixture
def context_of(chromium):
    contexts = []

    def make(**settings):
        context = chromium.new_context(**{"viewport": {"width": 1200, "height": 900}} | settings)
        contexts.append(context)
        return context

    yield make
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def plain_page(chromium):
    """A page for all tests that ask for nothing special: to make one costs more than to load it."""
    context = chromium.new_context(viewport={"width": 1200, "height": 900}, offline=True)
    yield context.new_page()
    context.close()


@pytest.fixture
def viewer(context_of, plain_page):
    """Return a page that no request may leave; what goes wrong in it fails the test."""
    made = []

    def make(**settings):
        page = context_of(offline=True, **settings).new_page() if settings else plain_page
        page.set_default_timeout(60000)
        page.goto("about:blank")
        made.append(Viewer(page))
        return made[-1]

    yield make
    assert [wrong for each in made for wrong in each.leave()] == []
