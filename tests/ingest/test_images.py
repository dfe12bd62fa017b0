"""Lists of 2D images, and OpenSRH's tree as a sheet of them."""

import json

import numpy as np
import pandas as pd
import pytest
import tifffile

from msdsr.config import IngestConfig, SuperresolveConfig
from msdsr.errors import UserError
from msdsr.ingest import ingest
from msdsr.ingest.opensrh import convert_opensrh
from msdsr.sheet import read_sheet
from msdsr.superresolve.plan import plan_task
from msdsr.volume import VoxelSize, open_volume, read_spec

SRH = VoxelSize(1.0, 0.5, 0.5)


@pytest.fixture
def images(tmp_path, rng):
    """Five images of 2 × 20 × 30, their files, and a list of them."""
    voxels = rng.integers(0, 60000, (5, 2, 20, 30), dtype=np.uint16)
    files = [tmp_path / f"image {n}.tif" for n in range(5)]
    for path, image in zip(files, voxels, strict=True):
        tifffile.imwrite(path, image)
    listed = tmp_path / "slide.images.tsv"
    listed.write_text(
        "path\tclass\n" + "".join(f"{path}\tc{n % 2}\n" for n, path in enumerate(files))
    )
    return voxels, files, listed


def run(path, tmp_path):
    return ingest(
        path,
        tmp_path / "results" / "raw.ome.zarr",
        tmp_path / "work",
        voxel=SRH,
        channels=("CH2", "CH3"),
        slide="S1",
        patient="P1",
        settings=IngestConfig(chunk_yx=16),
    )


def test_every_image_becomes_a_plane(tmp_path, images):
    voxels, _, listed = images
    manifest = run(listed, tmp_path)
    store = tmp_path / "results" / "raw.ome.zarr"
    np.testing.assert_array_equal(open_volume(store).values, voxels.transpose(1, 0, 2, 3))
    spec = read_spec(store)
    assert not spec.stacked
    assert spec.provenance["kind"] == manifest.counts["kind"] == "images2d"
    assert spec.provenance["image_classes"] == ["c0", "c1", "c0", "c1", "c0"]
    for file in (tmp_path / "results").rglob("*.json"):
        assert "image 0" not in file.read_text()


def test_nothing_is_restored_between_them(tmp_path, images):
    run(images[2], tmp_path)
    store = tmp_path / "results" / "raw.ome.zarr"
    with pytest.raises(UserError, match="a list of 2D images; expected a z-stack"):
        plan_task(store, "linear", 2, SuperresolveConfig(), 0, None)


def test_the_pyramid_never_mixes_images(tmp_path, rng):
    files = []
    for n in range(4):
        files.append(tmp_path / f"{n}.tif")
        tifffile.imwrite(files[-1], np.full((2, 600, 600), 1000 * n, np.uint16))
    (tmp_path / "s.images.tsv").write_text("path\n" + "".join(f"{path}\n" for path in files))
    run(tmp_path / "s.images.tsv", tmp_path)
    coarse = open_volume(tmp_path / "results" / "raw.ome.zarr", level=2).values
    assert coarse.shape == (2, 4, 150, 150)
    assert [int(plane.max()) for plane in coarse[0]] == [0, 1000, 2000, 3000]


def test_what_is_wrong_with_a_list_is_one_line(tmp_path, images, rng):
    _, files, listed = images
    text = listed.read_text()
    listed.write_text(text + f"{tmp_path}/none.tif\tc0\n")
    with pytest.raises(UserError, match=r"line 7: .*none.tif does not exist"):
        run(listed, tmp_path)
    listed.write_text(text + f"{files[2]}\tc0\n")
    with pytest.raises(UserError, match="stands twice"):
        run(listed, tmp_path)
    listed.write_text("path\tkind\na.tif\tx\n")
    with pytest.raises(UserError, match="column 'kind'"):
        run(listed, tmp_path)
    listed.write_text("path\tclass\n")
    with pytest.raises(UserError, match="no image"):
        run(listed, tmp_path)
    listed.write_text(text)
    tifffile.imwrite(files[3], np.zeros((2, 20, 31), np.uint16))
    with pytest.raises(UserError, match=r"expected \(2, 1, 20, 30\), uint16") as caught:
        run(listed, tmp_path)
    assert caught.value.where == str(files[3])
    files[3].write_bytes(files[2].read_bytes()[:700])
    with pytest.raises(UserError, match="whole TIFF"):
        run(listed, tmp_path)
    assert not (tmp_path / "results" / "raw.ome.zarr").exists()


def test_a_changed_image_is_another_input(tmp_path, images):
    _, files, listed = images
    before = run(listed, tmp_path).inputs
    tifffile.imwrite(files[4], np.ones((2, 20, 30), np.uint16))
    assert run(listed, tmp_path).inputs != before


def test_opensrh_becomes_a_sheet_of_lists(opensrh, tmp_path):
    out = tmp_path / "cohorts" / "opensrh.tsv"
    found = convert_opensrh(opensrh, out, voxel=SRH)
    sheet = read_sheet(out)
    assert sheet["split"].to_dict() == {
        "NIO_001-1": "train", "NIO_001-2": "train", "NIO_002-1": "train", "NIO_003-1": "val",
    }  # fmt: skip
    assert sheet["class"].tolist() == ["hgg", "hgg", "normal", "mening"]
    assert sheet["patient"].nunique() == 3
    assert dict(found.images) == {"tumor": 9, "normal": 4}
    listed = pd.read_csv(sheet.loc["NIO_001-1", "path"], sep="\t")
    assert listed["class"].tolist() == ["tumor"] * 3 + ["normal"]
    manifest = run(sheet.loc["NIO_001-1", "path"], tmp_path)
    assert manifest.counts["planes"] == 4


def test_opensrh_options(opensrh, tmp_path):
    out = tmp_path / "opensrh.tsv"
    found = convert_opensrh(opensrh, out, voxel=SRH, label="diagnosis", nondiagnostic=True)
    assert found.images["nondiagnostic"] == 2
    listed = pd.read_csv(found.rows["path"].iloc[0], sep="\t")
    assert listed["class"].tolist() == ["hgg"] * 3 + ["normal"] + ["nondiagnostic"] * 2


def test_opensrh_in_part_or_in_disorder(opensrh, tmp_path):
    out = tmp_path / "opensrh.tsv"
    table = json.loads((opensrh / "meta/opensrh.json").read_text())
    for name in table["NIO_003"]["slides"]["1"]["tumor_patches"]:
        (opensrh / name).unlink()
    table["NIO_004"] = table["NIO_003"]
    (opensrh / "meta/opensrh.json").write_text(json.dumps(table))
    found = convert_opensrh(opensrh, out, voxel=SRH)
    assert dict(found.left_out) == {
        "images that are not there": 4,
        "slides without an image": 1,
        "patients in neither split": 1,
    }
    split = {"train": ["NIO_001"], "val": ["NIO_001"]}
    (opensrh / "meta/train_val_split.json").write_text(json.dumps(split))
    with pytest.raises(UserError, match="'NIO_001' is in train and val"):
        convert_opensrh(opensrh, out, voxel=SRH)
    with pytest.raises(UserError, match="no such file"):
        convert_opensrh(tmp_path, out, voxel=SRH)
