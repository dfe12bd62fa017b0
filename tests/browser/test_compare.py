"""That the page of two cohorts opens anywhere and can be read in any light and width."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from msdsr.manifest import Manifest, write_manifest
from msdsr.report.compare import build_comparison

PAGES = Path(__file__).with_name("test_pages.py")


def checks():
    """Return what the report's own pages are held to."""
    spec = importlib.util.spec_from_file_location("browser_pages", PAGES)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CONTRAST, module.TOO_WIDE


@pytest.fixture(scope="session")
def comparison(tmp_path_factory, report):
    """Compare the cohort of the browser tests, its hostile names included, with a copy of it."""
    results = tmp_path_factory.mktemp("compared")
    metrics = report[0].parent / "metrics"
    for name in ("a", "b"):
        shutil.copytree(metrics, results / name / "metrics")
        write_manifest(results / name / "metrics", Manifest(stage="evaluate", algorithm=1))
        shutil.copytree(report[0], results / name / "report")
        path = results / name / "metrics/summary.json"
        summary = json.loads(path.read_text())
        changed = {"cohort": f"<script>alert('{name}')</script>", "crop": 32 if name == "a" else 64}
        path.write_text(json.dumps(summary | changed))
    return build_comparison("a", "b", results / "comparison.html", results)


def test_the_comparison_asks_for_nothing_and_leads_to_both_reports(viewer, comparison):
    page = viewer()
    page.page.goto(comparison.as_uri())
    page.page.wait_for_timeout(200)
    assert [url for url in page.asked if not url.startswith("data:")] == [comparison.as_uri()]
    assert "cannot be compared" in page.text("#overview")
    for number, letter in enumerate("ab"):
        page.page.goto(comparison.as_uri())
        page.page.locator(".top a").nth(number).click()
        page.page.wait_for_url(f"**/{letter}/report/index.html")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1600])
def test_the_comparison_can_be_read_in_any_light_and_width(viewer, comparison, scheme, width):
    contrast, too_wide = checks()
    page = viewer(color_scheme=scheme, viewport={"width": width, "height": 900})
    page.page.goto(comparison.as_uri())
    assert page.page.evaluate(contrast) == []
    assert page.page.evaluate(too_wide) == []
    assert page.page.evaluate("document.scrollingElement.scrollWidth") <= width
