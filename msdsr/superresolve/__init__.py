"""Filling the missing planes of a volume."""

from msdsr.superresolve.superresolve import superresolve

__all__ = ["superresolve"]
