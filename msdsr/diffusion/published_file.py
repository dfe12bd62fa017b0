"""Reading a Lightning checkpoint without running anything in it.

A checkpoint is a pickle, and a pickle is a program. PyTorch's ``weights_only`` reader builds
tensors and plain containers alone and refuses every other class by name. Here it knows three names
more, of NumPy's numbers, and is given an empty class for them: not even those are made.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from msdsr.errors import UserError

CHECKPOINT = "d17986ac.ckpt"

HARMLESS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype")
"""The published training leaves its learning rate, a NumPy number, in the optimiser's state."""


class _Ignored:
    """Stands where a harmless class of the file would; takes anything, does and keeps nothing."""

    def __new__(cls, *_: object) -> _Ignored:
        return object.__new__(cls)

    def __setstate__(self, _: object) -> None:
        """Keep nothing."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint's tensors and plain values, and nothing that could act.

    Returns
    -------
    dict
        As saved; ``state_dict`` is sure to hold tensors by name. Tensors stay on the disk
        until they are looked at.

    Raises
    ------
    UserError
        When the file is damaged or holds an object of any class but :data:`HARMLESS`, which are
        not made either.
    """
    fix = f"give {CHECKPOINT}, unpacked from the authors' archive"
    if not path.is_file():
        raise UserError(path, "a folder", "a checkpoint's file", fix)
    allowed: list[Any] = [(_Ignored, name) for name in HARMLESS]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(allowed):
            warnings.simplefilter("ignore")
            saved = torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    # A damaged file can make the reader fail in any way; each of them is the file's fault.
    except Exception as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and found:
            raise UserError(
                path, f"holds a Python object, {found[1]}", "tensors and plain values alone", fix
            ) from error
        raise UserError(
            path, f"cannot be read ({type(error).__name__})", "a checkpoint", fix
        ) from error
    tensors = saved.get("state_dict") if isinstance(saved, dict) else None
    if not isinstance(tensors, dict):
        raise UserError(path, "no state_dict", "a Lightning checkpoint", fix)
    for name, tensor in tensors.items():
        if not (isinstance(name, str) and isinstance(tensor, Tensor)):
            raise UserError(path, f"{name!s} is a {type(tensor).__name__}", "a tensor", fix)
        if not _is_plain(tensor):
            raise UserError(
                path, f"{name} is no plain tensor", "numbers, as many as its shape", fix
            )
    return {**saved}


def _is_plain(tensor: Tensor) -> bool:
    """Tell whether a tensor is a dense array that holds as many numbers as its shape says."""
    if tensor.is_nested or tensor.layout is not torch.strided or tensor.device.type != "cpu":
        return False
    return not tensor.is_quantized and tensor.untyped_storage().nbytes() >= tensor.nbytes
