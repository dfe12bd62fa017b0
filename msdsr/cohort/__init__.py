"""A cohort before it is run: its files checked, its cost estimated, added to the configuration."""

from msdsr.cohort.check import CheckedSlide, check_slides
from msdsr.cohort.entry import cohort_block, with_cohort
from msdsr.cohort.estimate import Estimate, Line, estimate_cohort

__all__ = [
    "CheckedSlide",
    "Estimate",
    "Line",
    "check_slides",
    "cohort_block",
    "estimate_cohort",
    "with_cohort",
]
