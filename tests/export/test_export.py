import importlib
import json
import subprocess
import zipfile

import numpy as np
import pytest
import tifffile
import yaozarrs
import zarr
from ome_zarr_models.v04 import Image as Image04
from ome_zarr_models.v05 import Image as Image05

from msdsr.errors import UserError
from msdsr.export import Format, export
from msdsr.export.formats import choose_format
from msdsr.manifest import read_manifest
from msdsr.volume import VoxelSize, read_spec, write_volume
from msdsr.volume.labels import Label, Value, write_labels

CHANNELS = ('CH2 <a&"b">', "CH3 µ")


@pytest.fixture
def store(tmp_path, rng):
    """A store with three levels, the last with half the planes; a label; a time stamp."""
    path = tmp_path / "results/demo/slides/s1/msdsr_2x.ome.zarr"
    voxels = rng.integers(0, 60000, (2, 5, 530, 610), np.uint16)
    spec = write_volume(path, voxels, VoxelSize(1.0, 0.5, 0.5), CHANNELS, name="s1 <msdsr>",
                        chunk_yx=128, shard_mb=1.0, provenance={"stage": "test"})  # fmt: skip
    fill = lambda region: np.full(region.shape, 2, np.uint8)  # noqa: E731
    values = [Value(1, "acquired", (1, 2, 3, 255)), Value(2, "restored", (4, 5, 6, 255))]
    write_labels(path, spec, [Label("origin", values, fill)])
    (path / ".snakemake_timestamp").touch()
    (path / "0/c/x.partial").touch()
    return path


def levels(store):
    group = store if isinstance(store, zarr.Group) else zarr.open_group(store, mode="r")
    ome = dict(group.attrs)
    ome = ome.get("ome", ome)
    return [np.asarray(group[d["path"]]) for d in ome["multiscales"][0]["datasets"]], ome


def same(a, b):
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_a_single_file_holds_what_rfc_9_asks_for(store, tmp_path):
    out = tmp_path / "shared/s1.ozx"
    manifest, product = export(store, out, Format.OZX)
    assert product == out
    with zipfile.ZipFile(out) as archive:
        assert archive.testzip() is None
        entries = archive.infolist()
        assert json.loads(archive.comment) == {
            "ome": {"version": "0.5", "zipFile": {"centralDirectory": {"jsonFirst": True}}}
        }
    names = [e.filename for e in entries]
    metadata = [n for n in names if n.endswith("zarr.json")]
    assert names[0] == "zarr.json"
    assert names[: len(metadata)] == metadata
    depths = [n.count("/") for n in metadata]
    assert depths == sorted(depths)
    assert {e.compress_type for e in entries} == {zipfile.ZIP_STORED}
    # The order of the bytes is that of the directory, and every entry has ZIP64's extra field.
    offsets = [e.header_offset for e in entries]
    assert offsets == sorted(offsets)
    raw = out.read_bytes()
    for offset in offsets:
        assert raw[offset + 4 : offset + 6] == b"\x2d\x00"  # version 4.5 is needed: ZIP64
    assert not [n for n in names if "snakemake" in n or n.endswith((".partial", "/"))]
    assert (
        manifest.counts["sha256"] == read_manifest(tmp_path / "shared/s1.ozx.json").counts["sha256"]
    )
    assert sorted(p.name for p in out.parent.iterdir()) == ["s1.ozx", "s1.ozx.json"]


def test_a_single_file_is_read_by_zarr_and_both_validators(store, tmp_path):
    out = tmp_path / "s1.ozx"
    export(store, out, Format.OZX)
    with zarr.storage.ZipStore(out, mode="r") as zipped:
        group = zarr.open_group(zipped, mode="r")
        Image05.from_zarr(group)
        found, ome = levels(group)
        wanted, wanted_ome = levels(store)
        same(found, wanted)
        assert ome == wanted_ome
        assert group.attrs["msdsr"] == {"stage": "test"}
        assert int(np.asarray(group["labels/origin/0"]).min()) == 2
    with zipfile.ZipFile(out) as archive:
        archive.extractall(tmp_path / "again.ome.zarr")
    yaozarrs.validate_zarr_store(str(tmp_path / "again.ome.zarr"))


