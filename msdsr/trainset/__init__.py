"""2D training images: sharp XY planes of many slides, decoded once into one store."""

from msdsr.trainset.build import build_trainset
from msdsr.trainset.select import TrainSlide

__all__ = ["TrainSlide", "build_trainset"]
