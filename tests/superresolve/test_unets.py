import numpy as np
import pytest
import torch

from msdsr.config import SuperresolveConfig
from msdsr.diffusion.baselines import Midplane, RowFiller, refine_planes
from msdsr.diffusion.network import load_model
from msdsr.diffusion.noise import NoiseField
from msdsr.errors import UserError
from msdsr.superresolve import superresolve
from msdsr.superresolve.between import Between
from msdsr.superresolve.plan import plan_task
from msdsr.superresolve.watch import Stop, Watch
from msdsr.volume import Region, open_volume
from msdsr.volume.labels import read_label

SETTINGS = SuperresolveConfig(stride=12, batch=16, precision="float32")
UNETS = ("ms_unet", "e2e_unet")


@pytest.fixture
def unet(make_model):
    def make(kind):
        return make_model(kind=kind, std=2000.0)  # so that no value meets the end of uint16

    return make


def run(volume, tmp_path, method, model, factor=2, name="out", **options):
    out = tmp_path / "results" / f"{name}.ome.zarr"
    options = {"settings": SETTINGS} | options
    manifest = superresolve(
        volume, out, tmp_path / "work" / name, method=method, factor=factor, model=model,
        device="cpu", **options,
    )  # fmt: skip
    return out, manifest


@pytest.mark.parametrize("method", UNETS)
@pytest.mark.parametrize("shape", [(2, 3, 12, 20), (2, 2, 30, 18), (2, 4, 5, 7)])
def test_acquired_planes_are_sacred(tmp_path, make_slide, unet, method, shape):
    path, voxels = make_slide(shape, voxel=(2.0, 0.5, 0.5))
    out, manifest = run(path, tmp_path, method, unet(method), factor=4)
    volume = open_volume(out)
    assert volume.shape == (2, (shape[1] - 1) * 4 + 1, *shape[2:])
    np.testing.assert_array_equal(volume.values[:, ::4], voxels)
    assert len(np.unique(volume.values[:, 1])) > 10
    assert volume.attrs["msdsr"]["method"] == method
    assert manifest.measured["tiles"] > 0
    assert set(np.unique(read_label(out, "origin"))) == {1, 2}


def test_ms_unet_is_one_pass_over_both_orientations(tmp_path, make_slide, unet):
    path, voxels = make_slide((2, 8, 16, 16))
    folder = unet("ms_unet")
    out, _ = run(path, tmp_path, "ms_unet", folder, seed=3)
    model = load_model(folder)
    known = model.transform.forward(torch.from_numpy(voxels.astype(np.float32)), channel_axis=0)
    clean = torch.zeros(2, 16, 16, 16)
    clean[:, :15:2] = known  # the stack and one row of padding below it: a tile of 16 rows
    observed = torch.zeros(16, dtype=torch.bool)
    observed[:15:2] = True
    fill, both = RowFiller(model), []
    for yz in (False, True):
        noise = NoiseField(2 * 3 + yz).normal(0, 2, (0, 16, 0, 16, 0, 16))
        axes = (3, 0, 1, 2) if yz else (2, 0, 1, 3)
        filled = fill(noise.permute(axes), clean.permute(axes), observed)
        both.append(filled.permute(np.argsort(axes).tolist()))
    mean = model.transform.inverse((both[0] + both[1]) / 2, channel_axis=0)[:, :15]
    np.testing.assert_allclose(open_volume(out).values, mean.numpy(), atol=0.51)


def test_e2e_unet_is_the_recursion_of_middle_planes(tmp_path, make_slide, unet):
    path, voxels = make_slide((2, 3, 16, 16), voxel=(2.0, 0.5, 0.5))
    folder = unet("e2e_unet")
    out, _ = run(path, tmp_path, "e2e_unet", folder, factor=4)
    model = load_model(folder)
    known = model.transform.forward(torch.from_numpy(voxels.astype(np.float32)), channel_axis=0)
    fine = refine_planes(known.transpose(0, 1), 4, Midplane(model))
    expected = model.transform.inverse(fine).transpose(0, 1)
    np.testing.assert_allclose(open_volume(out).values, expected.numpy(), atol=0.51)


def test_e2e_unet_does_not_see_how_a_volume_is_cut(make_slide, unet):
    path, _ = make_slide((2, 3, 50, 70))
    model = load_model(unet("e2e_unet"))
    tissue = np.ones((50, 70), bool)
    tissue[:, 20:60] = False
    task = plan_task(path, "e2e_unet", 2, SETTINGS, 0, model, tissue)
    filler, counted = Between(task, model), []
    watch = Watch(torch.device("cpu"), counted.append, counted.append, Stop())
    whole = Region(0, 5, 0, 50, 0, 70)
    together = filler.restore(whole, watch)
    assert sum(counted) == filler.cost([whole])
    assert filler.spared(whole) > 0
    for part in (Region(0, 5, 0, 20, 0, 33), Region(0, 5, 20, 50, 33, 70)):
        found = filler.restore(part, watch)
        expected = together[(slice(None), *part.slices)]
        assert np.abs(found.astype(int) - expected).max() <= 1  # one rounding of float32


def test_e2e_unet_knows_powers_of_two_alone(tmp_path, make_slide, unet):
    path, _ = make_slide()
    with pytest.raises(UserError, match="2, 4 or 8, the powers of two"):
        run(path, tmp_path, "e2e_unet", unet("e2e_unet"), factor=3)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("method", UNETS)
def test_a_model_of_another_kind_is_refused(tmp_path, make_slide, make_model, method):
    path, _ = make_slide()
    with pytest.raises(UserError, match=f"a model of kind msdsr; expected one of kind {method}"):
        run(path, tmp_path, method, make_model())
    with pytest.raises(UserError, match=f"method {method} needs one"):
        run(path, tmp_path, method, None)


def test_samples_are_for_the_diffusion_alone(tmp_path, make_slide, unet):
    path, _ = make_slide((2, 2, 16, 16))
    settings = SETTINGS.model_copy(update={"samples": 3, "blur": "gaussian3"})
    out, _ = run(path, tmp_path, "ms_unet", unet("ms_unet"), settings=settings)
    assert not out.with_name("out_std.ome.zarr").exists()
    assert open_volume(out).attrs["msdsr"]["blur"] == "gaussian3"
