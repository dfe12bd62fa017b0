import numpy as np
import pytest

from msdsr.config import SuperresolveConfig
from msdsr.errors import UserError
from msdsr.manifest import read_manifest
from msdsr.superresolve import superresolve
from msdsr.superresolve.voxels import to_dtype
from msdsr.volume import acquired_rows, open_volume
from msdsr.volume.interpolate import interpolate

FAST = SuperresolveConfig(steps=2, stride=12, batch=16)


def run(volume, tmp_path, factor=2, method="msdsr", name="out", settings=FAST, **options):
    out = tmp_path / "results" / f"{name}.ome.zarr"
    manifest = superresolve(
        volume, out, tmp_path / "work" / name, method=method, factor=factor,
        settings=settings, device="cpu", **options,
    )  # fmt: skip
    return open_volume(out), manifest


@pytest.mark.parametrize("mode", ["xz", "yz", "average", "joint", "alternate"])
def test_acquired_planes_are_sacred(tmp_path, make_slide, make_model, mode):
    path, voxels = make_slide()
    settings = FAST.model_copy(update={"mode": mode})
    volume, manifest = run(path, tmp_path, model=make_model(), settings=settings)
    assert volume.shape == (2, 9, 12, 20)
    assert volume.dtype == np.uint16
    rows = volume.attrs["msdsr"]["acquired_planes"]
    assert rows == [0, 2, 4, 6, 8]
    np.testing.assert_array_equal(volume.values[:, rows], voxels)
    assert volume.attrs["voxel_um"] == (0.5, 0.5, 0.5)
    assert manifest.warnings == []
    generated = np.delete(volume.values, rows, axis=1)
    assert len(np.unique(generated)) > 100
    assert read_manifest(tmp_path / "results" / "out.json").counts["acquired_planes"] == 5


def test_average_is_the_mean_of_both_directions(tmp_path, make_slide, make_model):
    path, _ = make_slide()
    model = make_model(std=2000.0)  # so that no value meets the end of uint16
    volumes = {
        mode: run(path, tmp_path, model=model, name=mode,
                  settings=FAST.model_copy(update={"mode": mode}))[0].values.astype(float)
        for mode in ("xz", "yz", "average")
    }  # fmt: skip
    mean = (volumes["xz"] + volumes["yz"]) / 2
    assert np.abs(volumes["average"] - mean).max() <= 1.0


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("names", [("a",), ("a", "b"), ("a", "b", "c", "d", "e")])
def test_dtypes_and_channels(tmp_path, make_slide, make_model, dtype, names):
    path, voxels = make_slide((len(names), 2, 5, 18), dtype, names=names)
    model = make_model(names, dtype, float(voxels.mean()), float(voxels.std()))
    volume, _ = run(path, tmp_path, model=model)
    assert volume.dtype == dtype
    np.testing.assert_array_equal(volume.values[:, ::2], voxels)


@pytest.mark.parametrize("shape", [(2, 2, 5, 7), (2, 2, 1, 1), (2, 7, 9, 19), (2, 2, 18, 16)])
def test_odd_shapes_and_slides_smaller_than_a_tile(tmp_path, make_slide, make_model, shape):
    path, voxels = make_slide(shape)
    volume, _ = run(path, tmp_path, factor=3, model=make_model())
    assert volume.shape == (2, (shape[1] - 1) * 3 + 1, *shape[2:])
    np.testing.assert_array_equal(volume.values[:, ::3], voxels)


def test_values_are_clipped_and_never_wrapped():
    values = np.array([-5.0, 0.4, 254.6, 255.5, 1e9], np.float32)
    np.testing.assert_array_equal(to_dtype(values, np.dtype("uint8")), [0, 0, 255, 255, 255])
    assert to_dtype(values, np.dtype("float32")).dtype == np.float32


def test_a_factor_beyond_the_ratio_takes_every_mth_plane(tmp_path, make_slide, make_model):
    path, voxels = make_slide((2, 5, 20, 20))
    volume, manifest = run(path, tmp_path, factor=4, model=make_model())
    assert volume.shape[1] == 9
    np.testing.assert_array_equal(volume.values[:, [0, 4, 8]], voxels[:, ::2])
    assert manifest.counts["keep_every"] == 2
    assert volume.attrs["voxel_um"][0] == 0.5


@pytest.mark.parametrize("method", ["nearest", "linear", "cubic"])
def test_baselines(tmp_path, make_slide, method):
    path, voxels = make_slide()
    volume, _ = run(path, tmp_path, method=method)
    np.testing.assert_array_equal(volume.values, interpolate(voxels, 2, method))
    assert list(acquired_rows(5, 2)) == volume.attrs["msdsr"]["acquired_planes"]


