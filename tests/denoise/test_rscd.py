"""Mode `rscd`: tiles of planes, resumed, blended, and learnt for real."""

import numpy as np
import pytest
import torch

from msdsr.config import DenoiseConfig, ModelConfig
from msdsr.denoise import denoise
from msdsr.denoise import rscd as module
from msdsr.denoise.rscd import Rscd, denoise_volume
from msdsr.diffusion.network import Model, build_network, save_model
from msdsr.diffusion.transform import ChannelStatistics, standardised_transform
from msdsr.errors import UserError
from msdsr.manifest import Manifest, read_manifest, write_manifest
from msdsr.volume import Region, VoxelSize, Work, open_volume, read_spec, write_volume
from msdsr.volume.store import IMAGES_2D

SETTINGS = DenoiseConfig(mode="rscd", prior="p", calibrator="c", batch=3)
SIZE = 16


def model_of(kind, mean=12000.0):
    torch.manual_seed(1)
    settings = ModelConfig.model_validate(
        {
            "kind": kind,
            "preset": "tiny",
            "cohorts": ["x"],
            "network": {
                "image_size": SIZE,
                "block_out_channels": [8, 16],
                "attention_levels": [False, True],
                "attention_head_dim": 8,
                "norm_num_groups": 4,
            },
        }
    )
    statistics = [ChannelStatistics(mean, 3000.0, 2000.0, 25000.0)] * 2
    transform = standardised_transform(("CH2", "CH3"), statistics)
    return Model(build_network(settings, 2).eval(), transform, settings.objective, kind=kind)


@pytest.fixture
def folders(tmp_path):
    save_model(tmp_path / "prior", model_of("rscd_prior"))
    save_model(tmp_path / "calibrator", model_of("rscd_calibrator"))
    return {"prior": tmp_path / "prior", "calibrator": tmp_path / "calibrator"}


@pytest.fixture
def raw(tmp_path):
    voxels = np.random.default_rng(3).normal(12000, 3000, (2, 2, 40, 27)).clip(0, 65535)
    store = tmp_path / "raw.ome.zarr"
    write_volume(
        store, voxels.astype(np.uint16), VoxelSize(1, 0.5, 0.5), ("CH2", "CH3"), chunk_yx=16,
        shard_mb=0.004,
    )  # fmt: skip
    write_manifest(store, Manifest(stage="ingest", algorithm=1))
    return store


@pytest.fixture
def told(monkeypatch):
    """A calibrator that finds every tile a little noisy, once: one round of ten steps each."""

    def tell(steps):
        class Calibrator:
            def __init__(self, *arguments):
                self.calls = 0

            def __call__(self, images):
                self.calls += 1
                return torch.full((len(images),), steps if self.calls % 2 else 0.0)

        monkeypatch.setattr(module, "NetworkCalibrator", Calibrator)

    return tell


def small_shards(monkeypatch):
    true = module.create_store
    monkeypatch.setattr(
        module,
        "create_store",
        lambda path, spec, resume: true(path, spec, chunk_yx=16, shard_mb=0.004, resume=resume),
    )


def test_a_volume_is_denoised_and_says_so(tmp_path, raw, folders, told):
    told(20.0)
    out = tmp_path / "d" / "denoised.ome.zarr"
    manifest = denoise(raw, out, tmp_path / "work", settings=SETTINGS, seed=5, **folders)
    before, after = open_volume(raw), open_volume(out)
    assert after.dtype == before.dtype
    assert (after.values != before.values).mean() > 0.9
    notes = after.attrs["msdsr"]
    assert notes["denoiser"] == "rscd"
    assert notes["prior_sha256"] == manifest.inputs["prior"]
    assert "estimates, not the values acquired" in notes["note"]
    written = read_manifest(out)
    assert written.counts["mean_steps"] == 20.0
    assert written.counts["clean"] == 0.0
    assert written.seed == 5


def test_clean_tiles_come_back_as_they_were(tmp_path, raw, folders, told):
    told(3.0)
    out = tmp_path / "d" / "denoised.ome.zarr"
    manifest = denoise(raw, out, tmp_path / "work", settings=SETTINGS, **folders)
    np.testing.assert_array_equal(open_volume(out).values, open_volume(raw).values)
    assert manifest.counts["clean"] == 1.0


