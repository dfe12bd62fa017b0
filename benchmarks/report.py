"""How large a cohort's report is, and how soon its pages can be read.

Reports of 50 and of 1,129 slides are built from made-up metrics (tests/cohort_tables.py) and from
one slide of 160 × 160 × 20 voxels that stands for all of them, at 2× and 4×, and opened from the
disk in Chromium: the time from asking for a page to its `load` event and two drawn frames; median
and worst of several visits. Typing into *Find* and sorting are timed on the longer list.

    python benchmarks/report.py [FOLDER]

Writes benchmarks/results/report.json. Needs Chromium and playwright (`make browser`).
"""

from __future__ import annotations

import datetime
import importlib.util
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, sync_playwright
from scipy.ndimage import gaussian_filter

from msdsr.config import ReportConfig
from msdsr.report import ReportSlide, build_report
from msdsr.report.pages import PAGES
from msdsr.volume import VoxelSize, write_volume

REPOSITORY = Path(__file__).parents[1]
OUT = REPOSITORY / "benchmarks/results/report.json"
SLIDES, MANY, VISITS = 50, 1129, 5
CHANNELS, SIDE, PLANES = ("CH2", "CH3"), 160, 20
TARGET_S, TARGET_MB = 2.0, 25.0
DRAWN = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


def slide(folder: Path) -> ReportSlide:
    """Write the volumes of one slide."""
    rng = np.random.default_rng(3)
    field = gaussian_filter(rng.standard_normal((2, 2 * PLANES, SIDE, SIDE)), (0, 1.5, 2, 2))
    field = (field - field.min()) / np.ptp(field) * 26000 + 2500
    whole = (field + rng.normal(0, 300, field.shape)).clip(0, 65535).astype(np.uint16)
    write_volume(folder / "acquired.ome.zarr", whole[:, ::2], VoxelSize(1, 0.5, 0.5), CHANNELS)
    restored = {}
    for factor in (2, 4):
        planes = (len(range(0, PLANES, factor // 2)) - 1) * factor + 1
        path = folder / f"msdsr_{factor}x.ome.zarr"
        write_volume(path, whole[:, :planes], VoxelSize(0.5, 0.5, 0.5), CHANNELS)
        restored[factor] = {"msdsr": path}
    return ReportSlide("one", "one", folder / "acquired.ome.zarr", restored)


def report(root: Path, count: int, settings: ReportConfig) -> tuple[Path, dict[str, Any]]:
    """Build the report of a cohort whose slides all look alike."""
    spec = importlib.util.spec_from_file_location(
        "cohort_tables", REPOSITORY / "tests/cohort_tables.py"
    )
    assert spec is not None
    assert spec.loader is not None
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    who = [(f"S{i:04d}", f"P{i // 3:03d}") for i in range(count)]
    window = ((4000, 3000, 2500), (12000, 26000, 28000))
    metrics = tables.publish(
        root / f"metrics{count}", who, truth=False, planes=37, side=(SIDE, SIDE), window=window
    )
    one = slide(root / f"slide{count}")
    out = root / f"report{count}"
    start = time.monotonic()
    manifest = build_report(
        cohort=f"{count} slides",
        metrics_dir=metrics,
        slides=[ReportSlide(name, patient, one.acquired, one.restored) for name, patient in who],
        curves={"phantom-tiny": REPOSITORY / "resources/models/phantom-tiny/metrics.jsonl"},
        manifests=[],
        out_dir=out,
        settings=settings,
        attribution="Made up.",
    )
    return out, manifest.measured | {"build_s": time.monotonic() - start}


def visits(page: Page, path: Path) -> list[float]:
    """Return the seconds of several visits, each after another page."""
    found = []
    for _ in range(VISITS):
        page.goto("about:blank")
        start = time.monotonic()
        page.goto(path.as_uri(), wait_until="load")
        page.evaluate(DRAWN)
        found.append(time.monotonic() - start)
    return found


def timed(page: Page, action: str) -> float:
    """Return the seconds that something takes until it is drawn."""
    start = time.monotonic()
    page.evaluate(action)
    page.evaluate(DRAWN)
    return time.monotonic() - start


def figure(what: str, value: str, target: str = "") -> dict[str, str]:
    """Return one row of the page of benchmarks."""
    machine = f"{os.cpu_count()} CPU cores, other work beside it; Debian's Chromium, headless"
    return {"what": what, "value": value, "target": target, "machine": machine}


def main() -> None:
    """Build, open and write down."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    few, sizes = report(root, SLIDES, ReportConfig(viewer_slides=4))
    many, more = report(
        root, MANY, ReportConfig(viewer_slides=0, slides_with_pictures=0, viewer_spots=0)
    )
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    found = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        visits(page, few / "method.html")  # the first page of a browser waits for the browser
        for folder, names in (
            (few, [file for file, _ in PAGES]),
            (many, ["index.html", "slides.html"]),
        ):
            count = SLIDES if folder == few else MANY
            for name in names:
                times = visits(page, folder / name)
                size = (folder / name).stat().st_size / 1e6
                value = f"{statistics.median(times):.2f} s (worst {max(times):.2f}), {size:.1f} MB"
                target = f"under {TARGET_S:g} s" if name in ("index.html", "slides.html") else ""
                found.append(figure(f"{name} of {count} slides opens", value, target))
        page.goto((many / "slides.html").as_uri())
        find = "document.getElementById('text').value = 's07';"
        find += "document.getElementById('text').dispatchEvent(new Event('input'))"
        found.append(figure(f"finding among {MANY} rows", f"{timed(page, find):.2f} s"))
        press = "document.querySelectorAll('#list .sort')[4].click()"
        found.append(figure(f"sorting {MANY} rows", f"{timed(page, press):.2f} s"))
        browser.close()
    first = f"{sizes['first_pages_bytes'] / 1e6:.1f} MB"
    largest = f"{sizes['largest_slide_page_bytes'] / 1e6:.1f} MB"
    built = f"building {SLIDES} slides, 4 with a viewer, 12 with pictures"
    listed = f"building {MANY} slides, none with a viewer or pictures"
    found += [
        figure(f"first pages of {SLIDES} slides, together", first, f"under {TARGET_MB:g} MB"),
        figure("largest page of a slide", largest),
        figure(built, f"{sizes['build_s']:.0f} s"),
        figure(listed, f"{more['build_s']:.0f} s"),
    ]
    record = {
        "claim": "A report of 50 slides opens by double-click in under 2 s, offline.",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {"python": platform.python_version()},
        "figures": found,
    }
    OUT.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
