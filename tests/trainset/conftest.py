import numpy as np
import pandas as pd
import pytest

from msdsr.manifest import Manifest, write_manifest
from msdsr.trainset import TrainSlide
from msdsr.volume import VoxelSize, write_volume


@pytest.fixture
def make_slide(tmp_path):
    """Write a denoised volume and its patch table, with manifests, as the stages before do."""

    def make(
        name,
        voxels_CZYX,
        *,
        patient="p1",
        split="train",
        rectangles=None,
        background=(),
        channels=("CH2", "CH3"),
        tissue=1.0,
    ):
        folder = tmp_path / "slides" / name
        volume, patches = folder / "denoised.ome.zarr", folder / "patches.parquet"
        write_volume(volume, voxels_CZYX, VoxelSize(1.0, 0.5, 0.5), channels, chunk_yx=32)
        write_manifest(volume, Manifest(stage="denoise", algorithm=1, counts={"slide": name}))
        rows, columns = voxels_CZYX.shape[2:]
        boxes = rectangles or [(0, 0, rows, columns)]
        table = pd.DataFrame(boxes, columns=["y0", "x0", "height", "width"])
        table["slide"], table["index"] = name, np.arange(len(table))
        table["tissue_fraction"] = float(tissue)
        table["background"] = [i in background for i in range(len(table))]
        table.to_parquet(patches)
        write_manifest(patches, Manifest(stage="patch", algorithm=1, counts={"slide": name}))
        return TrainSlide(name, patient, split, volume, patches)

    return make
