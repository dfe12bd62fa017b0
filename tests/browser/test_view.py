"""Neuroglancer in a real Chromium: served by us, asking nobody else, drawing what is stored."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from msdsr.view import find_shown
from msdsr.view.serve import Service
from msdsr.volume import VoxelSize, write_volume
from msdsr.volume.labels import Label, Value, write_labels

SOFTWARE_GL = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
PLANES, ROWS, COLUMNS = 5, 64, 96


@pytest.fixture
def stores(tmp_path):
    """Left half bright in the first channel, lower half bright in the second."""
    voxels = np.zeros((2, PLANES, ROWS, COLUMNS), np.uint16)
    voxels[0, :, :, : COLUMNS // 2] = 20000
    voxels[1, :, ROWS // 2 :] = 9000
    folder = tmp_path / "slides/s1"
    for name in ("denoised", "msdsr_2x"):
        path = folder / f"{name}.ome.zarr"
        spec = write_volume(path, voxels, VoxelSize(1, 1, 1), ("CH2", "CH3"), chunk_yx=32)
    values = [Value(1, "acquired", (255, 0, 0, 255))]
    write_labels(path, spec, [Label("origin", values, lambda r: np.ones(r.shape, np.uint8))])
    return find_shown([folder])


@pytest.fixture
def page(chromium):
    # Only one Playwright can run in a thread: this is another browser of the one that does.
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)))
    browser = chromium.browser_type.launch(executable_path=path, args=SOFTWARE_GL)
    page = browser.new_page(viewport={"width": 1000, "height": 700})
    page.set_default_timeout(120000)
    yield page
    browser.close()


def colours(page):
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)


def test_neuroglancer_shows_the_voxels_and_asks_nobody_else(page, stores):
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    with Service(stores) as service:
        page.goto(service.url)
        assert page.evaluate("document.createElement('canvas').getContext('webgl2') !== null")
        wanted = {(255, 0, 255), (0, 255, 0), (255, 255, 255)}
        for _ in range(360):
            page.wait_for_timeout(250)
            picture = colours(page)
            counts = {c: int((picture == c).all(axis=-1).sum()) for c in wanted}
            if min(counts.values()) > 5000:
                break
        # CH2 is magenta, CH3 green, both together white.
        assert min(counts.values()) > 5000, counts
        # In the first panel magenta lies left of white, and green below it.
        panel = picture[60:340, :500]
        middle = {c: np.argwhere((panel == c).all(axis=-1)).mean(axis=0) for c in wanted}
        assert middle[255, 0, 255][0] < middle[255, 255, 255][0]
        assert abs(middle[255, 0, 255][1] - middle[255, 255, 255][1]) < 5
        assert middle[255, 255, 255][1] < middle[0, 255, 0][1]
        names = page.inner_text("body")
        base = service.url.partition("/v/")[0]
    assert errors == []
    assert [u for u in asked if not u.startswith((base, "data:", "blob:"))] == []
    assert [u for u in asked if "/0/c/" in u], "no chunk was asked for"
    assert [u for u in asked if u.endswith("/1/labels/origin/0/zarr.json")]
    for name in ("denoised CH2", "msdsr_2x CH3"):
        assert name in names
