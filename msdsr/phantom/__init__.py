"""Synthetic isotropic tissue with known truth, and the microscope that samples it sparsely."""

from msdsr.phantom.cohort import make_slide, sheet_rows
from msdsr.phantom.tissue import CHANNELS, Tissue

__all__ = ["CHANNELS", "Tissue", "make_slide", "sheet_rows"]
