import numpy as np
import pytest
import zarr

from msdsr.config import DenoiseConfig
from msdsr.denoise import denoise
from msdsr.denoise.denoise import DENOISERS, check_handoff
from msdsr.errors import UserError
from msdsr.manifest import Manifest, read_manifest, write_manifest
from msdsr.volume import VoxelSize, open_volume, write_volume


@pytest.fixture
def raw(small_store):
    write_manifest(small_store, Manifest(stage="ingest", algorithm=1))
    return small_store


def test_mode_none_gives_every_voxel_and_leaves_the_source_alone(tmp_path, raw):
    before = (raw / "zarr.json").read_bytes()
    out = tmp_path / "d" / "denoised.ome.zarr"
    denoise(raw, out, tmp_path / "work", settings=DenoiseConfig())
    np.testing.assert_array_equal(open_volume(out).values, open_volume(raw).values)
    assert open_volume(out).attrs["msdsr"]["denoiser"] == "none"
    assert (raw / "zarr.json").read_bytes() == before
    assert read_manifest(out).settings == {"mode": "none"}


def test_the_voxels_take_no_second_place_on_the_disk(tmp_path, raw):
    out = tmp_path / "d" / "denoised.ome.zarr"
    denoise(raw, out, tmp_path / "work", settings=DenoiseConfig())
    shards = [p for p in (raw / "0" / "c").rglob("*") if p.is_file()]
    assert shards
    assert all((out / p.relative_to(raw)).samefile(p) for p in shards)


def test_a_denoiser_that_changes_the_geometry_is_refused(tmp_path, raw, monkeypatch):
    def crop(source, target):
        volume = open_volume(source)
        write_volume(target, volume.values[:, :, 1:], VoxelSize(1, 0.5, 0.5), ("CH2", "CH3"))

    monkeypatch.setitem(DENOISERS, "none", crop)
    out = tmp_path / "d" / "denoised.ome.zarr"
    with pytest.raises(UserError, match="returned shape"):
        denoise(raw, out, tmp_path / "work", settings=DenoiseConfig())
    assert not out.exists()


def test_handoff_names_what_differs(tmp_path, raw):
    other = tmp_path / "o.ome.zarr"
    write_volume(other, open_volume(raw).values, VoxelSize(1, 0.5, 0.6), ("CH2", "CH3"))
    with pytest.raises(UserError, match="returned voxel"):
        check_handoff(raw, other)
    write_volume(other, open_volume(raw).values, VoxelSize(1, 0.5, 0.5), ("CH3", "CH2"))
    with pytest.raises(UserError, match="returned channels"):
        check_handoff(raw, other)


def test_work_killed_half_way_is_done_again(tmp_path, raw):
    out = tmp_path / "d" / "denoised.ome.zarr"
    from msdsr.manifest import identity
    from msdsr.volume import Work

    plan = {"stage": "denoise", "algorithm": 1, "inputs": {"raw": identity(raw)},
            "settings": {"mode": "none"}}  # fmt: skip
    with Work(tmp_path / "work", plan) as job:
        zarr.create_group(job.path / "denoised.ome.zarr")
    denoise(raw, out, tmp_path / "work", settings=DenoiseConfig())
    np.testing.assert_array_equal(open_volume(out).values, open_volume(raw).values)
