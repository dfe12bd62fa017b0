"""The pages of a cohort, that a pathologist and a reviewer both can read."""

from msdsr.report.build import build_report
from msdsr.report.slidepages import ReportSlide

__all__ = ["ReportSlide", "build_report"]
