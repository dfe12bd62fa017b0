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
        cohort="",
        label="",
        classes=None,
        flagged=None,
    ):
        folder = tmp_path / cohort / "slides" / name
        volume, patches = folder / "denoised.ome.zarr", folder / "patches.parquet"
        kind = {} if classes is None else {"kind": "images2d", "image_classes": classes}
        voxel = VoxelSize(1.0, 0.5, 0.5)
        write_volume(volume, voxels_CZYX, voxel, channels, chunk_yx=32, provenance=kind)
        write_manifest(volume, Manifest(stage="denoise", algorithm=1, counts={"slide": name}))
        rows, columns = voxels_CZYX.shape[2:]
        boxes = rectangles or [(0, 0, rows, columns)]
        table = pd.DataFrame(boxes, columns=["y0", "x0", "height", "width"])
        table["slide"], table["index"] = name, np.arange(len(table))
        table["tissue_fraction"] = float(tissue)
        table["background"] = [i in background for i in range(len(table))]
        table["plane"], table["class"] = -1, ""
        if classes is not None:
            table = pd.concat(
                [table.assign(**{"plane": n, "class": c}) for n, c in enumerate(classes)]
            )
        table.to_parquet(patches)
        flags = {str(n): {"reason": r, "value": 0, "limit": 0} for n, r in (flagged or {}).items()}
        counts = {"slide": name, "tissue": tissue, "flagged": flags}
        write_manifest(patches, Manifest(stage="patch", algorithm=2, counts=counts))
        return TrainSlide(name, patient, split, volume, patches, cohort, label)

    return make
