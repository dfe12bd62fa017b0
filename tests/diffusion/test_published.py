"""The published checkpoint: same output, every tensor accounted for."""

import functools
import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from diffusers import UNet2DModel

from msdsr.cli import run_guarded
from msdsr.cli_weights import weights_app
from msdsr.config import NetworkConfig
from msdsr.diffusion.denoiser import NetworkDenoiser
from msdsr.diffusion.network import load_model
from msdsr.diffusion.published import convert, import_published
from msdsr.diffusion.published_names import derive_layout, published_entries
from msdsr.errors import UserError
from msdsr.manifest import read_manifest, sha256_file

_spec = importlib.util.spec_from_file_location(
    "ldm_reference", Path(__file__).with_name("ldm_reference.py")
)
ldm_reference = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(ldm_reference)

WIDTHS, DEPTH, ATTENDS = (32, 64, 96), 2, (False, True, True)
"""2 heads, 3 heads; all kinds of blocks the published network has."""

RAW, EMA = "model.diffusion_model.", "model_ema."
QKV = f"{RAW}middle_block.1.qkv.weight"


def randomised(network: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Norms and biases too: a fresh network has ones and zeros there, which hide a swap."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            noise = torch.randn(tensor.shape, generator=generator)
            fan_in = max(1, tensor[0].numel()) if tensor.ndim > 1 else 25
            tensor.copy_(noise / math.sqrt(fan_in) + (tensor.ndim == 1 and "weight" in name))
    return network.eval()


@functools.cache
def reference(seed: int = 0) -> torch.nn.Module:
    return randomised(ldm_reference.LdmUnet(WIDTHS, DEPTH, ATTENDS), seed)


def schedule(timesteps: int = 1000) -> dict[str, torch.Tensor]:
    """The published buffers, worked out in NumPy from the cosine law."""
    edges = np.arange(timesteps + 1) / timesteps
    alpha_bar = np.cos((edges + 0.008) / 1.008 * np.pi / 2) ** 2
    betas = np.clip(1 - alpha_bar[1:] / alpha_bar[:-1], 0, 0.999)
    products = np.cumprod(1 - betas)
    tables = {
        "betas": betas,
        "alphas_cumprod": products,
        "alphas_cumprod_prev": np.append(1.0, products[:-1]),
        "sqrt_alphas_cumprod": np.sqrt(products),
        "posterior_variance": betas,
    }
    return {name: torch.tensor(values, dtype=torch.float32) for name, values in tables.items()}


def lightning(raw: torch.nn.Module, ema: torch.nn.Module | None) -> dict[str, object]:
    """What Lightning saves, with a NumPy number among it, as the published training left it."""
    tensors = {RAW + name: tensor for name, tensor in raw.state_dict().items()}
    if ema is not None:
        tensors |= {
            EMA + "diffusion_model" + name.replace(".", ""): tensor
            for name, tensor in ema.state_dict().items()
        }
        tensors["model_ema.decay"] = torch.tensor(0.9999)
        tensors["model_ema.num_updates"] = torch.tensor(13560, dtype=torch.int32)
    return {
        "epoch": 59,
        "global_step": 13560,
        "pytorch-lightning_version": "2.0.0",
        "state_dict": tensors | schedule(),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 60}}}},
        "callbacks": {"ModelCheckpoint": {"kth_value": torch.tensor(0.5), "best_k_models": {}}},
        "optimizer_states": [{"state": {}, "param_groups": [{"lr": np.float64(4e-6)}]}],
        "lr_schedulers": [{"_last_lr": [np.float64(4e-6)], "lr_lambdas": [{}]}],
    }


@pytest.fixture
def content() -> dict:
    return lightning(reference(0), reference(1))


@pytest.fixture
def checkpoint(tmp_path: Path, content: dict) -> Path:
    path = tmp_path / "d17986ac.ckpt"
    torch.save(content, path)
    return path


def refused(content: dict, path: Path = Path("x.ckpt"), **options: bool) -> str:
    with pytest.raises(UserError) as caught:
        convert(content["state_dict"], path, **options)
    line = caught.value.line()
    assert "\n" not in line
    return line


# --- what comes out ------------------------------------------------------------------------------


@pytest.mark.parametrize(("raw", "seed"), [(False, 1), (True, 0)])
def test_the_output_is_the_reference_networks(
    checkpoint: Path, tmp_path: Path, raw: bool, seed: int
) -> None:
    import_published(checkpoint, tmp_path / "model", raw=raw)
    network = load_model(tmp_path / "model").network
    x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    t = torch.tensor([0, 17, 500, 999])
    with torch.no_grad():
        wanted, other = (reference(s)(x, t) for s in (seed, 1 - seed))
        found = network(x, t).sample
        alone = torch.cat([network(x[i : i + 1], t[i : i + 1]).sample for i in range(4)])
    assert wanted.std() > 0.1
    assert (found - wanted).abs().max() < 1e-5
    assert (alone - wanted).abs().max() < 1e-5
    assert (found - other).abs().max() > 0.1


