"""Filling the missing planes of a volume."""

from msdsr.superresolve.blocks import Part
from msdsr.superresolve.calibrate import calibrate
from msdsr.superresolve.held import restore_held_out
from msdsr.superresolve.preview import Preview
from msdsr.superresolve.superresolve import PartDone, superresolve, superresolve_part

__all__ = [
    "Part",
    "PartDone",
    "Preview",
    "calibrate",
    "restore_held_out",
    "superresolve",
    "superresolve_part",
]
