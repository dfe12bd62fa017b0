import shutil

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
            patients=[f"p-{store.parent.name}" for store in stores],
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
    assert {name: rows.shape for name, rows in real.features.items()} == {
        "window": (40, 16),
        "equalised": (40, 16),
    }
    assert not np.allclose(real.features["window"], real.features["equalised"])
    assert np.bincount(real.slide_of_row).tolist() == [36, 4]
    assert real.slides == ("v1", "v2")
    assert real.patients == ("p-v1", "p-v2")
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
    a, b, c = (Reference.load(tmp_path / f"{n}.npz").features["window"] for n in "abc")
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_a_killed_run_goes_on_after_its_last_slide(build, publish, tissue, tmp_path, monkeypatch):
    stores = [publish(f"v{i}", tissue(i, (2, 3, 40, 40))) for i in range(3)]
    build(stores, "whole.npz")
    from msdsr.evaluate import extract

    calls = []
    original = extract.Extractor.__call__

    def dies(self, source, places, show):
        calls.append(show.rescaling)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, source, places, show)

    monkeypatch.setattr(extract.Extractor, "__call__", dies)
    shutil.rmtree(tmp_path / ".work")
    with pytest.raises(KeyboardInterrupt):
        build(stores, "killed.npz")
    assert not (tmp_path / "killed.npz").exists()
    build(stores, "killed.npz")
    assert calls == ["window"] * 3 + ["window"] + ["equalised"] * 3
    a, b = (Reference.load(tmp_path / f"{n}.npz") for n in ("whole", "killed"))
    for rescaling in a.features:
        np.testing.assert_array_equal(a.features[rescaling], b.features[rescaling])


def test_what_is_added_is_all_that_is_computed(build, publish, tissue, evaluate_settings):
    first, second = (publish(f"v{i}", tissue(i, (2, 3, 40, 40))) for i in (1, 2))
    small = {"max_reference_images": 10}
    window = evaluate_settings.model_copy(update=small | {"rescalings": ["window"]})
    both = evaluate_settings.model_copy(update=small)
    assert build([first, second], settings=window).measured["pictures_shown"] == 10
    assert build([first, second], settings=both).measured["pictures_shown"] == 10
    assert build([first, second], settings=both).measured["pictures_shown"] == 0
    # Other real images give another window; equalised pictures do not depend on it.
    half = both.model_copy(update={"max_reference_images": 5})
    assert build([first], settings=half).measured["pictures_shown"] == 5


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