@pytest.mark.parametrize(
    ("widths", "depth", "attends"),
    [((32,), 1, (False,)), ((64, 32), 1, (True, False)), ((32, 64), 3, (False, True))],
)
def test_other_layouts(widths: tuple, depth: int, attends: tuple) -> None:
    network = randomised(ldm_reference.LdmUnet(widths, depth, attends), 3)
    tensors = lightning(network, None)["state_dict"]
    model = convert(tensors, Path("x.ckpt"), raw=True)
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([3, 800])
    with torch.no_grad():
        assert (model.network(x, t).sample - network(x, t)).abs().max() < 1e-5


def test_the_papers_layout_tensor_by_tensor() -> None:
    layout = NetworkConfig()
    with torch.device("meta"):
        there = ldm_reference.LdmUnet(
            tuple(layout.block_out_channels), layout.layers_per_block, (False, True, True, True)
        ).state_dict()
    assert derive_layout({RAW + k: v for k, v in there.items()}, Path("x")) == layout
    with torch.device("meta"):
        here = UNet2DModel(
            block_out_channels=layout.block_out_channels,
            layers_per_block=layout.layers_per_block,
            attention_head_dim=layout.attention_head_dim,
            down_block_types=("DownBlock2D", *["AttnDownBlock2D"] * 3),
            up_block_types=(*["AttnUpBlock2D"] * 3, "UpBlock2D"),
        ).state_dict()
    entries = published_entries(layout, here)
    assert len(entries) == 368
    assert {e.name: e.shape for e in entries} == {k: tuple(v.shape) for k, v in there.items()}
    assert sorted(name for e in entries for name in e.targets) == sorted(here)
    assert len({e.ema for e in entries}) == 368
    assert sum(v.numel() for v in there.values()) == 274_056_163
    first = next(e for e in entries if e.name == "input_blocks.0.0.weight")
    assert first.ema == "model_ema.diffusion_modelinput_blocks00weight"


def test_it_denoises(checkpoint: Path, tmp_path: Path) -> None:
    import_published(checkpoint, tmp_path / "model")
    model = load_model(tmp_path / "model")
    assert model.channels == ("CH2", "CH3")
    assert model.transform.model_channels == ("CH1", "CH2", "CH3")
    assert model.image_size == 48
    objective = model.objective
    assert (objective.data, objective.derive_ch1) == ("unit", True)
    assert (objective.conditioning, objective.prediction) == ("rows", "epsilon")
    assert objective.timesteps == 1000

    clean = model.transform.forward(torch.randint(0, 20_000, (2, 2, 16, 16), dtype=torch.int32))
    observed = torch.zeros(16, dtype=torch.bool)
    observed[::2] = True
    t = 400
    alpha_bar = float(schedule()["alphas_cumprod"][t])
    x_t = torch.randn(2, 3, 16, 16)
    denoise = NetworkDenoiser(model, clamp=False, integer_timesteps=True)
    sigma = math.sqrt((1 - alpha_bar) / alpha_bar)
    x0 = denoise(x_t / math.sqrt(alpha_bar), sigma, clean, observed)

    given = x_t.clone()
    given[:, :, observed] = clean[:, :, observed]
    with torch.no_grad():
        epsilon = reference(1)(given, torch.tensor([t, t]))
    wanted = (x_t - math.sqrt(1 - alpha_bar) * epsilon) / math.sqrt(alpha_bar)
    assert torch.equal(x0[:, :, observed], clean[:, :, observed])
    assert torch.allclose(x0[:, :, ~observed], wanted[:, :, ~observed], atol=1e-4)


