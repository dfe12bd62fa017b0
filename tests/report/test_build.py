import base64
import re
import zipfile
from html.parser import HTMLParser

import pytest

from msdsr.config import ReportConfig
from msdsr.errors import UserError
from msdsr.failures import Failure
from msdsr.manifest import Manifest, read_manifest, write_manifest
from msdsr.report import ReportSlide
from msdsr.report.pages import PAGES

HOSTILE = """<script>alert('1')</script>"><img src=x onerror="alert(2)">&{{7*7}}$"""
VOID = {"meta", "img", "br", "link", "input", "hr"}
NAMES = [file.removesuffix(".html") for file, _ in PAGES]


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

    def words(self):
        return " ".join(" ".join(self.text).split())


def test_pages_hold_the_verdict_tables_pictures_and_provenance(build, slide_of, tmp_path):
    slides = [slide_of("s1"), slide_of("s2", "p2", notes="frozen section")]
    record = tmp_path / "made/raw.ome.zarr"
    write_manifest(
        record,
        Manifest(stage="ingest", algorithm=3, settings={"chunk_yx": 256}, seconds=75, seed=2024),
    )
    manifest, pages = build(slides, manifests=[record], notes=["Synthetic tissue."])
    assert sorted(pages) == sorted(NAMES)
    said = {name: Page(html).words() for name, html in pages.items()}
    for name, words in (
        ("index", "msdsr has the lowest SliceFID at 2×: 57.0, 30 % below linear (82.0)"),
        ("index", "FID on 40 images (fewer than 2048) is biased upward"),
        ("index", "Synthetic tissue."),
        ("index", "Synthetic tissue; CC0."),
        ("tables", "at most 20 crops of a slide and plane"),
        ("slides", "frozen section"),
        ("pictures", "frozen section"),
        ("method", "ingest 3 1 1.2 min cpu"),
        ("method", '"chunk_yx": 256'),
        ("method", "2024"),
        ("method", "No GPU was used"),
        ("method", "Energy Not measured"),
    ):
        assert words in said[name], words
    assert all("Research use only" in words for words in said.values())
    assert manifest.counts == {
        "slides": 2,
        "slides_with_pictures": 2,
        "slides_with_viewer": 2,
        "slides_failed": 0,
        "figures": 3,
    }
    assert sorted(p.name for p in (tmp_path / "report/figures").iterdir()) == [
        "slicefid.png",
        "slicefid.svg",
        "slide_s1_2x.png",
        "slide_s2_2x.png",
    ]
    assert read_manifest(tmp_path / "report").stage == "report"


def test_what_was_not_measured_is_left_out_and_said(build, slide_of):
    _, pages = build([slide_of(truth=False)])
    said = {name: Page(html).words() for name, html in pages.items()}
    assert "No acquired planes were left out" in said["tables"]
    assert "Distances were not resolved" in said["tables"]
    assert "Spectra: not measured." in said["figures"]
    assert "Coverage was not measured" in said["uncertainty"]
    assert "No places were listed" in said["uncertainty"]
    assert "Intervals were not measured" in said["index"]


def test_every_picture_has_a_text_and_nothing_is_loaded(build, published, slide_of):
    _, pages = build([slide_of(std=True)], published())
    for name, html in pages.items():
        page = Page(html)
        sources, texts = page.values("img", "src"), page.values("img", "alt")
        assert len(sources) == len(texts)
        assert all(source.startswith("data:image/") for source in sources)
        assert all(len(text) > 10 for text in texts)
        assert page.tags.count("script") == (name in ("index", "tables", "slides", "uncertainty"))
        assert page.values("script", "src") == []
        assert "link" not in page.tags
        assert set(re.findall(r"https?://[^\s\"'<]+", html)) == set()
    assert len(Page(pages["pictures"]).values("img", "src")) == 3 * 4
    assert len(Page(pages["figures"]).values("img", "src")) == 6


