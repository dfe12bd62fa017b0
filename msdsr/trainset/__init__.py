"""2D training images: sharp XY planes of many slides, each decoded once, under one index."""

from msdsr.trainset.build import TrainSlide, build_trainset
from msdsr.trainset.slide import gather_slide

__all__ = ["TrainSlide", "build_trainset", "gather_slide"]
