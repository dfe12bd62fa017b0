import numpy as np
import pytest

from msdsr.config import EvaluateConfig
from msdsr.errors import UserError
from msdsr.evaluate import build_reference
from msdsr.evaluate.reference import Reference
from msdsr.manifest import read_manifest
from msdsr.volume.colour import colours


@pytest.fixture
def build(tmp_path, standin_path, evaluate_settings, patches_of):
    def make(stores, out="reference.npz", settings=evaluate_settings, seed=5):
        return build_reference(
            stores,
            [patches_of(store) for store in stores],
            tmp_path / out,
            tmp_path / ".work/reference",
            inception=standin_path,
            settings=settings,
            seed=seed,
            device="cpu",
        )

    return make


def test_a_reference_spreads_over_slides_by_their_tissue(build, publish, tissue, tmp_path):
    stack, image = tissue(1, (2, 9, 40, 40)), tissue(2, (2, 1, 40, 40))
    manifest = build([publish("v1", stack), publish("v2", image)])
    real = Reference.load(tmp_path / "reference.npz")
    assert manifest.counts["slides"] == {"v1": 36, "v2": 4}
    assert real.features.shape == (40, 16)
    assert np.bincount(real.slide_of_row).tolist() == [36, 4]
    assert real.slides == ("v1", "v2")
    assert real.channels == ("CH2", "CH3")
    assert real.pixel_um == (0.5, 0.5)
    assert read_manifest(tmp_path / "reference.npz").counts == manifest.counts


def test_the_window_is_that_of_the_real_images(build, publish, tissue, tmp_path):
    voxels = tissue(1, (2, 9, 40, 40))
    build([publish("v1", voxels)])
    real = Reference.load(tmp_path / "reference.npz")
    low, high = np.quantile(colours(voxels, ("CH2", "CH3")).reshape(3, -1), (0.005, 0.995), axis=1)
    np.testing.assert_allclose(real.window.low, low, atol=0.15 * (high - low).min())
    np.testing.assert_allclose(real.window.high, high, atol=0.15 * (high - low).min())
    assert len(real.peaks) == 2


def test_the_same_again_and_other_places_for_another_seed(build, publish, tissue, tmp_path):
    store = publish("v1", tissue(1, (2, 9, 40, 40)))
    for out, seed in (("a.npz", 5), ("b.npz", 5), ("c.npz", 6)):
        build([store], out, seed=seed)
    a, b, c = (Reference.load(tmp_path / f"{n}.npz").features for n in "abc")
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_a_killed_run_goes_on_after_its_last_slide(build, publish, tissue, tmp_path, monkeypatch):
    stores = [publish(f"v{i}", tissue(i, (2, 3, 40, 40))) for i in range(3)]
    build(stores, "whole.npz")
    from msdsr.evaluate import extract

    calls = []
    original = extract.Extractor.__call__

    def dies(self, source, plane, regions):
        calls.append(plane)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, source, plane, regions)

    monkeypatch.setattr(extract.Extractor, "__call__", dies)
    with pytest.raises(KeyboardInterrupt):
        build(stores, "killed.npz")
    assert not (tmp_path / "killed.npz").exists()
    build(stores, "killed.npz")
    assert len(calls) == 4
    a, b = (Reference.load(tmp_path / f"{n}.npz") for n in ("whole", "killed"))
    np.testing.assert_array_equal(a.features, b.features)


def test_what_cannot_be_a_reference_is_refused(build, publish, tissue, tmp_path):
    with pytest.raises(UserError, match="split `val`"):
        build([])
    first = publish("v1", tissue(1, (2, 2, 40, 40)))
    with pytest.raises(UserError, match="lower it"):
        build([first], settings=EvaluateConfig(crop=64))
    with pytest.raises(UserError, match="no tissue"):
        build([publish("v2", tissue(1, (2, 2, 40, 40)), empty=True)])
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04")
    for name in ("damaged.npz", "missing.npz"):
        with pytest.raises(UserError, match="no reference features"):
            Reference.load(tmp_path / name)
