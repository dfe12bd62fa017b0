"""What torch-fidelity and pytorch-fid say of two sets of pictures: the fixture of a test.

Not run in this project's environment: both need torchvision, which breaks other packages here.
benchmarks/fid.md says how to make one for them.

    python benchmarks/fid_reference.py INCEPTION.pt

Writes tests/metrics/fid_reference.json, and the features of torch-fidelity beside it (.npz).
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import platform
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fid_images import COUNT, LOOKS, SIDES, pictures
from numpy.typing import NDArray
from PIL import Image

REPOSITORY = Path(__file__).parents[1]
OUT = REPOSITORY / "tests/metrics/fid_reference.json"
AS_TENSORFLOW = "pytorch-fid, pictures scaled as in TensorFlow"


def let_torchvision_load() -> None:
    """Declare the two compiled operators without which torchvision does not import.

    Its wheel was built for another torch. Inception calls none of its operators.
    """
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    globals()["_kept"] = library


def named_weights(inception: Path, network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors of the TorchScript file under the names that both packages use.

    Both list the convolutions in the same order, and a shape that does not fit is refused. The
    file has neither the scale of the normalisations, which is 1, nor the classifier, which FID
    does not reach.
    """
    given = torch.jit.load(str(inception), map_location="cpu").state_dict()
    ours = [name.removesuffix("weight") for name in given if name.endswith("weight")]
    theirs = [name.removesuffix("conv.weight") for name in network.state_dict() if "conv.w" in name]
    named = {k: torch.zeros_like(v) for k, v in network.state_dict().items() if k.startswith("fc.")}
    for mine, name in zip(ours, theirs, strict=True):
        expected = network.state_dict()[f"{name}conv.weight"].shape
        if given[f"{mine}weight"].shape != expected:
            raise SystemExit(f"{mine} is not {name}")
        named |= {
            f"{name}conv.weight": given[f"{mine}weight"],
            f"{name}bn.weight": torch.ones(expected[0]),
            f"{name}bn.bias": given[f"{mine}beta"],
            f"{name}bn.running_mean": given[f"{mine}mean"],
            f"{name}bn.running_var": given[f"{mine}var"],
            f"{name}bn.num_batches_tracked": torch.tensor(0),
        }
    return named


class Pictures(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """What torch-fidelity takes as a set: uint8 tensors."""

    def __init__(self, rgb: NDArray[np.uint8]) -> None:
        self.rgb = torch.from_numpy(rgb)

    def __len__(self) -> int:
        return len(self.rgb)

    def __getitem__(self, number: int) -> torch.Tensor:
        return self.rgb[number]


def torch_fidelity(weights: Path, sets: dict[str, NDArray[np.uint8]]) -> tuple[float, Any]:
    """Return its FID of two sets, and its features of each."""
    from torch_fidelity import FeatureExtractorInceptionV3, calculate_metrics

    found = calculate_metrics(
        input1=Pictures(sets["real"]),
        input2=Pictures(sets["fake"]),
        fid=True,
        cuda=False,
        verbose=False,
        feature_extractor_weights_path=str(weights),
    )
    network = FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(weights)
    )
    features = {
        which: np.concatenate(
            [network(torch.from_numpy(rgb[i : i + 16]))[0].numpy() for i in range(0, len(rgb), 16)]
        )
        for which, rgb in sets.items()
    }
    return float(found["frechet_inception_distance"]), features


def pytorch_fid(weights: Path, sets: dict[str, NDArray[np.uint8]]) -> float:
    """Return its FID of two folders of PNG files."""
    from pytorch_fid import fid_score, inception

    inception.load_state_dict_from_url = lambda *_, **__: torch.load(weights)
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / which for which in sets]
        for folder, rgb in zip(folders, sets.values(), strict=True):
            folder.mkdir()
            for number, picture in enumerate(rgb):
                Image.fromarray(picture.transpose(1, 2, 0)).save(folder / f"{number:03}.png")
        paths = [str(folder) for folder in folders]
        return float(fid_score.calculate_fid_given_paths(paths, 16, "cpu", 2048, 0))


def pytorch_fid_as_tensorflow(weights: Path, sets: dict[str, NDArray[np.uint8]]) -> float:
    """Return the FID of pytorch-fid's network and distance, given pictures as (x − 128)/128.

    It gives its network (x − 127.5)/127.5 by itself, which is not what TensorFlow's graph has.
    """
    from pytorch_fid import fid_score, inception

    inception.load_state_dict_from_url = lambda *_, **__: torch.load(weights)
    network = inception.InceptionV3(normalize_input=False).eval()
    statistics: list[NDArray[np.float64]] = []
    with torch.inference_mode():
        for rgb in sets.values():
            given = (torch.from_numpy(rgb).float() - 128) / 128
            features = torch.cat([network(part)[0].flatten(1) for part in given.split(16)]).numpy()
            statistics += [features.mean(axis=0), np.cov(features, rowvar=False)]
    return float(fid_score.calculate_frechet_distance(*statistics))


def main() -> None:
    """Run both packages and write the fixture."""
    warnings.simplefilter("ignore")
    let_torchvision_load()
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Empty(FeatureExtractorInceptionV3):  # type: ignore[misc]
        def load_state_dict(self, *_: Any, **__: Any) -> None:
            """Take no weights."""

    inception = Path(sys.argv[1])
    with tempfile.NamedTemporaryFile(suffix=".pth") as file:
        torch.save({}, file.name)
        empty = Empty("inception-v3-compat", ["2048"], feature_extractor_weights_path=file.name)
        torch.save(named_weights(inception, empty), file.name)
        figures, kept = {}, {}
        for side in SIDES:
            sets = {which: pictures(which, side) for which in LOOKS}
            theirs, features = torch_fidelity(Path(file.name), sets)
            figures[str(side)] = {
                "torch-fidelity": theirs,
                "pytorch-fid": pytorch_fid(Path(file.name), sets),
                AS_TENSORFLOW: pytorch_fid_as_tensorflow(Path(file.name), sets),
            }
            kept |= {f"{which}_{side}": rows for which, rows in features.items()}
            print(side, figures[str(side)], flush=True)
    packages = ("torch-fidelity", "pytorch-fid", "torch", "torchvision", "numpy", "scipy")
    record = {
        "made_by": "benchmarks/fid_reference.py, as benchmarks/fid.md says",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in packages},
        "images_per_set": COUNT,
        "fid": figures,
    }
    OUT.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    np.savez_compressed(OUT.with_suffix(".npz"), **{k: v for k, v in kept.items() if "299" in k})


if __name__ == "__main__":
    main()
