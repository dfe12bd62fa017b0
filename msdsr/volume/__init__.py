"""What a volume is, where it lives, and how long work on it survives being killed."""

from msdsr.volume.geometry import (
    Region,
    ShardGrid,
    VoxelSize,
    acquired_rows,
    auto_factor,
    distance_to_acquired,
    keep_every,
    output_planes,
)
from msdsr.volume.heldout import HeldOut, held_out, middle
from msdsr.volume.resume import Helper, Work
from msdsr.volume.store import (
    StoreWriter,
    VolumeSpec,
    create_store,
    open_volume,
    read_spec,
    std_path,
    write_volume,
)

__all__ = [
    "HeldOut",
    "Helper",
    "Region",
    "ShardGrid",
    "StoreWriter",
    "VolumeSpec",
    "VoxelSize",
    "Work",
    "acquired_rows",
    "auto_factor",
    "create_store",
    "distance_to_acquired",
    "held_out",
    "keep_every",
    "middle",
    "open_volume",
    "output_planes",
    "read_spec",
    "std_path",
    "write_volume",
]
