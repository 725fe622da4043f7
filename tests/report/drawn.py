"""The figures themselves, where the package says how to draw them."""

from cfgbench.report import plots
from cfgbench.report.samples import samples as sheets


def _drawing(draws_of):
    return lambda *args, **options: [draw() for draw in draws_of(*args, **options)]


tradeoff, strength, steps = map(_drawing, (plots.tradeoff, plots.strength, plots.steps))
samples = _drawing(sheets)
