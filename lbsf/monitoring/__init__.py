"""What is watched: the nightly report."""

from lbsf.monitoring.night import Night, Quality, collect_night, quality_of
from lbsf.monitoring.report import render_report

__all__ = ["Night", "Quality", "collect_night", "quality_of", "render_report"]
