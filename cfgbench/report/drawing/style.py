"""What all figures share: colours, names of curves, the stars of the best points."""

import logging
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from cfgbench.report.words import NOT_STATED

logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it names fonts that nobody asked for
EDGE = 0.1
"""Inches of white around headings."""
INK, FAINT, GRID = "#222222", "#666666", "#e4e4e4"

# Okabe and Ito's (2008) first three, and those that are farthest from them and each other to any eye, with three kinds
# of cones or with two: about 17 apart in CIELAB, or more. Dark enough for text on white
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#8800DD", "#663300", "#333333")
_MARKERS = ("o", "s", "^", "D", "v", "P")


def looks(number: int, count: int) -> tuple[str, str]:
    """(colour, marker) of curve `number` of `count`; more curves than distinct colours take steps of one scale, as far
    as it is dark enough to be read on white."""
    if count <= len(_COLOURS):
        return _COLOURS[number], _MARKERS[number]
    shade = matplotlib.colormaps["viridis"](0.59 * number / (count - 1))
    return matplotlib.colors.to_hex(shade), _MARKERS[number % len(_MARKERS)]


def curve_name(series: str, value: Any) -> str:
    """`p_uncond = 0.1` as mathematics; `p_uncond not stated` where there is no value; a system's name."""
    if series == "system":
        return str(value)
    symbol = {"p_uncond": r"$p_\mathrm{uncond}$", "T": "$T$"}[series]
    return f"{symbol} {NOT_STATED}" if value is None else f"{symbol} = {value:g}"


_STAR, _LARGER = 15.0, 8.0
"""Points: the size of a star, and by how much more that of one below another."""
LAYERS = 3
"""Of what lies on each other as many look out below the topmost; more would cover the rest of the figure."""


def stars(axes: Axes, best: Sequence[tuple[float, float, str]]) -> None:
    """Marks the best points (x, FID, colour) of the curves; one that several have in common in no curve's colour. The
    lowest FID is on top where they lie on each other: those below are larger, and look out."""
    axes.get_xlim()  # the limits are settled when they are asked for
    colours: dict[tuple[float, float], set[str]] = {}
    for x, y, colour in best:
        colours.setdefault((x, y), set()).add(colour)
    lowest_first = sorted(colours, key=lambda mark: mark[1])
    places = [axes.transData.transform(mark) / axes.figure.dpi * 72 for mark in lowest_first]
    sizes: list[float] = []
    for k, place in enumerate(places):
        above = sum(np.hypot(*(place - places[j])) < (sizes[j] + _STAR) / 4 for j in range(k))
        sizes.append(_STAR + _LARGER * min(LAYERS, above))
    for (x, y), size in reversed(list(zip(lowest_first, sizes, strict=True))):
        colour = next(iter(colours[x, y])) if len(colours[x, y]) == 1 else INK
        axes.plot([x], [y], "*", markersize=size, color=colour, markeredgecolor="white", zorder=5, label="_best")


def star_entry() -> Line2D:
    """The legend's entry for the star."""
    return Line2D([], [], linestyle="none", marker="*", markersize=11, color=FAINT, label="best FID")
