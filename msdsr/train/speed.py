"""As fast as the device allows: compiling, replicating, and the figures that say how fast."""

from __future__ import annotations

import contextlib
import copy
import re
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parallel import DistributedDataParallel
from torch.utils.flop_counter import FlopCounterMode

from msdsr.config import ModelConfig, OptimiserConfig
from msdsr.errors import UserError
from msdsr.train.distributed import Ranks

PEAK_BFLOAT16 = {
    "A10": 125e12,
    "A10G": 70e12,
    "A30": 165e12,
    "A40": 149.7e12,
    "A100": 312e12,
    "RTX A6000": 154.8e12,
    "RTX 3090": 71e12,
    "L4": 121e12,
    "L40": 181e12,
    "L40S": 362e12,
    "RTX 4090": 165.2e12,
    "RTX 6000 Ada": 364.2e12,
    "H100": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "GH200": 989e12,
    "H200": 989e12,
    "H200 NVL": 835e12,
    "B200": 2250e12,
    "MI250X": 191.5e12,
    "MI300X": 1307e12,
}
"""Dense bfloat16 operations a second with float32 sums, by words of the device's name.

From the makers' data sheets (A10, A30, A40, A100, L4, L40, L40S, H100, H200, GH200, B200; half of
what is given "with sparsity") and the appendices of NVIDIA's white papers on the GA102 (RTX A6000,
RTX 3090) and AD102 (RTX 4090, RTX 6000 Ada); Amazon's description of its G5 machines (A10G); AMD's
data sheets (MI250X: one of its two dies, which is one device; MI300X). None was
measured here. The longest name that fits counts.
"""


def layout_of(device: torch.device) -> torch.memory_format:
    """Return how images lie in memory: channels last for tensor cores, which a CPU has not.

    On a CPU it makes no difference in float32 and costs a quarter in bfloat16
    (benchmarks/results/train.json says on which).
    """
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


@contextlib.contextmanager
def arithmetic(device: torch.device, precision: str) -> Iterator[None]:
    """Run a network inside the ``with`` block in the precision of the model.

    On a CPU the fused attention is slower in bfloat16 than the matrix products it stands for.
    """
    bfloat16 = precision == "bfloat16"
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.autocast(device.type, torch.bfloat16, enabled=bfloat16))
        if bfloat16 and device.type == "cpu":
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        yield


def forward_of(network: nn.Module, model: ModelConfig, ranks: Ranks) -> nn.Module:
    """Return the network as the loop calls it: compiled if asked for, replicated over ranks."""
    forward = network
    if model.optimiser.compile:
        forward = _compiled(network, model, ranks)
    if ranks.world > 1:
        ids = [ranks.device.index] if ranks.device.type == "cuda" else None
        forward = DistributedDataParallel(forward, device_ids=ids, gradient_as_bucket_view=True)
    return forward


def _compiled(network: nn.Module, model: ModelConfig, ranks: Ranks) -> nn.Module:
    """Return the compiled network, or the network itself where compiling does not work."""
    compiled: Any = torch.compile(network)
    x, t = _probe(network, ranks.device)
    try:
        with arithmetic(ranks.device, model.optimiser.precision):
            torch.autograd.backward(compiled(x, t).sample.float().mean())
    except Exception as error:  # whatever the compiler or its tools (a C++ compiler, Triton) raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        print(f"train: cannot compile ({reason}); going on without", file=sys.stderr, flush=True)
        return network
    finally:
        network.zero_grad(set_to_none=True)
    done: nn.Module = compiled
    return done


def _probe(network: nn.Module, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the smallest input of a network."""
    config: Any = network.config
    shape = (1, config.in_channels, config.sample_size, config.sample_size)
    x = torch.zeros(shape, device=device).contiguous(memory_format=layout_of(device))
    return x, torch.zeros(1, dtype=torch.int64, device=device)


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Return the floating-point operations a second that a device could do, where it is known.

    In float32 nobody knows: it depends on whether the libraries round to TF32.
    """
    if device.type != "cuda" or precision != "bfloat16":
        return None
    return peak_of(torch.cuda.get_device_name(device))


def peak_of(name: str) -> float | None:
    """Return the entry of `PEAK_BFLOAT16` for a name such as ``NVIDIA H100 80GB HBM3``."""
    words = re.split(r"[\s\-/]+", name)
    if "MIG" in words:  # a part of a device, of a size that the name tells in its own way
        return None
    fitting = [known for known in PEAK_BFLOAT16 if set(known.split()) <= set(words)]
    return PEAK_BFLOAT16[max(fitting, key=len)] if fitting else None


def training_flops(network: nn.Module) -> float:
    """Count the floating-point operations of one crop's forward and backward pass.

    The forward pass is counted on tensors without memory; the backward pass takes twice as many.
    """
    ghost = copy.deepcopy(network).to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        ghost(*_probe(network, torch.device("meta")))
    return 3.0 * float(counter.get_total_flops())


@contextlib.contextmanager
def out_of_memory_is_clear(settings: OptimiserConfig, ranks: Ranks) -> Iterator[None]:
    """Turn a full device into one line that names the micro-batch to try.

    Raises
    ------
    UserError
        When memory runs out inside the ``with`` block.
    """
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        full = isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
        if not full:
            raise
        at_a_time = min(settings.micro_batch, -(-settings.batch // ranks.world))
        fix = (
            f"set it to {at_a_time // 2}: gradients are summed, the global batch of "
            f"{settings.batch} and the result stay"
            if at_a_time > 1
            else "take a smaller network, or a device with more memory"
        )
        raise UserError(
            "optimiser.micro_batch",
            f"out of memory with {at_a_time} crops at a time",
            "a micro-batch that fits",
            fix,
        ) from None
