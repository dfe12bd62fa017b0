"""The hand-off to a denoiser: a volume goes out, a volume of the same geometry comes back."""

from msdsr.denoise.denoise import denoise

__all__ = ["denoise"]