def test_killed_between_shards_it_goes_on_to_the_same_voxels(
    tmp_path, raw, folders, told, monkeypatch
):
    told(20.0)
    small_shards(monkeypatch)
    one, other = tmp_path / "one" / "d.ome.zarr", tmp_path / "other" / "d.ome.zarr"
    whole = denoise(raw, one, tmp_path / "w1", settings=SETTINGS, seed=5, **folders)
    true, regions = Rscd.denoise, []

    def dies(self, volume, region, advance):
        regions.append(region)
        if len(regions) == 3:
            raise KeyboardInterrupt
        return true(self, volume, region, advance)

    monkeypatch.setattr(Rscd, "denoise", dies)
    with pytest.raises(KeyboardInterrupt):
        denoise(raw, other, tmp_path / "w2", settings=SETTINGS, seed=5, **folders)
    assert not other.exists()
    again = denoise(raw, other, tmp_path / "w2", settings=SETTINGS, seed=5, **folders)
    assert len(regions) == len(set(regions)) + 1  # only the one that was broken off came twice
    np.testing.assert_array_equal(open_volume(one).values, open_volume(other).values)
    assert again.counts == whole.counts
    third = tmp_path / "third" / "d.ome.zarr"
    denoise(raw, third, tmp_path / "w3", settings=SETTINGS, seed=6, **folders)
    assert (open_volume(third).values != open_volume(one).values).any()


def test_where_shards_meet_makes_no_difference(raw, told):
    """Tiles and noise are those of the plane, not of the shard."""
    told(20.0)
    rscd = Rscd(model_of("rscd_prior"), model_of("rscd_calibrator"), SETTINGS, 5)
    volume = open_volume(raw)
    whole, _ = rscd.denoise(volume, Region(0, 2, 0, 40, 0, 27), lambda n: None)
    part, seen = rscd.denoise(volume, Region(0, 2, 16, 32, 16, 27), lambda n: None)
    difference = part.astype(int) - whole[:, :, 16:32, 16:27].astype(int)
    assert np.abs(difference).max() <= 1  # batches are cut otherwise: the last bit, then rounding
    assert (difference != 0).mean() < 0.01
    assert seen.tiles < 2 * len(rscd.tiles(Region(0, 2, 0, 40, 0, 27), 40, 27))


def test_tiles_cover_a_plane_and_stay_inside():
    rscd = Rscd(model_of("rscd_prior"), model_of("rscd_calibrator"), SETTINGS, 0)
    tiles = rscd.tiles(Region(0, 1, 0, 45, 0, 9), 45, 9)
    assert [(t.y, t.x) for t in tiles] == [(0, 0), (12, 0), (24, 0), (29, 0)]
    assert [t.y for t in rscd.tiles(Region(0, 1, 20, 28, 0, 9), 45, 9)] == [12, 24]


def test_strangers_are_refused(tmp_path, raw, folders):
    with pytest.raises(UserError, match="--calibrator: missing"):
        denoise(raw, tmp_path / "o", tmp_path / "w", settings=SETTINGS, prior=folders["prior"])
    with pytest.raises(UserError, match=r"a model of kind rscd_calibrator; expected .* rscd_prior"):
        denoise(raw, tmp_path / "o", tmp_path / "w", settings=SETTINGS,
                prior=folders["calibrator"], calibrator=folders["prior"])  # fmt: skip
    save_model(tmp_path / "other", model_of("rscd_calibrator", mean=500.0))
    with pytest.raises(UserError, match="the transform of its training is not the prior's"):
        denoise(raw, tmp_path / "o", tmp_path / "w", settings=SETTINGS,
                prior=folders["prior"], calibrator=tmp_path / "other")  # fmt: skip
    wrong = tmp_path / "wrong.ome.zarr"
    write_volume(wrong, open_volume(raw).values, VoxelSize(1, 0.5, 0.5), ("CH3", "CH2"))
    write_manifest(wrong, Manifest(stage="ingest", algorithm=1))
    with pytest.raises(UserError, match="channels CH3,CH2"):
        denoise(wrong, tmp_path / "o", tmp_path / "w", settings=SETTINGS, **folders)
    assert not (tmp_path / "o").exists()


def test_a_list_of_2d_images_stays_one(tmp_path, raw, folders, told):
    told(3.0)
    images = tmp_path / "list.ome.zarr"
    write_volume(
        images,
        open_volume(raw).values,
        VoxelSize(1, 0.5, 0.5),
        ("CH2", "CH3"),
        provenance={"kind": IMAGES_2D},
    )
    write_manifest(images, Manifest(stage="ingest", algorithm=1))
    out = tmp_path / "d" / "denoised.ome.zarr"
    denoise(images, out, tmp_path / "work", settings=SETTINGS, **folders)
    assert not read_spec(out).stacked


def test_a_shard_done_before_is_not_done_again(tmp_path, raw, told):
    told(20.0)
    rscd = Rscd(model_of("rscd_prior"), model_of("rscd_calibrator"), SETTINGS, 5)
    with Work(tmp_path / "work", {"plan": 1}) as job:
        first = denoise_volume(raw, job.path / "d.ome.zarr", job, rscd)
        rscd.denoise = None
        assert denoise_volume(raw, job.path / "d.ome.zarr", job, rscd) == first
