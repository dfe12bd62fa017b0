"""How a network runs when it only predicts: precision, batch, memory layout, compilation.

Which choice is faster where was measured: docs/explanation/performance.md.
"""

from __future__ import annotations

import copy
import sys
import warnings
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

Precision = Literal["float32", "bfloat16"]

CPU_BATCH = 32
GPU_BATCH, SMALL_GPU_BATCH = 1024, 256
LARGE_GPU_BYTES = 40e9


def choose_precision(
    wanted: Literal["auto", "float32", "bfloat16"], device: torch.device
) -> Precision:
    """Return the arithmetic inside the network.

    ``auto`` is bfloat16 where the hardware multiplies matrices in it: on a GPU, and on a CPU with
    AMX, where it takes half the time of float32. Elsewhere a CPU only imitates it: float32.
    """
    if wanted != "auto":
        return wanted
    return "bfloat16" if device.type == "cuda" or _has_amx() else "float32"


def _has_amx() -> bool:
    """Tell whether the CPU has tiles for bfloat16 matrices."""
    ask: Any = getattr(torch.cpu, "get_capabilities", dict)  # not in every version
    return bool(ask().get("amx_bf16"))


def choose_batch(wanted: int | Literal["auto"], device: torch.device) -> int:
    """Return how many tiles the network takes at a time.

    ``auto`` is 32 on a CPU, where large batches leave the cache and are slower; 1,024 on a GPU of
    40 GB or more, 256 on a smaller one.
    """
    if wanted != "auto":
        return wanted
    if device.type != "cuda":
        return CPU_BATCH
    memory = torch.cuda.get_device_properties(device).total_memory
    return GPU_BATCH if memory >= LARGE_GPU_BYTES else SMALL_GPU_BATCH


class Forward:
    """A network's prediction, as fast as the device allows.

    Parameters
    ----------
    network
        In float32 its weights are shared, but may be laid out anew in memory; in bfloat16 they are
        copied: autocast would round weights and activations again and again.
    precision
        Of weights and activations; normalisations still add up in float32. Channels come last in
        memory on a GPU, and on a CPU in float32; in bfloat16 a CPU is no faster so.
    device
        Where it will run.
    compiled_batch
        Compile the network for batches of this one size; smaller ones are filled up. Where
        compiling fails, go on without.
    """

    def __init__(
        self,
        network: nn.Module,
        precision: Precision,
        device: torch.device,
        compiled_batch: int | None = None,
    ) -> None:
        self.dtype = torch.float32
        if precision == "bfloat16":
            self.dtype = torch.bfloat16
            # The plain method: diffusers' own warns of modules to be kept, of which there are none.
            network = nn.Module.to(copy.deepcopy(network), torch.bfloat16)
        last = device.type == "cuda" or precision == "float32"
        self.layout = torch.channels_last if last else torch.contiguous_format
        self.network: nn.Module = cast("Any", network).to(memory_format=self.layout)
        self.batch = compiled_batch
        self._compiled: Any = None
        self._has_run = False
        if compiled_batch is not None:
            self._compiled = torch.compile(self.network, dynamic=False)

    def __call__(self, given: Tensor, steps: Tensor) -> Tensor:
        """Return the prediction (N, C, H, W) in float32.

        Parameters
        ----------
        given
            What the network reads, (N, channels, H, W).
        steps
            The step of the training, (1,).
        """
        n = len(given)
        given = given.to(self.dtype)
        if self._compiled is None or self.batch is None or n > self.batch:
            given = given.contiguous(memory_format=self.layout)
            predicted: Tensor = self.network(given, steps).sample
            return predicted.float()
        if n < self.batch:
            given = torch.cat([given, given.new_zeros(self.batch - n, *given.shape[1:])])
        given = given.contiguous(memory_format=self.layout)
        try:
            with warnings.catch_warnings():
                if not self._has_run:  # what the compiler has to say about diffusers' code
                    warnings.simplefilter("ignore")
                predicted = self._compiled(given, steps).sample
        except Exception as error:  # whatever the compiler or its tools (C++, Triton) raise
            if self._has_run:
                raise
            reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
            print(f"cannot compile ({reason[0]}); going on without", file=sys.stderr, flush=True)
            self._compiled = None
            return self(given[:n], steps)
        self._has_run = True
        return predicted[:n].float()
