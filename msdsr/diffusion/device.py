"""Where the arithmetic runs."""

from __future__ import annotations

import torch

from msdsr.errors import UserError


def choose_device(name: str) -> torch.device:
    """Return the device for ``cpu``, ``cuda`` or ``auto`` (the GPU, else the CPU).

    Raises
    ------
    UserError
        When the device is not known or not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise UserError("device", repr(name), "auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "device", "cuda, but no GPU can be seen", "a GPU", "ask for one, or use --device cpu"
        )
    return torch.device(name)


def process_count(device: torch.device, gpus: int) -> int:
    """Return how many processes share the work: one a GPU asked for, at least one.

    On a CPU, as many as are asked for.

    Raises
    ------
    UserError
        When more GPUs are asked for than can be seen.
    """
    if device.type == "cuda" and gpus > torch.cuda.device_count():
        raise UserError(
            "--gpus",
            f"{gpus}, but {torch.cuda.device_count()} can be seen",
            "no more than there are",
            "ask the cluster for more, or work on fewer",
        )
    return max(1, gpus)
