"""Numbers that say how good a restored volume is: FID, KID and SliceFID, PSNR, SSIM and NRMSE."""

from msdsr.evaluate.cohort import evaluate_cohort
from msdsr.evaluate.reference import build_reference
from msdsr.evaluate.slide import evaluate_slide

__all__ = ["build_reference", "evaluate_cohort", "evaluate_slide"]
