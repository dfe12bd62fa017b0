"""pip is run for real here, on a folder of files in place of an index."""

import io
import tarfile
import zipfile

import pytest

from msdsr.errors import UserError
from msdsr.fetch.package import Package, obtain
from msdsr.manifest import sha256_file

METADATA = "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"


def write_wheel(folder):
    path = folder / "tiny_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_weights/net.pt", b"weights")
        archive.writestr("tiny_weights-1.0.dist-info/METADATA", METADATA)
        wheel = "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr("tiny_weights-1.0.dist-info/WHEEL", wheel)
        archive.writestr("tiny_weights-1.0.dist-info/RECORD", "")
    return path


def write_sdist(folder):
    """A source archive that breaks when anyone builds it."""
    path = folder / "tiny_weights-1.0.tar.gz"
    build = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
    files = {
        "pyproject.toml": build,
        "setup.py": "raise SystemExit('the archive was built')\n",
        "PKG-INFO": METADATA,
        "data/a.txt": "hello",
    }
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"tiny_weights-1.0/{name}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return path


@pytest.fixture
def index(tmp_path, monkeypatch):
    folder = tmp_path / "an index"
    folder.mkdir()
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL", "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", folder.as_uri())
    return folder


@pytest.fixture
def scratch(tmp_path):
    folder = tmp_path / "scratch folder"
    folder.mkdir()
    return folder


def package(path, sha256=None):
    return Package("tiny-weights", "1.0", path.name, sha256 or sha256_file(path))


@pytest.mark.parametrize("write", [write_wheel, write_sdist])
def test_a_package_comes_as_it_was_published(index, scratch, write):
    published = write(index)
    got = obtain(package(published), scratch)
    assert got.parent == scratch
    assert got.read_bytes() == published.read_bytes()


@pytest.mark.parametrize("write", [write_wheel, write_sdist])
def test_another_file_under_the_name_is_refused(index, scratch, write):
    published = write(index)
    with pytest.raises(UserError) as refusal:
        obtain(package(published, "0" * 64), scratch)
    assert sha256_file(published) in refusal.value.found
    assert refusal.value.expected == "0" * 64
    assert "\n" not in refusal.value.line()


def test_a_download_that_fails_is_told_in_one_line(index, scratch):
    missing = Package("tiny-weights", "1.0", "tiny_weights-1.0-py3-none-any.whl", "0" * 64)
    with pytest.raises(UserError, match="--from") as refusal:
        obtain(missing, scratch)
    assert "No matching distribution" in refusal.value.found
    assert "\n" not in refusal.value.line()


def test_a_file_at_hand_is_checked_and_not_copied(tmp_path, scratch):
    path = write_wheel(tmp_path)
    assert obtain(package(path), scratch, path) == path
    path.write_bytes(b"something else")
    with pytest.raises(UserError, match="SHA-256"):
        obtain(package(path, "1" * 64), scratch, path)
    with pytest.raises(UserError, match="no such file"):
        obtain(package(path), scratch, tmp_path / "gone.whl")
