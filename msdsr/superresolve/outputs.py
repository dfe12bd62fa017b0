"""The unfinished products of one volume: its store, and beside it the spread of its samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from msdsr.superresolve.filler import Filler
from msdsr.superresolve.labels import volume_labels
from msdsr.superresolve.plan import ALGORITHM, Task
from msdsr.superresolve.sampled import Sampled
from msdsr.superresolve.watch import Watch
from msdsr.volume import Region, ShardGrid, StoreWriter, VolumeSpec, create_store, std_path
from msdsr.volume.labels import write_labels


def std_spec(task: Task) -> VolumeSpec:
    """Return what the store of the standard deviation holds: float32, in the volume's units."""
    kept = (
        "slide", "patient", "denoiser", "factor", "keep_every", "seed", "acquired_planes",
        "held_out_planes", "field",
    )  # fmt: skip
    provenance = {
        **{k: v for k, v in task.target.provenance.items() if k in kept},
        "stage": "superresolve",
        "algorithm": ALGORITHM,
        "quantity": "standard deviation",
        "samples": task.samples,
        "estimate": task.settings.estimate,
        "calibrated": task.scales is not None,
        "scales": dict(zip(task.target.channels, task.scales or task.no_scales, strict=True)),
        "note": "of the samples, times `scales`, in intensities; 0 in acquired planes",
    }
    spec = task.target
    name = f"{spec.name} standard deviation".strip()
    return VolumeSpec(spec.shape, np.dtype("float32"), spec.voxel, spec.channels, name, provenance)


@dataclass(frozen=True)
class Outputs:
    """What blocks are written to.

    Attributes
    ----------
    task
        What is made.
    volume
        Takes the voxels.
    spread
        Takes the standard deviation of the samples, where there are several.
    """

    task: Task
    volume: StoreWriter
    spread: StoreWriter | None = None

    @classmethod
    def create(cls, path: Path, task: Task, shard_mb: float) -> Self:
        """Make the stores, or go on with those of an earlier attempt."""
        volume = create_store(path, task.target, shard_mb=shard_mb, resume=True)
        if task.samples == 1:
            return cls(task, volume)
        # A block must be made of whole shards in both.
        spec = std_spec(task)
        spread = create_store(std_path(path), spec, grid=volume.grid, resume=True)
        return cls(task, volume, spread)

    @classmethod
    def reopen(cls, path: Path, task: Task) -> Self:
        """Open the unfinished stores that another process has made."""
        volume = StoreWriter.reopen(path, task.target)
        if task.samples == 1:
            return cls(task, volume)
        return cls(task, volume, StoreWriter.reopen(std_path(path), std_spec(task)))

    @property
    def grid(self) -> ShardGrid:
        """The shards, alike in all stores."""
        return self.volume.grid

    def fill(self, region: Region, filler: Filler, watch: Watch) -> None:
        """Restore one block and write it."""
        if self.spread is None:
            self.volume.write(region, filler.restore(region, watch))
            return
        if not isinstance(filler, Sampled):
            raise TypeError(f"{type(filler).__name__} takes no samples")
        voxels, std = filler.restore_with_std(region, watch)
        self.spread.write(region, std)
        self.volume.write(region, voxels)

    def finish(self, tile: int) -> None:
        """Write pyramids, metadata and labels; the stores are then complete.

        Parameters
        ----------
        tile
            Side of the network's tiles (pixels); 0 without a network.
        """
        for writer in (self.volume, self.spread):
            if writer is not None:
                writer.finish()
        write_labels(self.volume.path, self.task.target, volume_labels(self.task, tile))
