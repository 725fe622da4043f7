"""A curve on its axes: points joined in order, their error bars, and letters where protocols stand together."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from cfgbench.evaluation.columns import ERROR_OF
from cfgbench.report.drawing.headings import mark_meanings
from cfgbench.report.drawing.lettering import written
from cfgbench.report.drawing.style import FAINT, LAYERS
from cfgbench.report.rows.slice import Slice

CROWDED = 40
"""Points of a curve beyond which they have no marks: the white around each would cover the others and the line."""
_LINE = {"linewidth": 1.7}
_MARK = {"markersize": 5, "markeredgecolor": "white", "markeredgewidth": 0.7}
_HOLLOW = {"markersize": 5, "markerfacecolor": "white", "markeredgewidth": 1.1, "zorder": 2.5}
_RING = {"linestyle": "none", "marker": "o", "markersize": 10, "markerfacecolor": "white", "markeredgewidth": 1.1}
_LETTER = {"linestyle": "none", "markersize": 5.5, "markeredgewidth": 0}
_WIDER = 2.0
"""Points: by how much a curve becomes wider for each that lies on it."""
_BAR = {"linewidth": 0.9, "alpha": 0.6, "solid_capstyle": "butt"}


def draw(
    axes: Axes, rows: pd.DataFrame, x: str, y: str, *, along: str, name: str, colour: str, marker: str
) -> list[Line2D]:
    """Draws columns `x` and `y` of rows that are in order of `along`; returns what stands in the legend.

    Means over other seeds than most are hollow. Where the rows have marks each point shows its letter; marks that meet
    at one value of `along` are joined apart.
    """
    _error_bars(axes, rows, x, y, colour)
    if "mark" not in rows:
        marks = {"marker": marker, **_MARK} if len(rows) <= CROWDED else {}
        others = rows[rows["hollow"]]
        if len(others):
            axes.plot(others[x], others[y], marker, label="_other seeds", markeredgecolor=colour, **_HOLLOW)
        return axes.plot(rows[x].to_numpy(float), rows[y].to_numpy(float), color=colour, label=name, **_LINE, **marks)
    strands = [rows] if rows[along].is_unique else [of_mark for _, of_mark in rows.groupby("mark", sort=False)]
    return [line for strand in strands for line in _strand(axes, strand, x, y, name, colour)]


def look_out(axes: Axes) -> None:
    """Where curves lie on each other those below become wider, so that each is seen. Comes after the legend."""
    axes.get_xlim()  # the limits are settled when they are asked for
    lines = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
    places = [axes.transData.transform(line.get_xydata()) / axes.figure.dpi * 72 for line in lines]
    for number, line in enumerate(lines):
        wider = _WIDER * min(LAYERS, sum(_run_along(places[number], above) for above in places[number + 1 :]))
        line.set(linewidth=line.get_linewidth() + wider, markersize=line.get_markersize() + wider)


def _run_along(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether the curves `a` [n, 2] and `b` [m, 2] are one where they are side by side: of each the points in the
    other's range of x lie on points of the other, to a point of a printed page, and they are three or more."""
    beside = [
        one[(one[:, 0] > other[:, 0].min() - 1) & (one[:, 0] < other[:, 0].max() + 1)]
        for one, other in ((a, b), (b, a))
    ]
    near = np.hypot(*(beside[0][:, None] - beside[1]).transpose(2, 0, 1)) < 1
    return len(near) > 2 and bool(near.any(axis=0).all() and near.any(axis=1).all())


def bars(rows: pd.DataFrame, x: str, y: str) -> np.ndarray:
    """The error bars of points that no other curve lends, [n, 2, 2]: (x, y) of both ends of each."""
    own = rows[~rows["lent"]] if "lent" in rows else rows
    points, found = own[[x, y]].to_numpy(float), [np.empty((0, 2, 2))]
    for column, direction in ((x, (1.0, 0.0)), (y, (0.0, 1.0))):
        if (errors := ERROR_OF.get(column)) in own:
            reach = own[errors].to_numpy(float)[:, None] * direction
            found.append(np.stack([points - reach, points + reach], axis=1))
    ends = np.concatenate(found)
    return ends[np.isfinite(ends).all(axis=(1, 2))]


def mark_entries(part: Slice) -> list[Line2D]:
    """The legend's entries for the marks: `[a] clip on; bf16`."""
    return [
        Line2D([], [], marker=_glyph(mark), color=FAINT, label=written(meaning.replace("$", r"\$")), **_LETTER)
        for mark, meaning in mark_meanings(part).items()
    ]


def _strand(axes: Axes, rows: pd.DataFrame, x: str, y: str, name: str, colour: str) -> list[Line2D]:
    marks = list(dict.fromkeys(rows["mark"]))
    label = f"{name} [{', '.join(marks)}]"
    line = axes.plot(rows[x].to_numpy(float), rows[y].to_numpy(float), color=colour, label=label, **_LINE)
    for mark in marks:
        points = rows[rows["mark"] == mark]
        axes.plot(points[x], points[y], label="_ring", markeredgecolor=colour, **_RING)
        axes.plot(points[x], points[y], label=f"_mark {mark}", marker=_glyph(mark), color=colour, **_LETTER)
    return line


def _glyph(mark: str) -> str:
    return rf"$\mathrm{{{mark}}}$"


def _error_bars(axes: Axes, rows: pd.DataFrame, x: str, y: str, colour: str) -> None:
    """All bars of a curve as one line with gaps, which is drawn in a fraction of the time of a line for each."""
    if len(ends := bars(rows, x, y)):
        drawn = np.concatenate([ends, np.full_like(ends[:, :1], np.nan)], axis=1)
        axes.plot(*drawn.reshape(-1, 2).T, color=colour, label="_errors", **_BAR)
