"""Nothing in a checkpoint is run."""

import os
import pickle
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from msdsr.cli import run_guarded
from msdsr.cli_weights import weights_app
from msdsr.diffusion.published import import_published
from msdsr.diffusion.published_file import read_checkpoint
from msdsr.errors import EXIT_USER_ERROR, UserError


class Calls:
    """Pickles as a call of ``function``."""

    def __init__(self, function: object, *given: object) -> None:
        self.function, self.given = function, given

    def __reduce__(self) -> tuple:
        return self.function, self.given


def hostile(kind: str, marker: Path) -> object:
    if kind == "system":
        return Calls(os.system, f"touch {marker}")
    if kind == "exec":
        return Calls(exec, f"import pathlib; pathlib.Path({str(marker)!r}).touch()")
    return Calls(shutil.copy, __file__, str(marker))


PLACES = {
    "alone": lambda content, evil: evil,
    "beside": lambda content, evil: {"first": evil, **content},
    "after": lambda content, evil: {**content, "hyper_parameters": {"a": evil}},
    "inside": lambda content, evil: {**content, "state_dict": {"betas": evil}},
    "learning rate": lambda content, evil: {
        **content,
        "lr_schedulers": [Calls(np.dtype, evil), np.float64(1)],
    },
}


@pytest.mark.parametrize("kind", ["system", "exec", "copy"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_a_hostile_pickle_is_refused_and_runs_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    kind: str,
    place: str,
    form: str,
) -> None:
    marker, path = tmp_path / "marker", tmp_path / "evil.ckpt"
    small = {"epoch": 1, "state_dict": {"betas": torch.ones(3)}}
    content = PLACES[place](small, hostile(kind, marker))
    if form == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    code = run_guarded(
        lambda: weights_app(["import", str(path), str(tmp_path / "out")], standalone_mode=False)
    )
    printed = capsys.readouterr()
    assert code == EXIT_USER_ERROR
    assert printed.out == ""
    assert printed.err.startswith("msdsr: error: ")
    assert printed.err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["evil.ckpt"]


def test_the_hostile_pickles_would_do_harm(tmp_path: Path) -> None:
    for kind in ("system", "exec", "copy"):
        marker = tmp_path / kind
        pickle.loads(pickle.dumps(hostile(kind, marker)))
        assert marker.exists()


def test_nodes_of_a_configuration_library_are_refused_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    class DictConfig:
        def __new__(cls, *_: object) -> "DictConfig":
            made.append(cls)
            return object.__new__(cls)

    DictConfig.__module__, DictConfig.__qualname__ = "omegaconf.dictconfig", "DictConfig"
    module = types.ModuleType("omegaconf.dictconfig")
    module.DictConfig = DictConfig
    monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
    monkeypatch.setitem(sys.modules, "omegaconf.dictconfig", module)
    path = tmp_path / "x.ckpt"
    torch.save({"state_dict": {}, "hyper_parameters": DictConfig()}, path)
    made.clear()
    with pytest.raises(UserError, match=r"omegaconf\.dictconfig\.DictConfig"):
        read_checkpoint(path)
    assert made == []


def test_numbers_of_an_old_numpy_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published checkpoint was written by NumPy 1, where the function had another name."""
    module = types.ModuleType("numpy.core.multiarray")

    def scalar(dtype: np.dtype, data: bytes) -> np.float64:
        return np.frombuffer(data, dtype)[0]

    scalar.__module__, scalar.__qualname__ = module.__name__, "scalar"
    module.scalar = scalar
    monkeypatch.setitem(sys.modules, module.__name__, module)
    path = tmp_path / "x.ckpt"
    number = Calls(scalar, np.dtype("float64"), np.float64(4e-6).tobytes())
    torch.save({"state_dict": {"betas": torch.ones(3)}, "lr": number}, path)
    assert b"numpy.core.multiarray\nscalar" in path.read_bytes()
    saved = read_checkpoint(path)
    assert torch.equal(saved["state_dict"]["betas"], torch.ones(3))
    assert not isinstance(saved["lr"], float | np.generic)
    assert vars(saved["lr"]) == {}


def test_a_number_is_no_tensor(tmp_path: Path) -> None:
    torch.save({"state_dict": {"betas": np.float64(1)}}, tmp_path / "x.ckpt")
    with pytest.raises(UserError, match="betas is a _Ignored"):
        read_checkpoint(tmp_path / "x.ckpt")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(3).to_sparse(),
        torch.empty(3, device="meta"),
        torch.ones(1).expand(1 << 40),
        torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
    ],
    ids=["sparse", "meta", "expanded", "nested"],
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_strange_tensors_are_refused(tmp_path: Path, tensor: torch.Tensor) -> None:
    torch.save({"state_dict": {"betas": tensor}}, tmp_path / "x.ckpt")
    with pytest.raises(UserError):
        read_checkpoint(tmp_path / "x.ckpt")


@pytest.mark.parametrize("content", [{}, {"state_dict": 3}, [1], torch.ones(2)])
def test_something_else_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(UserError, match="no state_dict"):
        read_checkpoint(tmp_path / "x.ckpt")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "x.ckpt"
    torch.save({"state_dict": {"betas": torch.ones(5000)}}, checkpoint)
    whole = checkpoint.read_bytes()
    for n in (0, 1, 100, 5000, len(whole) // 2, len(whole) - 30):
        checkpoint.write_bytes(whole[:n])
        with pytest.raises(UserError, match="cannot be read"):
            read_checkpoint(checkpoint)
    checkpoint.write_bytes(b"\x1f\x8b" + whole[2:])
    with pytest.raises(UserError, match="unpacked"):
        read_checkpoint(checkpoint)
    with pytest.raises(UserError, match="folder"):
        read_checkpoint(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        import_published(tmp_path / "none.ckpt", tmp_path / "out")
