"""Our FID is that of torch-fidelity and pytorch-fid; benchmarks/fid.md says how theirs was made."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from msdsr.metrics.features import FeatureSet
from msdsr.metrics.fid import fid
from msdsr.metrics.inception import Inception

HERE = Path(__file__).parent
FIXTURE = json.loads((HERE / "fid_reference.json").read_text())
SCALED = "pytorch-fid, pictures scaled as in TensorFlow"


@pytest.fixture(scope="module")
def theirs():
    with np.load(HERE / "fid_reference.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def pictures():
    path = HERE.parents[1] / "benchmarks/fid_images.py"
    spec = importlib.util.spec_from_file_location("fid_images", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.pictures


def test_of_their_features_our_fid_is_theirs(theirs):
    assert {len(rows) for rows in theirs.values()} == {FIXTURE["images_per_set"]}
    found = fid(FeatureSet.of(theirs["real_299"]), FeatureSet.of(theirs["fake_299"]))
    assert found == pytest.approx(FIXTURE["fid"]["299"]["torch-fidelity"], abs=1e-2)
    assert found == pytest.approx(FIXTURE["fid"]["299"][SCALED], abs=1e-2)


def test_our_features_are_theirs(theirs, pictures, inception_path):
    network = Inception(inception_path, "cpu")
    for which in ("real", "fake"):
        ours = network(pictures(which, 299, 6))
        np.testing.assert_allclose(ours, theirs[f"{which}_299"][:6], atol=2e-4)


def test_the_textures_differ_and_are_no_two_alike(pictures):
    real, fake = (pictures(which, 48, 9) for which in ("real", "fake"))
    assert real.dtype == np.uint8
    assert len({picture.tobytes() for picture in (*real, *fake)}) == 18
    np.testing.assert_array_equal(pictures("real", 48, 3), real[:3])
