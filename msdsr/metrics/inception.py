"""The standard Inception network of FID: pictures in, 2048 features out."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from msdsr.diffusion.device import choose_device
from msdsr.errors import UserError
from msdsr.manifest import sha256_file

SIDE = 299
CPU_BATCH, GPU_BATCH = 8, 64
"""On a CPU larger batches leave its caches: 32 took a fifth longer a picture than 8."""


class Inception:
    """A frozen feature network.

    Parameters
    ----------
    path
        TorchScript of the TensorFlow-ported FID Inception up to pool3, called as
        ``net((x − 128)/128)`` with x N×3×299×299, RGB 0..255.
    device
        ``cpu``, ``cuda`` or ``auto`` (CUDA where there is one).
    batch
        Pictures the network sees at a time; the features do not depend on it but for rounding.
        None: 8 on a CPU, 64 on a GPU.

    Attributes
    ----------
    shown
        Pictures the network has seen.

    Raises
    ------
    UserError
        When the file is missing or not TorchScript.
    """

    def __init__(self, path: str | Path, device: str = "auto", batch: int | None = None) -> None:
        path = Path(path)
        if not path.is_file():
            raise UserError(
                path,
                "no Inception network",
                "the TorchScript file that FID is computed with",
                f"run `msdsr fetch inception` (which writes {path.name}), or set "
                "`evaluate.inception`",
            )
        self.device = choose_device(device)
        self.batch = batch or (GPU_BATCH if self.device.type == "cuda" else CPU_BATCH)
        self.shown = 0
        self.sha256 = sha256_file(path)
        self._net = load_torchscript(path, self.device)

    def __call__(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the features of pictures.

        Parameters
        ----------
        pictures
            uint8, shape (N, 3, h, w), RGB. They are resized to 299×299 here: bilinear with pixel
            centres aligned (half-pixel offsets, ``align_corners=False``), float32, not rounded
            again; shrinking is low-passed first (``antialias``), enlarging needs none.

        Returns
        -------
        numpy.ndarray
            float32, shape (N, 2048).
        """
        if len(pictures) == 0:
            raise ValueError("no pictures")
        blocks = [
            self._features(pictures[i : i + self.batch])
            for i in range(0, len(pictures), self.batch)
        ]
        self.shown += len(pictures)
        return np.concatenate(blocks)

    def _features(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        with (
            torch.inference_mode(),
            # TF32 convolutions would move the features in the third digit.
            torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
        ):
            x_N3HW = torch.from_numpy(np.ascontiguousarray(pictures)).to(self.device).float()
            if x_N3HW.shape[-2:] != (SIDE, SIDE):
                shrinks = max(x_N3HW.shape[-2:]) > SIDE
                x_N3HW = interpolate(
                    x_N3HW, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=shrinks
                )
            features: NDArray[np.float32] = (
                self._net((x_N3HW - 128) / 128).flatten(1).float().cpu().numpy()
            )
        return features


def load_torchscript(path: str | Path, device: torch.device) -> Any:
    """Return a TorchScript module, ready to evaluate.

    Raises
    ------
    UserError
        When the file is not TorchScript.
    """
    try:
        with warnings.catch_warnings():
            # torch advises new exports against TorchScript; these weights exist in no other form.
            warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
            net = torch.jit.load(str(path), map_location=device)  # type: ignore[no-untyped-call]
    except RuntimeError:
        raise UserError(
            path, "not a TorchScript file", "the Inception network", "fetch it again"
        ) from None
    return net.eval()
