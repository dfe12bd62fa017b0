"""How a network runs may change its speed, and its answers by rounding alone."""

from types import SimpleNamespace

import pytest
import torch

from msdsr.config import ModelConfig
from msdsr.diffusion.denoiser import NetworkDenoiser
from msdsr.diffusion.inference import Forward, choose_batch, choose_precision
from msdsr.diffusion.network import Model, build_network
from msdsr.diffusion.transform import ChannelStatistics, standardised_transform

CPU, GPU = torch.device("cpu"), torch.device("cuda")
OBSERVED = torch.arange(16) % 4 == 1


@pytest.fixture(scope="module")
def model() -> Model:
    settings = ModelConfig.model_validate(
        {
            "preset": "tiny",
            "cohorts": ["demo"],
            "network": {
                "image_size": 16,
                "block_out_channels": [8, 16],
                "layers_per_block": 1,
                "attention_levels": [False, True],
                "attention_head_dim": 8,
                "norm_num_groups": 4,
            },
        }
    )
    torch.manual_seed(1)
    transform = standardised_transform(("a", "b"), [ChannelStatistics(0.0, 1.0, -1e6, 1e6)] * 2)
    return Model(build_network(settings, 2).eval(), transform, settings.objective)


def images(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 2, 16, 16, generator=torch.Generator().manual_seed(seed))


def test_auto_is_bfloat16_where_the_hardware_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_precision("auto", GPU) == "bfloat16"
    for amx, wanted in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda amx=amx: {"amx_bf16": amx})
        assert choose_precision("auto", CPU) == wanted
        assert choose_precision("float32", CPU) == "float32"
        assert choose_precision("bfloat16", CPU) == "bfloat16"


@pytest.mark.parametrize(("gigabytes", "batch"), [(141, 1024), (80, 1024), (24, 256)])
def test_auto_batch(monkeypatch: pytest.MonkeyPatch, gigabytes: int, batch: int) -> None:
    found = SimpleNamespace(total_memory=gigabytes * 1e9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: found)
    assert choose_batch("auto", GPU) == batch
    assert choose_batch("auto", CPU) == 32
    assert choose_batch(7, GPU) == 7


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_fast_is_the_same_network(model: Model, precision: str) -> None:
    x, clean = images(5), images(5, 1)
    plain = NetworkDenoiser(model, precision)(x, 0.5, clean, OBSERVED)
    fast = NetworkDenoiser(model, precision, fast=True)(x, 0.5, clean, OBSERVED)
    tolerance = 1e-5 if precision == "float32" else 0.05
    torch.testing.assert_close(fast, plain, atol=tolerance, rtol=tolerance)
    assert fast.dtype == torch.float32


def test_a_compiled_network_sees_one_shape(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []

    def compiled(network, dynamic):
        assert dynamic is False
        return lambda given, steps: shapes.append(given.shape) or network(given, steps)

    monkeypatch.setattr(torch, "compile", compiled)
    denoiser = NetworkDenoiser(model, fast=True, compiled_batch=4)
    plain = NetworkDenoiser(model)
    for n in (4, 1, 3):
        found = denoiser(images(n), 0.5, images(n, 1), OBSERVED)
        wanted = plain(images(n), 0.5, images(n, 1), OBSERVED)
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert {tuple(s) for s in shapes} == {(4, 5, 16, 16)}
    denoiser(images(6), 0.5, images(6, 1), OBSERVED)  # larger than agreed: not compiled
    assert len(shapes) == 3


def test_what_cannot_be_compiled_runs_all_the_same(
    model: Model, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(given, steps):
        raise RuntimeError("no C++ compiler\nand more")

    monkeypatch.setattr(torch, "compile", lambda network, dynamic: broken)
    denoiser = NetworkDenoiser(model, fast=True, compiled_batch=4)
    wanted = NetworkDenoiser(model, fast=True)(images(3), 0.5, images(3, 1), OBSERVED)
    assert torch.equal(denoiser(images(3), 0.5, images(3, 1), OBSERVED), wanted)
    denoiser(images(3), 0.5, images(3, 1), OBSERVED)
    assert capsys.readouterr().err == "cannot compile (no C++ compiler); going on without\n"


def test_an_error_after_compiling_is_an_error(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def fails_later(given, steps):
        calls.append(given)
        if len(calls) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return model.network(given, steps)

    monkeypatch.setattr(torch, "compile", lambda network, dynamic: fails_later)
    forward = Forward(model.network, "float32", CPU, 4)
    given = torch.zeros(2, 5, 16, 16)
    with torch.no_grad():
        assert len(forward(given, torch.zeros(1))) == 2
        with pytest.raises(torch.OutOfMemoryError):
            forward(given, torch.zeros(1))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_tile_does_not_depend_on_its_neighbours_in_a_batch(model: Model, precision: str) -> None:
    """At one batch size, to the bit: neither on what else is in the batch nor on its place."""
    denoiser = NetworkDenoiser(model, precision, fast=True)
    x, clean = images(16), images(16, 1)
    whole = denoiser(x, 0.5, clean, OBSERVED)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(2))
    assert torch.equal(denoiser(x[order], 0.5, clean[order], OBSERVED), whole[order])
    other = torch.cat([x[:1], images(15, 3)])
    assert torch.equal(denoiser(other, 0.5, clean, OBSERVED)[:1], whole[:1])