def test_the_same_store_gives_the_same_bytes(store, tmp_path):
    first, _ = export(store, tmp_path / "a.ozx", Format.OZX)
    (store / "zarr.json").touch()
    second, _ = export(store, tmp_path / "b.ozx", Format.OZX)
    assert first.counts["sha256"] == second.counts["sha256"]


def test_ome_zarr_04_is_voxel_for_voxel_and_valid(store, tmp_path):
    _, out = export(store, tmp_path / "old", Format.ZARR_04)
    assert out.name == "msdsr_2x.ome.zarr"
    assert not list(out.rglob("zarr.json"))
    group = zarr.open_group(out, mode="r")
    assert group.metadata.zarr_format == 2
    Image04.from_zarr(group)
    yaozarrs.validate_zarr_store(str(out))
    found, ome = levels(group)
    wanted, wanted_ome = levels(store)
    same(found, wanted)
    assert ome["multiscales"][0]["version"] == "0.4"
    for key in ("axes", "datasets", "name"):
        assert ome["multiscales"][0][key] == wanted_ome["multiscales"][0][key]
    assert ome["omero"] == wanted_ome["omero"]
    label = zarr.open_group(out / "labels/origin", mode="r")
    same(levels(label)[0], levels(store / "labels/origin")[0])
    assert label.attrs["image-label"]["version"] == "0.4"
    assert label.attrs["image-label"]["properties"][1]["meaning"] == "restored"
    array = json.loads((out / "0/.zarray").read_text())
    assert array["dimension_separator"] == "/"
    assert array["chunks"] == [1, 5, 128, 128]
    # Our own reader takes it for the volume that it is.
    assert read_spec(out).voxel == VoxelSize(1.0, 0.5, 0.5)
    assert read_spec(out).channels == CHANNELS


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_tiff_is_voxel_for_voxel_with_spacing_and_channels(tmp_path, rng, dtype):
    voxels = (rng.random((2, 5, 300, 530)) * 250).astype(dtype)
    store = tmp_path / "v.ome.zarr"
    write_volume(store, voxels, VoxelSize(1.0, 0.25, 0.5), CHANNELS, name="v <1>", chunk_yx=128)
    _, out = export(store, tmp_path / "v.ome.tif", Format.TIFF)
    with tifffile.TiffFile(out) as tiff:
        assert tiff.is_bigtiff
        assert tiff.is_ome
        series = tiff.series[0]
        np.testing.assert_array_equal(series.asarray(), voxels)
        assert series.axes == "CZYX"
        assert [level.shape[2:] for level in series.levels] == [(300, 530), (150, 265), (75, 132)]
        mean = voxels[:, :, :, :528].reshape(2, 5, 150, 2, 264, 2).mean((3, 5))
        found = series.levels[1].asarray()[..., :264]
        np.testing.assert_allclose(found, mean, atol=0.6 if dtype != "float32" else 1e-4)
        pixels = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
    assert [pixels[f"PhysicalSize{a}"] for a in "ZYX"] == [1.0, 0.25, 0.5]
    assert {pixels[f"PhysicalSize{a}Unit"] for a in "ZYX"} == {"µm"}
    assert tuple(c["Name"] for c in pixels["Channel"]) == CHANNELS
    assert [c["Color"] & 0xFFFFFFFF for c in pixels["Channel"]] == [0xFF00FFFF, 0x00FF00FF]


def test_large_planes_are_read_by_rows_of_tiles(store, tmp_path, monkeypatch):
    monkeypatch.setattr("msdsr.export.tiff.BLOCK_BYTES", 1000)
    _, out = export(store, tmp_path / "v.ome.tif", Format.TIFF)
    np.testing.assert_array_equal(tifffile.imread(out), levels(store)[0][0])