def test_every_link_leads_somewhere(build, published, slide_of, tmp_path):
    build([slide_of("s1", std=True), slide_of("s2")], published())
    folder = tmp_path / "report"
    files = [*folder.glob("*.html"), *folder.glob("slides/*.html")]
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in files}
    followed = 0
    for path, page in pages.items():
        for link in page.values("a", "href"):
            if link.startswith("data:"):
                assert link.startswith("data:text/csv;base64,")
                continue
            file, _, anchor = link.partition("#")
            target = (path.parent / file).resolve() if file else path
            assert target.exists(), link
            if anchor and target in pages and "=" not in anchor:
                ids = {v for _, n, v in pages[target].attributes if n == "id"}
                assert anchor in ids, link
            followed += 1
    assert followed > 60


def test_every_number_can_be_taken_home(build, published, slide_of, tmp_path):
    metrics = published()
    _, pages = build([slide_of()], metrics)
    tables = tmp_path / "report/tables"
    assert {p.name: p.read_bytes() for p in tables.iterdir()} == {
        p.name: p.read_bytes() for p in metrics.iterdir() if p.suffix in (".csv", ".parquet")
    }
    assert len(list(tables.iterdir())) == 18
    hrefs = [v for v in Page(pages["tables"]).values("a", "href") if v.startswith("data:text/csv")]
    found = [base64.b64decode(v.split(",")[1]) for v in hrefs]
    assert (metrics / "slicefid.csv").read_bytes() in found
    shown = next(csv.decode() for csv in found if csv.startswith(b"factor,method,SliceFID"))
    assert "2,msdsr,40.3" in shown


def test_hostile_names_are_shown_and_never_run(build, published, slide_of, tmp_path):
    other = HOSTILE.replace("1", "2")
    slides = [slide_of(HOSTILE, HOSTILE, notes=HOSTILE, std=True), slide_of(other, HOSTILE)]
    curve = tmp_path / "metrics.jsonl"
    curve.write_text('{"kind": "train", "images": 1, "loss": 1.0}\n')
    record = tmp_path / "hostile/raw.ome.zarr"
    hostile = Manifest(
        stage=HOSTILE, algorithm=1, settings={HOSTILE: HOSTILE}, warnings=[HOSTILE], device=HOSTILE,
        counts={"slide": HOSTILE},
    )  # fmt: skip
    write_manifest(record, hostile)
    failed = Failure(*[HOSTILE + "3"] * 4, "data", HOSTILE, HOSTILE)
    metrics = published(
        [(HOSTILE, HOSTILE), (other, HOSTILE)], warnings=[HOSTILE], channels=(HOSTILE, "CH3"),
        intervals=HOSTILE,
    )  # fmt: skip
    _, pages = build(
        slides,
        metrics,
        cohort=HOSTILE,
        curves={HOSTILE: curve, other: curve},
        manifests=[record],
        attribution=HOSTILE,
        notes=[HOSTILE],
        failed=[failed],
        settings=ReportConfig(title=HOSTILE),
    )
    for name, html in pages.items():
        page = Page(html)
        assert page.tags.count("script") <= 1
        assert not any(attribute.startswith("on") for _, attribute, _ in page.attributes)
        sources = page.values("img", "src")
        assert all(source.startswith("data:image/") for source in sources)
        shown = "".join(page.text).count(HOSTILE)
        assert shown >= {"index": 15, "tables": 4, "figures": 3, "pictures": 6}.get(name, 5), name
        for drawing in (s for s in sources if s.startswith("data:image/svg")):
            assert b"<script" not in base64.b64decode(drawing.split(",")[1])
    files = [path.name for path in (tmp_path / "report").rglob("*") if path.is_file()]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", file) for file in files)
    # Two names that become the same letters keep a figure each.
    assert sum(file.startswith("slide_") for file in files) == 2
    assert sum(file.startswith("training_") and file.endswith(".png") for file in files) == 2


def test_training_is_shown_where_there_is_a_diary(build, slide_of, tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"kind": "train", "images": 64, "loss": 0.5}\n')
    curves = {"tiny": tmp_path / "metrics.jsonl", "released": tmp_path / "none.jsonl"}
    _, pages = build([slide_of()], curves=curves)
    assert "Loss of model tiny over 64 training images" in pages["figures"]
    assert "released" not in pages["figures"]
    assert (tmp_path / "report/figures/training_tiny.png").exists()
    _, without = build([slide_of()])
    assert "Training" not in without["figures"]
    assert not (tmp_path / "report/figures/training_tiny.png").exists()


