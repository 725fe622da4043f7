"""Reports: of the rows of a sweep, and of the published numbers; tables, figures, verdicts, and a page of them all."""

from cfgbench.report.measured import Report
from cfgbench.report.published import judge_paper, write_paper
from cfgbench.report.request import ImageChoice, Request
from cfgbench.report.terminal import print_claims, print_paper, print_tables

__all__ = [
    "ImageChoice",
    "Report",
    "Request",
    "judge_paper",
    "print_claims",
    "print_paper",
    "print_tables",
    "write_paper",
]