def test_the_seed_is_the_result(tmp_path, make_slide, make_model):
    path, _ = make_slide()
    model = make_model()
    first, _ = run(path, tmp_path, model=model, seed=1, name="a")
    again, _ = run(path, tmp_path, model=model, seed=1, name="b")
    other, _ = run(path, tmp_path, model=model, seed=2, name="c")
    np.testing.assert_array_equal(first.values, again.values)
    assert not np.array_equal(first.values, other.values)


def test_a_result_that_is_not_isotropic_says_so(tmp_path, make_slide):
    path, _ = make_slide(voxel=(3.0, 0.5, 0.5))
    _, manifest = run(path, tmp_path, factor=2, method="linear")
    assert "not isotropic (ratio 3)" in manifest.warnings[0]


def test_a_result_that_is_not_isotropic_can_be_refused(tmp_path, make_slide):
    path, _ = make_slide(voxel=(1.3, 0.5, 0.5))
    refuse = FAST.model_copy(update={"anisotropy": "refuse"})
    with pytest.raises(UserError, match=r"not isotropic \(ratio 0.867\); expected equal to 5%"):
        run(path, tmp_path, factor=3, method="linear", settings=refuse)
    path, _ = make_slide(voxel=(1.03, 0.5, 0.5))
    volume, manifest = run(path, tmp_path, factor=2, method="linear", settings=refuse)
    assert manifest.warnings == []
    assert volume.attrs["msdsr"]["anisotropy"] == pytest.approx(1.03)


def test_the_factor_can_follow_from_the_spacing(tmp_path, make_slide):
    path, voxels = make_slide(voxel=(1.6, 0.5, 0.5))
    volume, manifest = run(path, tmp_path, factor="auto", method="cubic")
    np.testing.assert_array_equal(volume.values[:, ::3], voxels)
    assert manifest.settings["factor"] == 3
    assert "ratio 1.07" in manifest.warnings[0]
    assert volume.attrs["voxel_um"] == (pytest.approx(1.6 / 3), 0.5, 0.5)


def test_data_unlike_the_training_are_warned_of(tmp_path, make_slide, make_model):
    path, _ = make_slide()
    _, manifest = run(path, tmp_path, model=make_model(mean=60000.0, std=500.0))
    assert "unlike the model's training data" in manifest.warnings[0]


def test_wrong_requests_are_told_in_one_line(tmp_path, make_slide, make_model):
    path, _ = make_slide((2, 1, 20, 20))
    with pytest.raises(UserError, match="at least two"):
        run(path, tmp_path, model=make_model())
    path, _ = make_slide()
    with pytest.raises(UserError, match=r"channels CH2,CH3; expected the model's, a,b"):
        run(path, tmp_path, model=make_model(("a", "b")))
    with pytest.raises(UserError, match="--method"):
        run(path, tmp_path, method="cubik")
    with pytest.raises(UserError, match="--model"):
        run(path, tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        run(path, tmp_path, model=tmp_path / "nowhere")


def test_killed_between_blocks_it_goes_on_to_the_same_bits(
    tmp_path, make_slide, make_model, monkeypatch
):
    from msdsr.volume import store

    plan = store.ShardGrid.plan
    monkeypatch.setattr(
        store.ShardGrid, "plan",
        classmethod(lambda cls, shape, itemsize, *_: plan(shape, itemsize, 16, 0.001)),
    )  # fmt: skip
    path, _ = make_slide((2, 2, 16, 64))
    settings = FAST.model_copy(update={"block": 16})
    whole, _ = run(path, tmp_path, model=make_model(), name="whole", settings=settings)
    write = store.StoreWriter.write
    written = []

    def die(self, region, voxels):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(region)
        write(self, region, voxels)

    monkeypatch.setattr(store.StoreWriter, "write", die)
    with pytest.raises(KeyboardInterrupt):
        run(path, tmp_path, model=make_model(), name="cut", settings=settings)
    assert not (tmp_path / "results" / "cut.ome.zarr").exists()
    monkeypatch.setattr(store.StoreWriter, "write", write)
    cut, _ = run(path, tmp_path, model=make_model(), name="cut", settings=settings)
    np.testing.assert_array_equal(cut.values, whole.values)


@pytest.mark.parametrize(
    "sampler",
    [
        {"schedule": "published", "steps": 3, "mode": "xz", "order": 2},
        {"steps": 3, "mode": "joint", "order": 2, "eta": 0.0, "precision": "bfloat16"},
        {"steps": 2, "mode": "alternate", "precision": "float32", "batch": 5},
    ],
)
def test_samplers_by_configuration(tmp_path, make_slide, make_model, sampler):
    path, voxels = make_slide()
    settings = SuperresolveConfig(stride=12, **sampler)
    volume, manifest = run(path, tmp_path, model=make_model(), settings=settings)
    np.testing.assert_array_equal(volume.values[:, ::2], voxels)
    assert len(np.unique(volume.values[:, 1::2])) > 100
    settled = manifest.settings["precision"]
    assert settled == sampler.get("precision", settled) != "auto"
