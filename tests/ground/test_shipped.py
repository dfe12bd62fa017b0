"""Models that the package carries."""

from pathlib import Path

import pytest

from msdsr.shipped import model_folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_shipped_model_is_found_from_anywhere():
    folder = Path(model_folder("resources/models/phantom-tiny"))
    assert folder.is_absolute()
    assert (folder / "diffusion_pytorch_model.safetensors").stat().st_size > 1_000_000


def test_what_stands_in_the_working_directory_comes_first():
    Path("resources/models/phantom-tiny").mkdir(parents=True)
    assert model_folder("resources/models/phantom-tiny") == "resources/models/phantom-tiny"


@pytest.mark.parametrize(
    "path",
    [
        "resources/models/none",
        "models/phantom-tiny",
        "/resources/models/phantom-tiny",
        "resources/../__init__.py",
    ],
)
def test_anything_else_stays_as_it_was_named(path):
    assert model_folder(path) == path
