"""Teaching a model from sharp 2D images, through any kill and on any number of GPUs."""

from msdsr.train.stage import train

__all__ = ["train"]
