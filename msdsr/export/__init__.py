"""Products as others want them: in one file, as an older OME-Zarr, as TIFF."""

from msdsr.export.export import export
from msdsr.export.formats import Format

__all__ = ["Format", "export"]
