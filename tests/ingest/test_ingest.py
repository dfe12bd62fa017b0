import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile

from msdsr.config import IngestConfig
from msdsr.errors import UserError
from msdsr.ingest import ingest
from msdsr.manifest import read_manifest
from msdsr.volume import VoxelSize, open_volume

SRH = VoxelSize(1.0, 0.5, 0.5)


def run(path, tmp_path, channels=("CH2", "CH3"), settings=None):
    return ingest(
        path,
        tmp_path / "results" / "raw.ome.zarr",
        tmp_path / "work",
        voxel=SRH,
        channels=channels,
        slide="S1",
        patient="P1",
        settings=settings or IngestConfig(),
    )


def write_plain(path, zcyx):
    tifffile.imwrite(path, zcyx, photometric="minisblack")


def write_imagej(path, zcyx):
    tifffile.imwrite(
        path,
        zcyx,
        imagej=True,
        resolution=(2.0, 2.0),
        metadata={"axes": "ZCYX", "spacing": 1.0, "unit": "um"},
    )


def write_ome(path, zcyx):
    metadata = {"axes": "ZCYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 1.0}
    tifffile.imwrite(path, zcyx, ome=True, metadata=metadata, compression="zlib")


@pytest.mark.parametrize("write", [write_plain, write_imagej, write_ome])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_every_voxel_comes_through(tmp_path, rng, write, dtype):
    czyx = (rng.random((2, 5, 40, 30)) * 200).astype(dtype)
    path = tmp_path / "stack.tif"
    write(path, czyx.transpose(1, 0, 2, 3))
    manifest = run(path, tmp_path)
    volume = open_volume(tmp_path / "results" / "raw.ome.zarr")
    np.testing.assert_array_equal(volume.values, czyx)
    assert volume.dtype == dtype
    assert volume.attrs["voxel_um"] == (1.0, 0.5, 0.5)
    assert list(volume.c.values) == ["CH2", "CH3"]
    assert manifest.warnings == []
    assert read_manifest(tmp_path / "results" / "raw.json").counts["planes"] == 5
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("shape", "channels", "expected"),
    [
        ((7, 12, 10), ("a",), (1, 7, 12, 10)),
        ((2, 12, 10), ("a", "b"), (2, 1, 12, 10)),
        ((12, 10), ("a",), (1, 1, 12, 10)),
        ((3, 7, 12, 10), ("a", "b", "c"), (3, 7, 12, 10)),
    ],
)
def test_unnamed_axes_are_settled_by_the_sheet(tmp_path, rng, shape, channels, expected):
    tifffile.imwrite(
        tmp_path / "s.tif", rng.integers(0, 9, shape, dtype=np.uint16), photometric="minisblack"
    )
    run(tmp_path / "s.tif", tmp_path, channels)
    assert open_volume(tmp_path / "results" / "raw.ome.zarr").shape == expected


def test_rgb_photograph_is_three_channels(tmp_path, rng):
    rgb = rng.integers(0, 255, (12, 10, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "s.tif", rgb, photometric="rgb")
    run(tmp_path / "s.tif", tmp_path, ("R", "G", "B"))
    values = open_volume(tmp_path / "results" / "raw.ome.zarr").values
    np.testing.assert_array_equal(values[:, 0], rgb.transpose(2, 0, 1))


def test_two_axes_that_could_both_be_channels_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "s.tif", np.zeros((2, 2, 12, 10), np.uint16))
    with pytest.raises(UserError, match="named axes"):
        run(tmp_path / "s.tif", tmp_path)


def test_a_truncated_file_is_refused_and_nothing_is_published(tmp_path, rng):
    for write in (write_plain, write_ome):
        path = tmp_path / "stack.tif"
        write(path, rng.integers(0, 60000, (5, 2, 64, 64), dtype=np.uint16))
        size = path.stat().st_size
        for part in (0.9, 0.5, 0.01):
            with path.open("r+b") as handle:
                handle.truncate(int(size * part))
            with pytest.raises(UserError, match="whole TIFF"):
                run(path, tmp_path)
        assert not (tmp_path / "results" / "raw.ome.zarr").exists()


