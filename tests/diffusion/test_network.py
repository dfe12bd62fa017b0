"""The network's layout, and models on disk."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DModel
from safetensors.torch import load_file, save_file

from msdsr.config import ModelConfig
from msdsr.diffusion.network import Model, build_network, load_model, save_model
from msdsr.diffusion.transform import ChannelStatistics, standardised_transform, unit_transform
from msdsr.errors import UserError

SMALL = {
    "image_size": 8,
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "attention_levels": [False, True],
    "attention_head_dim": 8,
    "norm_num_groups": 4,
}


def config(preset: str = "tiny", **parts: object) -> ModelConfig:
    return ModelConfig.model_validate({"preset": preset, "cohorts": ["demo"], **parts})


def small_model(conditioning: str = "mask_and_rows") -> Model:
    torch.manual_seed(0)
    settings = config(network=SMALL, objective={"conditioning": conditioning})
    statistics = [ChannelStatistics(10.0, 2.0, 5.0, 20.0)] * 2
    transform = standardised_transform(("CH2", "CH3"), statistics)
    network = build_network(settings, 2).eval()
    return Model(network, transform, settings.objective, training={"images": 5})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_model(tmp_path / "model", small_model())
    return tmp_path / "model"


def test_the_paper_layout_has_the_papers_parameters() -> None:
    with torch.device("meta"):
        network = build_network(config("paper"), 3)
    assert sum(p.numel() for p in network.parameters()) == 274_056_163
    # The published checkpoint fuses q, k and v: two tensors where there are six here.
    attentions = [m for m in network.modules() if type(m).__name__ == "Attention"]
    assert len(network.state_dict()) - 4 * len(attentions) == 368
    settings = network.config
    assert (settings.flip_sin_to_cos, settings.freq_shift) == (True, 0)
    norms = [m for m in network.modules() if isinstance(m, torch.nn.GroupNorm)]
    assert {m.eps for m in norms} == {1e-5}
    assert {m.num_groups for m in norms} == {32}
    attention = network.down_blocks[1].attentions[0]
    assert attention.heads == 448 // 32


@pytest.mark.parametrize("preset", ["default", "tiny"])
def test_the_other_presets_read_mask_and_rows(preset: str) -> None:
    with torch.device("meta"):
        network = build_network(config(preset), 2)
        assert network.config.in_channels == 5
        assert network(torch.empty(3, 5, 48, 48), torch.empty(3)).sample.shape == (3, 2, 48, 48)


def test_round_trip_to_the_bit(saved: Path) -> None:
    before, after = small_model(), load_model(saved)
    assert after.network.state_dict().keys() == before.network.state_dict().keys()
    for name, tensor in before.network.state_dict().items():
        assert torch.equal(after.network.state_dict()[name], tensor)
    given = torch.randn(2, 5, 8, 8)
    t = torch.tensor([3, 700])
    with torch.no_grad():
        assert torch.equal(after.network(given, t).sample, before.network(given, t).sample)
    assert (after.transform, after.objective) == (before.transform, before.objective)
    assert after.training == {"images": 5}
    assert after.channels == ("CH2", "CH3")
    assert after.image_size == 8
    assert not after.network.training
    assert all(p.requires_grad for p in after.network.parameters())
    assert after.device.type == "cpu"
    again = saved.parent / "again"
    assert save_model(again, after) == after.weights_sha256
    assert (again / "msdsr.json").read_bytes() == (saved / "msdsr.json").read_bytes()


def test_diffusers_reads_it_offline(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    theirs = UNet2DModel.from_pretrained(saved)
    ours = load_model(saved)
    given = torch.randn(1, 5, 8, 8)
    with torch.no_grad():
        assert torch.equal(theirs(given, 7).sample, ours.network(given, 7).sample)


def test_grids_are_in_units_of_the_data() -> None:
    model = small_model()
    assert model.data_sigma == model.data_rms == 1.0
    assert model.sigma_grid(20) == model.schedule.sigma_grid(20, 80.0, 0.01)
    model.transform = unit_transform(
        ("CH2", "CH3"), [ChannelStatistics(0.3 * 65536, 0.4 * 65536, 0, 65535)] * 2
    )
    assert model.data_sigma == pytest.approx(0.4)
    assert model.data_rms == pytest.approx(0.5)
    grid = model.sigma_grid(20, 80.0, 0.1)
    assert grid[0] == pytest.approx(40.0)
    assert grid[-2] == pytest.approx(0.04)


def test_a_folder_of_format_1_holds_a_model_of_kind_msdsr() -> None:
    folder = Path(__file__).parents[2] / "resources" / "models" / "phantom-tiny"
    assert json.loads((folder / "msdsr.json").read_text())["format"] == 1
    assert load_model(folder, kind="msdsr").kind == "msdsr"


def test_a_model_of_another_kind_is_refused(saved: Path) -> None:
    with pytest.raises(UserError, match="a model of kind msdsr; expected one of kind e2e_unet"):
        load_model(saved, kind="e2e_unet")


PAPER = 274_056_163


@pytest.mark.parametrize(
    ("kind", "channels", "parameters"),
    [
        ("msdsr", (3, 3), PAPER),
        ("ms_unet", (3, 3), PAPER),
        # Three more channels for each 3×3 filter of the first layer.
        ("e2e_unet", (6, 3), PAPER + 3 * 9 * 224),
        ("rscd_prior", (2, 2), None),
        ("rscd_calibrator", (2, 1), None),
    ],
)
def test_the_paper_presets_of_all_kinds(
    kind: str, channels: tuple[int, int], parameters: int | None
) -> None:
    settings = config("paper", kind=kind)
    with torch.device("meta"):
        network = build_network(settings, 3 if settings.objective.derive_ch1 else 2)
        side = settings.network.image_size
        answer = network(torch.empty(1, channels[0], side, side), torch.empty(1)).sample
    assert answer.shape == (1, channels[1], side, side)
    if parameters is not None:
        assert sum(p.numel() for p in network.parameters()) == parameters


def damage_json(name: str, **changes: object) -> object:
    def damage(folder: Path) -> None:
        values = json.loads((folder / name).read_text()) | changes
        (folder / name).write_text(json.dumps({k: v for k, v in values.items() if v is not None}))

    return damage


def rewrite_weights(change: object) -> object:
    """Change the tensors and make msdsr.json agree, so that only the tensors are wrong."""

    def damage(folder: Path) -> None:
        from msdsr.manifest import sha256_file

        path = folder / "diffusion_pytorch_model.safetensors"
        tensors = load_file(path)
        change(tensors)  # type: ignore[operator]
        save_file(tensors, path)
        damage_json("msdsr.json", weights_sha256=sha256_file(path))(folder)  # type: ignore[operator]

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "no such folder"),
        (lambda d: (d / "config.json").unlink(), "config.json is missing"),
        (lambda d: (d / "msdsr.json").unlink(), "msdsr.json is missing"),
        (lambda d: (d / "diffusion_pytorch_model.safetensors").unlink(), "is missing"),
        (lambda d: (d / "pytorch_model.bin").write_bytes(b"x"), "unknown kind"),
        (lambda d: (d / "old.ckpt").write_bytes(b"x"), "old.ckpt"),
        (lambda d: (d / "msdsr.json").write_text("{"), "not JSON"),
        (lambda d: (d / "config.json").write_text("[]"), "a list"),
        (damage_json("msdsr.json", format=99), "format 99; expected 2"),
        (damage_json("msdsr.json", kind="unet"), "kind 'unet'; expected msdsr, ms_unet"),
        (damage_json("msdsr.json", kind="e2e_unet"), "objective.conditioning is 'mask_and_rows'"),
        (damage_json("msdsr.json", extra=1), "1 unknown keys: extra"),
        (damage_json("msdsr.json", objective=None), "1 missing keys: objective"),
        (damage_json("msdsr.json", objective={"prediction": "x"}), "objective.prediction"),
        (damage_json("msdsr.json", transform={"channels": ["a"]}), "transform.shift"),
        (damage_json("config.json", _class_name="Other"), "_class_name Other"),
        (damage_json("config.json", norm_groups=4), "norm_groups; expected perhaps norm_num"),
        (damage_json("config.json", in_channels=4), "conv_in.weight has shape"),
        (
            lambda d: (d / "diffusion_pytorch_model.safetensors").write_bytes(b"x" * 99),
            "as msdsr.json says",
        ),
        (rewrite_weights(lambda t: t.pop("conv_in.bias")), "1 missing tensors: conv_in.bias"),
        (rewrite_weights(lambda t: t.update(a=torch.zeros(1))), "1 unknown tensors: a"),
        (rewrite_weights(lambda t: t.update({"conv_in.bias": torch.zeros(3)})), "shape"),
    ],
)
def test_damaged_folders_are_refused(saved: Path, damage: object, message: str) -> None:
    damage(saved)  # type: ignore[operator]
    with pytest.raises(UserError, match=message):
        load_model(saved)


def test_what_is_no_safetensors_is_refused(saved: Path) -> None:
    from msdsr.manifest import sha256_file

    path = saved / "diffusion_pytorch_model.safetensors"
    path.write_bytes(b"\x80\x04x" * 99)
    damage_json("msdsr.json", weights_sha256=sha256_file(path))(saved)  # type: ignore[operator]
    with pytest.raises(UserError, match="not safetensors"):
        load_model(saved)


def test_a_model_must_fit_its_channels() -> None:
    model = small_model("rows")
    three = unit_transform(("a", "b", "c"))
    with pytest.raises(UserError, match="2 channels in and 2 out; expected 3 in and 3 out"):
        Model(model.network, three, model.objective)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention_levels": [True]}, "attention_levels: 1 levels; expected 2"),
        ({"image_size": 9}, "a multiple of 2"),
        ({"norm_num_groups": 5}, "a multiple of norm_num_groups = 5"),
        ({"attention_head_dim": 5}, "a multiple of attention_head_dim = 5"),
    ],
)
def test_impossible_layouts_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_network(config(network=SMALL | change), 2)
