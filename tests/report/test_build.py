import base64
import re
from html.parser import HTMLParser

import pytest

from msdsr.config import ReportConfig
from msdsr.errors import UserError
from msdsr.manifest import Manifest, read_manifest, write_manifest
from msdsr.report import ReportSlide

HOSTILE = """<script>alert('1')</script>"><img src=x onerror="alert(2)">&{{7*7}}$"""
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags close in order."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text, self._open = [], [], [], []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attributes]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def values(self, tag, name):
        return [v for t, n, v in self.attributes if (t, n) == (tag, name)]


def test_a_page_holds_tables_pictures_and_provenance(build, slide_of, tmp_path):
    slides = [slide_of("s1"), slide_of("s2", "p2", notes="frozen section")]
    record = tmp_path / "made/raw.ome.zarr"
    write_manifest(
        record,
        Manifest(stage="ingest", algorithm=3, settings={"chunk_yx": 256}, seconds=75, seed=2024),
    )
    manifest, html = build(slides, manifests=[record], notes=["Synthetic tissue."])
    page = Page(html)
    text = " ".join(" ".join(page.text).split())
    for words in (
        "msdsr has the lowest SliceFID at 2×: 57.0, 30 % below linear (82.0)",
        "FID on 40 images (fewer than 2048) is biased upward",
        "At most 20 crops of a slide and plane",
        "Research use only",
        "frozen section",
        "Synthetic tissue.",
        "Synthetic tissue; CC0.",
        "ingest 3 1 1.2 min cpu",
        '"chunk_yx": 256',
        "2024",
    ):
        assert words in text, words
    assert manifest.counts == {
        "slides": 2,
        "slides_with_pictures": 2,
        "slides_with_viewer": 2,
        "figures": 3,
    }
    assert sorted(p.name for p in (tmp_path / "report/figures").iterdir()) == [
        "slicefid.png",
        "slide_s1_2x.png",
        "slide_s2_2x.png",
    ]
    assert read_manifest(tmp_path / "report").stage == "report"


def test_every_picture_has_a_text_and_nothing_is_loaded(build, slide_of):
    _, html = build([slide_of()])
    page = Page(html)
    sources, texts = page.values("img", "src"), page.values("img", "alt")
    assert len(sources) == len(texts) == 1 + 3 * 4
    assert all(source.startswith("data:image/") for source in sources)
    assert all(len(text) > 10 for text in texts)
    assert page.tags.count("script") == 1
    assert page.values("script", "src") == []
    assert "link" not in page.tags
    links = page.values("a", "href")
    assert links
    assert all(link.startswith(("#", "data:text/csv;base64,", "slides/")) for link in links)
    assert set(re.findall(r"https?://[^\s\"'<]+", html)) == set()


def test_inner_links_lead_somewhere(build, slide_of):
    _, html = build([slide_of()])
    page = Page(html)
    ids = {v for _, n, v in page.attributes if n == "id"}
    assert {v[1:] for v in page.values("a", "href") if v.startswith("#")} <= ids


def test_the_numbers_can_be_taken_home(build, slide_of, tmp_path):
    _, html = build([slide_of()])
    hrefs = [v for v in Page(html).values("a", "href") if v.startswith("data:text/csv")]
    found = [base64.b64decode(v.split(",")[1]) for v in hrefs]
    assert found == [
        (tmp_path / f"metrics/{name}.csv").read_bytes() for name in ("slicefid", "paired", "slides")
    ]


def test_hostile_names_are_shown_and_never_run(build, metrics_of, slide_of, tmp_path):
    slide = slide_of(HOSTILE, HOSTILE, notes=HOSTILE)
    curve = tmp_path / "metrics.jsonl"
    curve.write_text('{"kind": "train", "images": 1, "loss": 1.0}\n')
    record = tmp_path / "hostile/raw.ome.zarr"
    hostile = Manifest(
        stage=HOSTILE, algorithm=1, settings={HOSTILE: HOSTILE}, warnings=[HOSTILE], device=HOSTILE
    )
    write_manifest(record, hostile)
    metrics = metrics_of((HOSTILE, "s2"), warnings=[HOSTILE], channels=[HOSTILE, "CH3"])
    _, html = build(
        [slide],
        metrics,
        cohort=HOSTILE,
        curves={HOSTILE: curve},
        manifests=[record],
        attribution=HOSTILE,
        notes=[HOSTILE],
        settings=ReportConfig(title=HOSTILE),
    )
    page = Page(html)
    assert page.tags.count("script") == 1
    assert not any(name.startswith("on") for _, name, _ in page.attributes)
    assert all(source.startswith("data:image/") for source in page.values("img", "src"))
    assert "".join(page.text).count(HOSTILE) >= 10
    drawings = [s for s in page.values("img", "src") if s.startswith("data:image/svg")]
    assert len(drawings) == 2
    for drawing in drawings:
        assert b"<script" not in base64.b64decode(drawing.split(",")[1])
    names = [path.name for path in (tmp_path / "report/figures").iterdir()]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", name) for name in names)


