"""Figures that say how fast a training is."""

import pytest
import torch

from msdsr.train.speed import peak_flops, peak_of, training_flops

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A10", 125),
        ("NVIDIA A10G", 70),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA H200", 989),
        ("NVIDIA L4", 121),
        ("NVIDIA L40", 181),
        ("NVIDIA L40S", 362),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA RTX 6000 Ada Generation", 364.2),
        ("NVIDIA RTX A6000", 154.8),
        ("AMD Instinct MI300X", 1307),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("Tesla V100-SXM2-16GB", None),
        ("NVIDIA GeForce GTX 1080", None),
    ],
)
def test_a_device_is_known_by_the_words_of_its_name(name, teraflops):
    assert peak_of(name) == (None if teraflops is None else pytest.approx(teraflops * 1e12))


def test_the_cpu_has_no_peak():
    assert peak_flops(CPU, "bfloat16") is None


def test_operations_are_those_of_the_layers():
    class Net(torch.nn.Module):
        """One convolution, with what a UNet2DModel says of itself."""

        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Conv2d(3, 5, 3, padding=1)
            self.config = type("Config", (), {"in_channels": 3, "sample_size": 16})

        def forward(self, x, t):
            return self.layer(x)

    # Forward: a multiplication and an addition for each of 3·5·9 weights and each pixel; backward
    # takes as many for the inputs and for the weights.
    assert training_flops(Net()) == 3 * 2 * 3 * 5 * 9 * 16 * 16
