"""Raw z-stacks to OME-Zarr, voxel for voxel."""

from msdsr.ingest.ingest import ingest

__all__ = ["ingest"]
