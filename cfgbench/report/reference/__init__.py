"""The published numbers: Tables 1 and 2 of "Classifier-Free Diffusion Guidance" (Ho & Salimans 2022, arXiv 2207.12598)
with the baselines that they quote, what the paper leaves open, and the later literature; each number with its source.
"""

from cfgbench.report.reference.tables import TABLES, Published

__all__ = ["TABLES", "Published"]
