"""The figures themselves, where the package says how to draw them."""

import numpy as np

from cfgbench.report.drawing import plots
from cfgbench.report.drawing.samples import samples as sheets


def _drawing(draws_of):
    return lambda *args, **options: [draw() for draw in draws_of(*args, **options)]


tradeoff, strength, steps = map(_drawing, (plots.tradeoff, plots.strength, plots.steps))
samples = _drawing(sheets)


def title_of(figure):
    """Its title on one line, with plain spaces."""
    return " ".join(figure.texts[0].get_text().split())


def heading_of(figure):
    """All that stands over it, likewise."""
    return " ".join(" ".join(text.get_text() for text in figure.texts).split())


def bars(axes):
    """The error bars, [n, 2, 2]: (x, y) of both ends of each."""
    drawn = [line.get_xydata().reshape(-1, 3, 2)[:, :2] for line in axes.lines if line.get_label() == "_errors"]
    return np.concatenate([np.empty((0, 2, 2)), *drawn])
