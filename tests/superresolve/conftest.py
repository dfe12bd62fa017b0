import pytest
import torch

from msdsr.config import ModelConfig
from msdsr.diffusion.network import Model, build_network, save_model
from msdsr.diffusion.transform import ChannelStatistics, build_transform

TINY = {
    "preset": "tiny",
    "cohorts": ["x"],
    "network": {
        "image_size": 16,
        "block_out_channels": [8, 8],
        "attention_levels": [False, False],
        "attention_head_dim": 8,
        "norm_num_groups": 4,
        "layers_per_block": 1,
    },
}


@pytest.fixture(scope="session")
def make_model(tmp_path_factory):
    """A released model with random weights, 16 × 16 tiles."""

    def make(channels=("CH2", "CH3"), dtype="uint16", mean=12000.0, std=4000.0):
        torch.manual_seed(0)
        config = ModelConfig.model_validate(TINY)
        statistics = [ChannelStatistics(mean, std, mean - 3 * std, mean + 3 * std)] * len(channels)
        transform = build_transform(channels, statistics, config.objective, dtype)
        network = build_network(config, len(channels))
        folder = tmp_path_factory.mktemp("model") / "model"
        save_model(folder, Model(network, transform, config.objective))
        return folder

    return make