def test_training_is_shown_where_there_is_a_diary(build, slide_of, tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"kind": "train", "images": 64, "loss": 0.5}\n')
    curves = {"tiny": tmp_path / "metrics.jsonl", "released": tmp_path / "none.jsonl"}
    _, html = build([slide_of()], curves=curves)
    assert "Loss of model tiny over 64 training images" in html
    assert "released" not in html
    assert (tmp_path / "report/figures/training_tiny.png").exists()
    _, without = build([slide_of()])
    assert 'id="training"' not in without
    assert not (tmp_path / "report/figures/training_tiny.png").exists()


def test_pictures_are_capped_and_the_page_says_so(build, slide_of):
    slides = [slide_of(f"s{i}") for i in range(3)]
    manifest, html = build(slides, settings=ReportConfig(slides_with_pictures=1))
    assert manifest.counts["slides_with_pictures"] == 1
    assert "2 more slides without pictures" in " ".join(html.split())


def test_a_slide_has_a_page_of_its_own_and_links_lead_there(build, slide_of, tmp_path):
    manifest, html = build([slide_of("s1"), slide_of("s2"), slide_of("s3")])
    folder = tmp_path / "report"
    pages = sorted(path.name for path in (folder / "slides").iterdir())
    assert pages == ["s1.html", "s2.html", "s3.html"]
    links = [link for link in Page(html).values("a", "href") if link.startswith("slides/")]
    assert {link.removeprefix("slides/") for link in links} == set(pages)
    second = Page((folder / "slides/s2.html").read_text(encoding="utf-8"))
    leads = [link for link in second.values("a", "href") if not link.startswith("#")]
    assert {link for link in leads if ".." not in link} == {"s1.html", "s3.html"}
    assert all((folder / "slides" / link.partition("#")[0]).exists() for link in leads)
    sizes = [path.stat().st_size for path in (folder / "slides").iterdir()]
    assert manifest.measured["largest_slide_page_bytes"] == max(sizes)


def test_pages_of_slides_are_capped_and_the_page_says_so(build, slide_of, tmp_path):
    slides = [slide_of(f"s{i}") for i in range(3)]
    manifest, html = build(slides, settings=ReportConfig(viewer_slides=2))
    assert manifest.counts["slides_with_viewer"] == 2
    assert "1 more slide without a page" in " ".join(html.split())
    assert len(list((tmp_path / "report/slides").iterdir())) == 2
    _, none = build(slides, settings=ReportConfig(viewer_slides=0))
    assert "slides/" not in none
    assert list((tmp_path / "report/slides").iterdir()) == []


def test_a_cohort_without_truth_says_so(build, metrics_of, slide_of):
    _, html = build([slide_of(truth=False)], metrics_of(paired=False, paired_slides=0))
    assert "No truth is known" in html
    assert "PSNR is highest" not in html


def test_several_factors_have_a_table_each(build, metrics_of, slide_of):
    _, html = build([slide_of()], metrics_of(factors=(2, 4)))
    assert html.count("<caption>") == 2


def test_a_failed_build_leaves_the_old_page(build, slide_of, tmp_path):
    _, html = build([slide_of()])
    broken = ReportSlide("gone", "p", tmp_path / "gone.ome.zarr", {2: {}})
    with pytest.raises(UserError):
        build([broken])
    assert (tmp_path / "report/index.html").read_text(encoding="utf-8") == html


def test_missing_metrics_are_named(build, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no metrics of a cohort"):
        build([], tmp_path / "empty")
