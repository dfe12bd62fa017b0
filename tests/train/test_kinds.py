"""Every kind of model learns, is released, and is read again."""

import pytest
import torch
from diffusers import UNet2DModel

from msdsr.config import ModelConfig
from msdsr.diffusion.network import load_model
from msdsr.errors import UserError
from msdsr.train import train

KINDS = ("ms_unet", "e2e_unet", "rscd_prior", "rscd_calibrator")
NETWORK = {
    "image_size": 16,
    "block_out_channels": [8, 16],
    "attention_levels": [False, True],
    "attention_head_dim": 8,
    "norm_num_groups": 4,
}


def tiny(kind, objective=None, **optimiser):
    """A recipe of a kind that takes milliseconds a step."""
    return ModelConfig.model_validate(
        {
            "kind": kind,
            "preset": "tiny",
            "cohorts": ["any"],
            "network": NETWORK,
            "objective": objective or {},
            "optimiser": {"images": 32, "batch": 8, "micro_batch": 8, "validate_every": 16}
            | optimiser,
        }
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_trained_released_and_read(trainset, tmp_path, kind, monkeypatch):
    out = tmp_path / "model"
    train(trainset, out, tmp_path / "work", model=tiny(kind), seed=3, device="cpu")
    ours = load_model(out, kind=kind)
    assert ours.kind == kind
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    theirs = UNet2DModel.from_pretrained(out, use_safetensors=True).eval()
    x, t = torch.randn(1, ours.network.config.in_channels, 16, 16), torch.tensor([0])
    with torch.no_grad():
        assert torch.equal(ours.network(x, t).sample, theirs(x, t).sample)
    with pytest.raises(UserError, match=f"a model of kind {kind}; expected one of kind msdsr"):
        load_model(out, kind="msdsr")
