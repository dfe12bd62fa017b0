"""MSDSR: isotropic volumes from sparse tissue z-stacks, learned from sharp 2D images alone."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("msdsr")
except PackageNotFoundError:  # a source tree on the path, never installed
    __version__ = "0.0.0"