@pytest.mark.parametrize("how", list(Format))
def test_a_coarser_level_becomes_the_finest(store, tmp_path, how):
    _, out = export(store, tmp_path / "coarse", how, level=1)
    wanted = levels(store)[0][1:]
    if how is Format.TIFF:
        np.testing.assert_array_equal(tifffile.imread(out), wanted[0])
        with tifffile.TiffFile(out) as tiff:
            assert 'PhysicalSizeX="1.0"' in tiff.ome_metadata
        return
    source = zarr.storage.ZipStore(out, mode="r") if how is Format.OZX else out
    group = zarr.open_group(source, mode="r")
    found, ome = levels(group)
    same(found, wanted)
    same(levels(group["labels/origin"])[0], levels(store / "labels/origin")[0][1:])
    dataset = ome["multiscales"][0]["datasets"][0]
    assert dataset["path"] == "0"
    # It stays where it was: a voxel of level 1 is half a voxel of level 0 to the right.
    assert dataset["coordinateTransformations"][1]["translation"] == [0.0, 0.0, 0.25, 0.25]
    (Image04 if how is Format.ZARR_04 else Image05).from_zarr(group)
    with pytest.raises(UserError, match=r"--level: 3, but .* has 3; expected 0 to 2"):
        export(store, tmp_path / "none", how, level=3)


@pytest.fixture
def cohort(store, tmp_path, textured):
    folder = tmp_path / "results/demo"
    write_volume(
        store.with_name("raw.ome.zarr"), textured((1, 2, 40, 50)), VoxelSize(1, 1, 1), ["a"]
    )
    zarr.create_array(store.with_name("images.zarr"), shape=(4,), dtype="u1")[:] = 3
    store.with_name("raw.json").write_text("{}\n")
    (folder / "metrics").mkdir()
    (folder / "metrics/slicefid.csv").write_text("a,b\n1,2\n")
    (folder / ".work").mkdir()
    (folder / ".work/plan.json").write_text("{}")
    return folder


