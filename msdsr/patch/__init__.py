"""The patch grid and the tissue mask."""

from msdsr.patch.patch import patch

__all__ = ["patch"]
