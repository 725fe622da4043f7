"""Reports: of the rows of a sweep, and of the published numbers; tables, figures, verdicts, and a page of them all."""

from cfgbench.report.measured import Report
from cfgbench.report.published import write_reference
from cfgbench.report.request import ImageChoice, Request
from cfgbench.report.terminal import print_claims, print_reference, print_reference_claims, print_tables

__all__ = [
    "ImageChoice",
    "Report",
    "Request",
    "print_claims",
    "print_reference",
    "print_reference_claims",
    "print_tables",
    "write_reference",
]
