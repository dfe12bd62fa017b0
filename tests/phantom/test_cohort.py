import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from msdsr.config import PhantomConfig
from msdsr.errors import UserError
from msdsr.manifest import read_manifest, sha256_file
from msdsr.phantom import cohort as cohort_module
from msdsr.phantom import make_slide, sheet_rows
from msdsr.sheet import read_sheet, write_sheet
from msdsr.volume import open_volume, read_spec

SMALL = PhantomConfig(size=72, planes=4, images_2d=1)
DEMO_SHEET = Path(__file__).parents[2] / "config" / "cohorts" / "demo.tsv"


def test_the_demo_sheet_is_what_the_defaults_give(tmp_path):
    write_sheet(tmp_path / "demo.tsv", sheet_rows(PhantomConfig(), "demo"))
    assert (tmp_path / "demo.tsv").read_text() == DEMO_SHEET.read_text(), (
        "run `msdsr phantom sheet --cohort demo config/cohorts/demo.tsv`"
    )


def test_a_sheet_passes_its_own_checks(tmp_path):
    settings = PhantomConfig(train_patients=120, val_patients=3, infer_patients=9, images_2d=2)
    write_sheet(tmp_path / "big.tsv", sheet_rows(settings, "big"))
    sheet = read_sheet(tmp_path / "big.tsv", check_files=False)
    assert len(sheet) == 120 * 3 + 3 * 3 + 9
    assert sheet.loc["P001-I2", "split"] == "train"
    assert (sheet.loc[sheet["split"] == "infer", "truth"] != "").all()
    assert (sheet.loc[sheet["split"] != "infer", "truth"] == "").all()


def test_a_stack_and_its_truth(tmp_path):
    raw, truth = tmp_path / "raw files" / "P05-S1.tif", tmp_path / "truth" / "P05-S1.ome.zarr"
    manifest = make_slide("P05-S1", SMALL, "demo", 3, raw, truth)
    with tifffile.TiffFile(raw) as tiff:
        assert tiff.series[0].axes == "ZCYX"
        pixels = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
        stack = tiff.asarray()
    assert [pixels[f"PhysicalSize{a}"] for a in "ZYX"] == [1.0, 0.5, 0.5]
    assert [c["Name"] for c in pixels["Channel"]] == ["CH2", "CH3"]
    assert stack.shape == (4, 2, 72, 72)
    spec = read_spec(truth)
    assert spec.shape == (2, 7, 72, 72)
    assert spec.voxel.zyx == (0.5, 0.5, 0.5)
    assert "noise" in spec.provenance["truth"]
    voxels = np.asarray(open_volume(truth))[:, ::2].transpose(1, 0, 2, 3).astype(float)
    error = (stack - voxels) / 65535
    assert 0.002 < error.std() < 0.015
    assert np.corrcoef(stack.ravel(), voxels.ravel())[0, 1] > 0.98
    assert manifest.counts["planes"] == 4
    assert read_manifest(raw).counts == manifest.counts
    assert read_manifest(truth).counts["planes"] == 7
    left = {p.name for p in tmp_path.rglob(".*")}
    assert left == set()


def test_a_2d_image_is_one_plane_of_the_same_patient(tmp_path):
    manifest = make_slide("P01-I1", SMALL, "demo", 3, tmp_path / "P01-I1.tif")
    with tifffile.TiffFile(tmp_path / "P01-I1.tif") as tiff:
        assert tiff.is_imagej
        assert tiff.series[0].axes == "CYX"
        assert tiff.asarray().shape == (2, 72, 72)
        assert tiff.pages[0].tags["XResolution"].value == (2, 1)
    assert manifest.counts["planes"] == 1
    plans = {p.slide: p for p in cohort_module.slides(SMALL)}
    image, stack, other = (
        cohort_module.microscope(plans[name], SMALL, "demo", 3)
        for name in ("P01-I1", "P01-S1", "P02-S1")
    )
    assert image.tissue == stack.tissue
    assert image.tissue != other.tissue
    assert image.field != stack.field


def test_a_slide_is_the_same_file_however_it_is_cut(tmp_path, monkeypatch):
    first, second = tmp_path / "a" / "P05-S1.tif", tmp_path / "b" / "P05-S1.tif"
    make_slide("P05-S1", SMALL, "demo", 3, first, tmp_path / "a" / "truth.ome.zarr")
    monkeypatch.setattr(cohort_module, "BLOCK", 25)
    make_slide("P05-S1", SMALL, "demo", 3, second, tmp_path / "b" / "truth.ome.zarr")
    assert sha256_file(first) == sha256_file(second)
    one, two = (np.asarray(open_volume(tmp_path / f / "truth.ome.zarr")) for f in "ab")
    assert np.array_equal(one, two)
    make_slide("P05-S1", SMALL, "demo", 3, second)
    assert sha256_file(first) == sha256_file(second)


@pytest.mark.parametrize(("cohort", "seed"), [("other", 3), ("demo", 4)])
def test_another_cohort_or_seed_is_another_slide(tmp_path, cohort, seed):
    make_slide("P05-S1", SMALL, "demo", 3, tmp_path / "a.tif")
    make_slide("P05-S1", SMALL, cohort, seed, tmp_path / "b.tif")
    assert sha256_file(tmp_path / "a.tif") != sha256_file(tmp_path / "b.tif")


def test_an_unknown_slide_is_refused(tmp_path):
    with pytest.raises(UserError, match="did you mean 'P05-S1'"):
        make_slide("P05-S2", SMALL, "demo", 3, tmp_path / "P05-S2.tif")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_large_slide_fits_in_two_gigabytes(tmp_path):
    """1000 × 1000 × 39 with its truth, in a process of its own."""
    code = (
        "import resource, sys; from pathlib import Path; from msdsr.config import PhantomConfig;"
        "from msdsr.phantom import make_slide; root = Path(sys.argv[1]);"
        "make_slide('P05-S1', PhantomConfig(size=1000), 'demo', 1, root / 'P05-S1.tif',"
        " root / 'truth' / 'P05-S1.ome.zarr');"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert read_spec(tmp_path / "truth" / "P05-S1.ome.zarr").shape == (2, 39, 1000, 1000)
    assert peak < 2e9