def test_the_folder_says_where_it_comes_from(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "model"
    manifest = import_published(checkpoint, out)
    sha256 = sha256_file(checkpoint)
    assert manifest.inputs == {"checkpoint": sha256}
    assert read_manifest(out).counts == manifest.counts
    assert manifest.counts["weights"] == "ema"
    assert any("block_out_channels [32, 64, 96]" in warning for warning in manifest.warnings)
    card = (out / "README.md").read_text()
    for fact in ("MLNeurosurg/msdsr", "MIT", "d17986ac.ckpt", sha256, "EMA", "Research"):
        assert fact in card
    assert "not the published one" in card
    training = load_model(out).training
    assert training["checkpoint_sha256"] == sha256
    assert (training["weights"], training["epoch"]) == ("ema", 59)
    assert manifest.counts["weights_sha256"] == load_model(out).weights_sha256
    assert UNet2DModel.from_pretrained(out).config.sample_size == 48
    assert sorted(p.name for p in out.parent.iterdir()) == ["model", "model.json"]


def test_an_import_may_replace_an_import_and_nothing_else(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    import_published(checkpoint, out)
    assert import_published(checkpoint, out, raw=True).counts["weights"] == "raw"
    assert load_model(out).training["weights"] == "raw"
    record = json.loads((out / "msdsr.json").read_text())
    record["training"] = {"images_seen": 5}
    (out / "msdsr.json").write_text(json.dumps(record))
    for taken in (out, tmp_path, checkpoint):
        with pytest.raises(UserError, match="holds something else"):
            import_published(checkpoint, taken)
    assert checkpoint.is_file()


# --- what is refused -----------------------------------------------------------------------------


def test_an_unknown_tensor_is_named_with_the_nearest(content: dict) -> None:
    tensors = content["state_dict"]
    tensors["model.diffusion_model.middle_block.1.qkv.wieght"] = tensors.pop(QKV)
    line = refused(content)
    assert "1 unknown: model.diffusion_model.middle_block.1.qkv.wieght" in line
    assert f"nearest: {QKV}" in line
    assert f"1 missing: {QKV}" in line


@pytest.mark.parametrize(
    "name",
    [
        QKV,
        f"{RAW}input_blocks.0.0.weight",
        f"{RAW}input_blocks.1.0.out_layers.3.weight",
        f"{RAW}input_blocks.4.1.norm.bias",
        f"{RAW}output_blocks.5.2.conv.bias",
        "model_ema.diffusion_modelout2bias",
        "betas",
        "alphas_cumprod",
    ],
)
@pytest.mark.parametrize("raw", [False, True])
def test_a_missing_tensor_is_named(content: dict, name: str, raw: bool) -> None:
    del content["state_dict"][name]
    assert f"1 missing: {name}" in refused(content, raw=raw)


def test_a_missing_block_is_named(content: dict) -> None:
    tensors = content["state_dict"]
    for name in [n for n in tensors if n.startswith(f"{RAW}input_blocks.4.")]:
        del tensors[name]
    assert f"missing {RAW}input_blocks.4;" in refused(content)


@pytest.mark.parametrize("name", ["scale_factor", "first_stage_model.x", "model_ema.more"])
def test_an_extra_tensor_is_refused(content: dict, name: str) -> None:
    content["state_dict"][name] = torch.tensor(1.0)
    assert f"1 unknown: {name}" in refused(content)


@pytest.mark.parametrize(
    "name",
    [QKV, f"{RAW}out.0.bias", "model_ema.diffusion_modelout2bias", "posterior_variance"],
)
def test_every_shape_is_checked(content: dict, name: str) -> None:
    tensor = content["state_dict"][name]
    content["state_dict"][name] = torch.cat([tensor, tensor])
    assert f"{name} has shape" in refused(content)
    content["state_dict"][name] = tensor.to(torch.int32)
    assert f"{name} is torch.int32" in refused(content)


def test_other_channels_are_refused() -> None:
    network = ldm_reference.LdmUnet((32,), 1, (False,), channels=4)
    line = refused(lightning(network, network))
    assert "input_blocks.0.0.weight has shape (32, 4, 3, 3); expected (32, 3, 3, 3)" in line


def test_a_scalar_where_a_width_should_be(content: dict) -> None:
    content["state_dict"][f"{RAW}input_blocks.1.0.out_layers.3.weight"] = torch.tensor(1.0)
    assert "out_layers.3.weight has shape ()" in refused(content)
    content["state_dict"]["betas"] = torch.empty(0)
    assert "has shape" in refused(content)


def test_another_network_is_refused() -> None:
    assert "model.diffusion_model.input_blocks" in refused({"state_dict": {"a": torch.ones(1)}})


def test_another_schedule_is_refused(content: dict) -> None:
    content["state_dict"]["betas"] = torch.linspace(1e-4, 2e-2, 1000)
    assert "cosine" in refused(content)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused(content: dict, value: float) -> None:
    content["state_dict"]["model_ema.diffusion_modelout2bias"] = torch.full((3,), value)
    assert "model_ema.diffusion_modelout2bias holds NaN or infinity" in refused(content)
    convert(content["state_dict"], Path("x.ckpt"), raw=True)


def test_without_averages_the_flag_is_named() -> None:
    content = lightning(reference(0), None)
    assert "give --raw" in refused(content)
    convert(content["state_dict"], Path("x.ckpt"), raw=True)


def test_a_failed_import_leaves_nothing(checkpoint: Path, tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("msdsr.diffusion.published.save_model", full)
    with pytest.raises(OSError, match="no space"):
        import_published(checkpoint, tmp_path / "model")
    assert [p.name for p in tmp_path.iterdir()] == ["d17986ac.ckpt"]


def test_the_verb(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    app = typer.Typer()
    app.add_typer(weights_app, name="weights")
    out = tmp_path / "model"
    verb = ["weights", "import", str(checkpoint), str(out), "--raw"]
    assert run_guarded(lambda: app(verb, standalone_mode=False)) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"weights: {out} (weights raw, ")
    assert "warning: not the published network" in printed.err
    assert load_model(out).training["weights"] == "raw"
