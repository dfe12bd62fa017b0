import importlib.util
import json
import os
import warnings
from pathlib import Path

# One thread: small tensors gain nothing from two, and lose much when two tests share two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import HealthCheck, settings

from msdsr.volume import VoxelSize, write_volume

REPOSITORY = Path(__file__).parents[1]

settings.register_profile(
    "msdsr",
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("msdsr")


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def textured(rng):
    """Smooth bright blobs on a dark ground, uint16, (c, z, y, x)."""

    def make(shape=(2, 6, 64, 80)):
        from scipy.ndimage import gaussian_filter

        field = gaussian_filter(rng.standard_normal(shape), (0, 1.5, 3, 3))
        field = (field - field.min()) / np.ptp(field)
        return (field * 30000 + 1000).astype(np.uint16)

    return make


@pytest.fixture(scope="session")
def publish():
    """Return the function that publishes every table of a cohort: see `tests/cohort_tables.py`."""
    path = Path(__file__).with_name("cohort_tables.py")
    spec = importlib.util.spec_from_file_location("cohort_tables", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.publish


@pytest.fixture
def small_store(tmp_path, textured):
    """A store with 6 planes of 64 × 80, spacing 1 × 0.5 × 0.5 µm, channels CH2 and CH3."""
    path = tmp_path / "small.ome.zarr"
    write_volume(path, textured(), VoxelSize(1.0, 0.5, 0.5), ("CH2", "CH3"), name="small")
    return path


@pytest.fixture(scope="session")
def inception_path():
    """The real network: where it is already, or fetched once."""
    torch.set_num_threads(1)
    named = os.environ.get("MSDSR_INCEPTION")
    for path in [Path(named)] if named else [REPOSITORY / "results/resources/inception.pt"]:
        if path.exists():
            return path
    from msdsr.fetch.inception import fetch_inception

    cached = REPOSITORY / ".cache/inception.pt"
    if not cached.exists():
        cached.parent.mkdir(exist_ok=True)
        fetch_inception(cached)
    return cached


class StandIn(torch.nn.Module):
    """Sixteen features of a picture; for plumbing alone, its distances mean nothing."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.weight = torch.nn.Parameter(torch.randn(16, 3, 23, 23, generator=generator) / 40)

    def forward(self, x):
        return torch.relu(torch.nn.functional.conv2d(x, self.weight, stride=23)).mean((2, 3))


@pytest.fixture(scope="session")
def standin_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "standin.pt"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        torch.jit.script(StandIn()).save(str(path))
    return path


@pytest.fixture
def opensrh(tmp_path):
    """Write a tiny tree as OpenSRH has it: 3 patients, 4 slides, patches of 2 × 48 × 48."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(3)
    tree = tmp_path / "opensrh"
    table = {}

    def write(patient, slide, kind, count):
        names = []
        for number in range(count):
            field = gaussian_filter(rng.standard_normal((2, 48, 48)), (0, 2, 2))
            image = (20000 + 40000 * field).clip(0, 65535).astype(np.uint16)
            name = f"{patient}/{slide}/patches/{patient}-{slide}-{kind}-{number}.tif"
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(tree / name, image)
            names.append(name)
        record = table.setdefault(patient, {"class": classes[patient], "slides": {}})
        record["slides"].setdefault(slide, {})[f"{kind}_patches"] = names

    classes = {"NIO_001": "hgg", "NIO_002": "normal", "NIO_003": "mening"}
    write("NIO_001", "1", "tumor", 3)
    write("NIO_001", "1", "normal", 1)
    write("NIO_001", "1", "nondiagnostic", 2)
    write("NIO_001", "2", "tumor", 2)
    write("NIO_002", "1", "normal", 3)
    write("NIO_003", "1", "tumor", 4)
    (tree / "meta").mkdir()
    (tree / "meta/opensrh.json").write_text(json.dumps(table))
    split = {"train": ["NIO_001", "NIO_002"], "val": ["NIO_003"]}
    (tree / "meta/train_val_split.json").write_text(json.dumps(split))
    return tree