def test_pictures_are_capped_and_the_page_says_so(build, slide_of):
    slides = [slide_of(f"s{i}") for i in range(3)]
    manifest, pages = build(slides, settings=ReportConfig(slides_with_pictures=1))
    assert manifest.counts["slides_with_pictures"] == 1
    assert "2 more slides without pictures" in " ".join(pages["pictures"].split())


def test_a_slide_has_a_page_of_its_own_and_links_lead_there(build, slide_of, tmp_path):
    manifest, pages = build([slide_of("s1"), slide_of("s2"), slide_of("s3")])
    folder = tmp_path / "report"
    made = sorted(path.name for path in (folder / "slides").iterdir())
    assert made == ["s1.html", "s2.html", "s3.html"]
    links = [link for link in Page(pages["slides"]).values("a", "href") if "slides/" in link]
    assert {link.removeprefix("slides/") for link in links} == set(made)
    second = Page((folder / "slides/s2.html").read_text(encoding="utf-8"))
    leads = [link for link in second.values("a", "href") if not link.startswith("#")]
    assert {link for link in leads if ".." not in link} == {"s1.html", "s3.html"}
    sizes = [path.stat().st_size for path in (folder / "slides").iterdir()]
    assert manifest.measured["largest_slide_page_bytes"] == max(sizes)


def test_pages_of_slides_are_capped_and_the_page_says_so(build, slide_of, tmp_path):
    slides = [slide_of(f"s{i}") for i in range(3)]
    manifest, pages = build(slides, settings=ReportConfig(viewer_slides=2))
    assert manifest.counts["slides_with_viewer"] == 2
    assert "1 more slide without a page" in " ".join(pages["slides"].split())
    assert len(list((tmp_path / "report/slides").iterdir())) == 2
    _, none = build(slides, settings=ReportConfig(viewer_slides=0))
    assert "slides/" not in "".join(none.values())
    assert list((tmp_path / "report/slides").iterdir()) == []


def test_slides_that_failed_are_named_and_not_asked_for(build, slide_of, tmp_path):
    broken = ReportSlide("gone", "p9", tmp_path / "gone.ome.zarr", {2: {}})
    failed = [Failure("gone", "p9", "infer", "ingest", "data", "it is damaged", "a.log")]
    manifest, pages = build([slide_of(), broken], failed=failed)
    assert manifest.counts["slides_failed"] == 1
    assert "1 slide could not be processed" in Page(pages["index"]).words()
    assert "gone p9 failed ingest: it is damaged" in Page(pages["slides"]).words()


def test_a_cohort_without_truth_says_so(build, metrics_of, slide_of):
    _, pages = build([slide_of(truth=False)], metrics_of(paired=False, paired_slides=0))
    assert "No truth is known" in pages["method"]
    assert "PSNR" not in pages["index"]


def test_several_factors_have_a_table_each(build, metrics_of, slide_of):
    _, pages = build([slide_of()], metrics_of(factors=(2, 4)))
    assert pages["tables"].count("distance to real images <span>") == 2


def test_the_archive_holds_all_but_itself_and_is_the_same_every_time(build, slide_of, tmp_path):
    from msdsr.report.archive import pack

    build([slide_of()])
    folder = tmp_path / "report"
    archive = folder / "report.zip"
    before = archive.read_bytes()
    with zipfile.ZipFile(archive) as packed:
        assert packed.testzip() is None
        found = {name: packed.read(name) for name in packed.namelist()}
    files = [p for p in folder.rglob("*") if p.is_file() and p != archive]
    assert found == {f"report/{p.relative_to(folder)}": p.read_bytes() for p in files}
    for path in files:
        path.touch()
    assert pack(folder, "report").read_bytes() == before


def test_a_failed_build_leaves_the_old_page(build, slide_of, tmp_path):
    _, pages = build([slide_of()])
    broken = ReportSlide("gone", "p", tmp_path / "gone.ome.zarr", {2: {}})
    with pytest.raises(UserError):
        build([broken])
    assert (tmp_path / "report/index.html").read_text(encoding="utf-8") == pages["index"]


def test_missing_metrics_are_named(build, metrics_of, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no metrics of a cohort"):
        build([], tmp_path / "empty")
    metrics = metrics_of()
    (metrics / "slicefid.parquet").unlink()
    with pytest.raises(UserError, match=r"slicefid\.parquet"):
        build([], metrics)