def test_bad_files_are_told_in_one_line(tmp_path, rng):
    with pytest.raises(UserError, match="no such file"):
        run(tmp_path / "none.tif", tmp_path)
    (tmp_path / "x.png").touch()
    with pytest.raises(UserError, match="suffix"):
        run(tmp_path / "x.png", tmp_path)
    write_plain(tmp_path / "s.tif", rng.random((5, 2, 8, 8)))
    with pytest.raises(UserError, match="dtype float64"):
        run(tmp_path / "s.tif", tmp_path)
    write_ome(tmp_path / "s.tif", np.zeros((5, 3, 8, 8), np.uint8))
    with pytest.raises(UserError, match="3 channels"):
        run(tmp_path / "s.tif", tmp_path)
    stack = np.zeros((5, 2, 8, 8), np.float32)
    stack[3, 1, 2, 2] = np.nan
    write_plain(tmp_path / "s.tif", stack)
    with pytest.raises(UserError, match="NaN"):
        run(tmp_path / "s.tif", tmp_path)


def test_a_time_series_is_refused(tmp_path):
    tifffile.imwrite(
        tmp_path / "s.tif", np.zeros((4, 8, 9), np.uint16), imagej=True, metadata={"axes": "TYX"}
    )
    with pytest.raises(UserError, match="axis T has 4"):
        run(tmp_path / "s.tif", tmp_path, ("a",))


def test_a_file_that_states_another_spacing_is_warned_of(tmp_path):
    metadata = {"axes": "ZCYX", "PhysicalSizeX": 0.25, "PhysicalSizeZ": 1.004}
    tifffile.imwrite(
        tmp_path / "s.tif", np.zeros((3, 2, 8, 9), np.uint16), ome=True, metadata=metadata
    )
    manifest = run(tmp_path / "s.tif", tmp_path)
    assert len(manifest.warnings) == 1
    assert manifest.warnings[0].startswith("x: the file says 0.25")


def test_the_store_does_not_name_the_file(tmp_path):
    """File names of hospitals carry names of people."""
    path = tmp_path / "DOE^JANE-1970.tif"
    write_ome(path, np.zeros((3, 2, 8, 9), np.uint16))
    run(path, tmp_path)
    for file in (tmp_path / "results").rglob("*.json"):
        assert "JANE" not in file.read_text()


def test_killed_at_any_shard_it_goes_on(tmp_path, rng):
    czyx = rng.integers(0, 60000, (2, 4, 256, 256), dtype=np.uint16)
    write_plain(tmp_path / "s.tif", czyx.transpose(1, 0, 2, 3))
    settings = json.dumps({"chunk_yx": 16, "shard_mb": 0.01})
    command = [
        sys.executable, "-m", "msdsr", "ingest", str(tmp_path / "s.tif"),
        str(tmp_path / "results" / "raw.ome.zarr"), "--slide", "S1", "--patient", "P1",
        "--voxel-um", "1,0.5,0.5", "--channels", "CH2,CH3", "--work", str(tmp_path / "work"),
        "--settings", settings,
    ]  # fmt: skip
    ledger = tmp_path / "work" / "ledger.jsonl"
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ})
    while not (ledger.exists() and len(ledger.read_text().splitlines()) >= 5):
        assert child.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    before = len(ledger.read_text().splitlines())
    assert 5 <= before < 256
    assert not (tmp_path / "results" / "raw.ome.zarr").exists()
    run(tmp_path / "s.tif", tmp_path, settings=IngestConfig(chunk_yx=16, shard_mb=0.01))
    np.testing.assert_array_equal(open_volume(tmp_path / "results" / "raw.ome.zarr").values, czyx)
