"""One page a cohort, that a pathologist and a reviewer both can read."""

from msdsr.report.build import ReportSlide, build_report

__all__ = ["ReportSlide", "build_report"]
