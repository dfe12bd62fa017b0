"""Numbers that say how good a volume is: FID, KID, MMD and SliceFID; scores against a truth."""

from msdsr.evaluate.cohort import evaluate_cohort
from msdsr.evaluate.reference import build_reference
from msdsr.evaluate.said import summary_lines
from msdsr.evaluate.slide import evaluate_slide

__all__ = ["build_reference", "evaluate_cohort", "evaluate_slide", "summary_lines"]
