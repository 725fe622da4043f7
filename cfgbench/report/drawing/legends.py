"""Legends over the axes: measured, so that no name is cut and the axes keep their room."""

import re
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cfgbench.report.drawing.lettering import DPI, filled, width
from cfgbench.report.drawing.style import EDGE

_LEGEND = 9.0
"""Points of the letters of a legend."""
_LINE, _BELOW, _LOWEST = 0.19, 0.1, 2.6
"""Inches: of a legend's line; below it; of axes with their names, at least."""


def legend_above(figure: Figure, handles: Sequence[Line2D]) -> None:
    """One legend for all panels, between heading and axes, where it covers nothing; the figure is made taller where too
    little would be left of the axes."""
    engine = figure.get_layout_engine()
    per_row, lines = _legend_columns(handles, (figure.get_figwidth() - 2 * EDGE) * DPI)
    room = _LINE * lines + _BELOW
    _make_taller(figure, _LOWEST + room - engine.get()["rect"][3] * figure.get_figheight())
    left, bottom, wide, height = engine.get()["rect"]
    engine.set(rect=(left, bottom, wide, height - room / figure.get_figheight()))
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(EDGE / figure.get_figwidth(), bottom + height),
        ncols=per_row,
        borderaxespad=0,
        borderpad=0,
        frameon=False,
        fontsize=_LEGEND,
    )


def _make_taller(figure: Figure, inches: float) -> None:
    """By so many inches if any, all of them below what stands over the axes."""
    if inches <= 0:
        return
    engine, before = figure.get_layout_engine(), figure.get_figheight()
    left, bottom, wide, height = engine.get()["rect"]
    figure.set_figheight(before + inches)
    shrunk = before / (before + inches)
    engine.set(rect=(left, bottom, wide, 1 - (1 - height) * shrunk))
    for text in figure.texts:
        text.set_y(1 - (1 - text.get_position()[1]) * shrunk)


def _legend_columns(handles: Sequence[Line2D], room: float) -> tuple[int, int]:
    """(columns of a legend that has so many pixels, its lines). A name that is wider by itself is divided."""
    names = [str(handle.get_label()) for handle in handles]
    drawn = [re.sub(r"\\[a-z]+|[${}]", "", name) for name in names]
    most = 2 if any(name.startswith("[") or len(name) > 26 for name in drawn) else 6  # a mark's meaning is long
    sign, between = (3 * _LEGEND * DPI / 72, 2 * _LEGEND * DPI / 72)
    widths = [sign + width(name, _LEGEND) for name in drawn]
    for count in range(min(most, len(names)), 1, -1):
        columns = np.array_split(widths, count)  # as matplotlib divides them
        if sum(column.max() for column in columns) + (count - 1) * between <= room:
            return count, -(-len(names) // count)
    lines = 0
    for handle, name, wide in zip(handles, names, widths, strict=True):
        parts = [name] if wide <= room else filled(name, room - sign, _LEGEND)
        handle.set_label("\n".join(parts))
        lines += len(parts)
    return 1, lines
