import pytest

from msdsr.errors import UserError, nearest
from msdsr.manifest import (
    Manifest,
    identity,
    manifest_path,
    read_manifest,
    write_manifest,
    write_text_atomically,
)


def test_a_manifest_stands_beside_its_product(tmp_path):
    for name, expected in {
        "raw.ome.zarr": "raw.json", "patches.parquet": "patches.json", "model": "model.json",
    }.items():  # fmt: skip
        assert manifest_path(tmp_path / name) == tmp_path / expected


def test_it_comes_back_with_versions_and_time(tmp_path):
    write_manifest(tmp_path / "raw.ome.zarr", Manifest(stage="ingest", algorithm=3, seed=1))
    found = read_manifest(tmp_path / "raw.ome.zarr")
    assert (found.stage, found.algorithm, found.product) == ("ingest", 3, "raw.ome.zarr")
    assert {"msdsr", "python", "zarr"} <= set(found.versions)
    assert found.created.endswith("+00:00")


def test_identity_is_what_was_made_and_not_when(tmp_path):
    def make(**change):
        base = {"stage": "s", "algorithm": 1, "inputs": {"a": "x"}, "seconds": 1.0}
        write_manifest(tmp_path / "p.zarr", Manifest(**{**base, **change}))
        return identity(tmp_path / "p.zarr")

    first = make()
    assert make(seconds=9.0, device="cuda", measured={"mb": 3}) == first
    for change in ({"algorithm": 2}, {"inputs": {"a": "y"}}, {"settings": {"k": 1}}, {"seed": 5}):
        assert make(**change) != first


def test_a_missing_or_foreign_manifest_is_told(tmp_path):
    with pytest.raises(UserError, match="no manifest"):
        read_manifest(tmp_path / "raw.ome.zarr")
    (tmp_path / "raw.json").write_text('{"stage": "x", "algorithm": 1, "colour": 2}')
    with pytest.raises(UserError, match="not a manifest"):
        read_manifest(tmp_path / "raw.ome.zarr")


def test_text_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    write_text_atomically(path, "one")
    with pytest.raises(TypeError):
        write_text_atomically(path, 2)
    assert path.read_text() == "one"


def test_nearest_word():
    assert nearest("factrs", ["steps", "factors"]) == "factors"
    assert nearest("zzz", ["steps", "factors"]) is None


def test_a_user_error_is_one_line():
    error = UserError("file", "two\nlines", "one", "mend it")
    assert error.line() == "file: two lines; expected one; mend it"