def files(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_a_cohort_becomes_an_archive_with_its_sums(cohort, tmp_path):
    out = tmp_path / "archive"
    manifest, _ = export(cohort, out, Format.OZX)
    products = {
        "metrics/slicefid.csv", "slides/s1/images.zarr.zip", "slides/s1/msdsr_2x.ozx",
        "slides/s1/raw.json", "slides/s1/raw.ozx",
    }  # fmt: skip
    assert files(out) == products | {"SHA256SUMS", "export.json", ".export.jsonl"}
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=out, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("OK") == len(products)
    assert manifest.counts["images"] == 2
    assert read_manifest(out / "export.json").settings == {"form": "ozx", "level": 0}
    assert (
        zarr.open_array(zarr.storage.ZipStore(out / "slides/s1/images.zarr.zip"), mode="r")[0] == 3
    )


def test_an_export_that_was_killed_goes_on(cohort, tmp_path, monkeypatch):
    module = importlib.import_module("msdsr.export.export")
    out = tmp_path / "archive"
    real, made = module.make_product, []

    def make(item, *rest):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(item.name)
        return real(item, *rest)

    monkeypatch.setattr(module, "make_product", make)
    with pytest.raises(KeyboardInterrupt):
        export(cohort, out, Format.OZX)
    assert not (out / "SHA256SUMS").exists()
    (out / "slides/s1").mkdir(exist_ok=True)
    (out / "slides/s1/.raw.ozx.exporting").write_text("half")
    first, made[:] = list(made), []
    monkeypatch.setattr(module, "make_product", lambda *a: (made.append(a[0].name), real(*a))[1])
    manifest, _ = export(cohort, out, Format.OZX)
    assert not set(first) & set(made)
    assert manifest.measured == {"kept_from_an_earlier_run": 3}
    whole = tmp_path / "whole"
    export(cohort, whole, Format.OZX)
    assert (whole / "SHA256SUMS").read_text() == (out / "SHA256SUMS").read_text()
    assert not [n for n in files(out) if "exporting" in n]


def test_what_changed_is_made_anew_and_what_went_is_kept(cohort, tmp_path):
    out = tmp_path / "archive"
    export(cohort, out, Format.OZX)
    (cohort / "metrics/slicefid.csv").write_text("a,b\n3,4\n")
    (cohort / "slides/s1/raw.json").unlink()
    manifest, _ = export(cohort, out, Format.OZX)
    assert (out / "metrics/slicefid.csv").read_text() == "a,b\n3,4\n"
    assert (out / "slides/s1/raw.json").exists()
    assert manifest.measured == {"kept_from_an_earlier_run": 3}
    assert any("no source any more" in w for w in manifest.warnings)


def test_a_folder_as_tiff_says_what_it_leaves_out(cohort, tmp_path):
    manifest, out = export(cohort / "slides/s1", tmp_path / "tiffs", Format.TIFF, level=2)
    assert {n for n in files(out) if n.endswith(".tif")} == {"msdsr_2x.ome.tif", "raw.ome.tif"}
    told = " | ".join(manifest.warnings)
    assert "no OME-Zarr images" in told
    assert "labels" in told
    assert "1 images have no level 2" in told


def test_bad_requests_are_told_in_one_line(cohort, store, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        export(tmp_path / "none", tmp_path / "out", Format.OZX)
    with pytest.raises(UserError, match="no OME-Zarr image in it"):
        export(cohort / "metrics", tmp_path / "out", Format.OZX)
    with pytest.raises(UserError, match="a file; expected"):
        export(cohort / "metrics/slicefid.csv", tmp_path / "out", Format.OZX)
    with pytest.raises(UserError, match="expected a place outside"):
        export(cohort, cohort / "archive", Format.OZX)
    with pytest.raises(UserError, match="the name of one file"):
        export(cohort, tmp_path / "out.ozx", Format.OZX)
    busy = tmp_path / "busy"
    busy.mkdir()
    (busy / "thesis.tex").touch()
    with pytest.raises(UserError, match="not empty"):
        export(cohort, busy, Format.OZX)
    (tmp_path / "mine.ozx").write_text("precious")
    with pytest.raises(UserError, match="exists already"):
        export(store, tmp_path / "mine.ozx", Format.OZX)
    assert (tmp_path / "mine.ozx").read_text() == "precious"
    export(cohort / "slides/s1", tmp_path / "out", Format.OZX)
    with pytest.raises(UserError, match="holds an export as ozx, level 0; expected as tiff"):
        export(cohort / "slides/s1", tmp_path / "out", Format.TIFF)
    _, old = export(store, tmp_path / "old", Format.ZARR_04)
    with pytest.raises(UserError, match=r"OME-Zarr 0\.4 or older"):
        export(old, tmp_path / "new.ozx", Format.OZX)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((False, False, None), "no form named"),
        ((True, True, None), "given with --ozx"),
        ((False, True, "0.4"), "given with --ome-zarr-version"),
        ((True, False, "0.4"), "zarr.json at its root"),
        ((False, False, "0.3"), "'0.3'; expected 0.4 or 0.5"),
    ],
)
def test_options_that_exclude_each_other(options, message):
    with pytest.raises(UserError, match=message):
        choose_format(*options)


def test_the_command_names_the_product_and_its_errors(store, tmp_path, monkeypatch, capsys):
    from msdsr.cli import app, run_guarded

    monkeypatch.chdir(tmp_path)
    assert run_guarded(lambda: app(["export", str(store), "--ozx"], standalone_mode=False)) == 0
    assert "export: export/msdsr_2x/msdsr_2x.ozx (channels 2, planes 5" in capsys.readouterr().out
    assert run_guarded(lambda: app(["export", str(store)], standalone_mode=False)) == 2
    error = capsys.readouterr().err
    assert error.startswith("msdsr: error: export: no form named; expected --ozx")
    assert error.count("\n") == 1
