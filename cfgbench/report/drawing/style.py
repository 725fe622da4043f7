"""What all figures share: colours, axes, names of curves, legends."""

import logging
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, Locator, LogLocator, MaxNLocator, NullFormatter, NullLocator

from cfgbench.report.drawing.lettering import DPI, filled, width, written
from cfgbench.report.rows.slice import Slice
from cfgbench.report.words import NOT_STATED, Metric

logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it names fonts that nobody asked for
_LEGEND = 9.0
"""Points of the letters of a legend."""
EDGE = 0.1
"""Inches of white around headings."""
_LINE, _LOWEST = 0.24, 2.6
"""Inches: of a legend's line; of axes with their names, at least."""
INK, FAINT, GRID = "#222222", "#666666", "#e4e4e4"
_NEAREST_TICKS = 0.004
"""Of an axis' width between two ticks: two pixels."""
ROOM_OF_A_TICK = 0.058
"""Of an axis' width: three characters."""
LOG_FROM = 8.0
"""A metric whose largest value is this many times its smallest gets a logarithmic axis."""

# Okabe & Ito (2008): distinct for all common kinds of colour vision, and dark enough for text on white
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#AA4499", "#8C6D00", "#333333")
_MARKERS = ("o", "s", "^", "D", "v", "P")


def looks(number: int, count: int) -> tuple[str, str]:
    """(colour, marker) of curve `number` of `count`; more curves than distinct colours take steps of one dark scale."""
    if count <= len(_COLOURS):
        return _COLOURS[number], _MARKERS[number]
    shade = matplotlib.colormaps["viridis"](0.9 * number / (count - 1))
    return matplotlib.colors.to_hex(shade), _MARKERS[number % len(_MARKERS)]


def spread(fids: np.ndarray) -> bool:
    """Whether these FIDs ask for a logarithmic axis."""
    return bool(len(fids) and fids.min() > 0 and fids.max() >= LOG_FROM * fids.min())


def metric_axis(axes: Axes, metric: Metric, values: np.ndarray, part: Slice, *, log: bool) -> None:
    """The y axis of a metric: named with its extractor; that of positive FIDs logarithmic with `log`, as all figures of
    a kind are where one of them asks for it (see `spread`): they are held against each other."""
    axes.set_ylabel(axis_name(metric, part), color=INK)
    if metric.column != "fid" or values.min() <= 0 or not log:
        return
    axes.set_yscale("log")
    axes.set_ylabel(f"{axis_name(metric, part)}, log scale", color=INK)
    axes.yaxis.set_major_locator(_log_ticks(values.max() / values.min()))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _log_ticks(ratio: float) -> Locator:
    """About six ticks where the largest value is so many times the smallest."""
    if ratio < 3:
        return MaxNLocator(7, steps=[1, 2, 5, 10])
    decades = np.log10(ratio)
    fine = (1, 1.5, 2, 3, 5, 7) if ratio < LOG_FROM else (1, 2, 3, 5)
    return LogLocator(subs=fine if decades < 2 else (1, 3) if decades < 4 else (1,))


def axis_name(metric: Metric, part: Slice) -> str:
    """`FID (digits features)`: so that nobody takes it for an FID of the Inception network."""
    return f"{metric.long_name} ({written(part.extractor)} features)"


def fixed_ticks(axes: Axes, values: Sequence[float]) -> None:
    """Ticks of the x axis at the given values, the round ones written first, where there is room; the others small,
    where they can be told apart."""
    start, end = (axes.transScale.transform((x, 1.0))[0] for x in axes.get_xlim())
    places = {value: (axes.transScale.transform((value, 1.0))[0] - start) / (end - start) for value in values}
    written: list[float] = []
    for value in sorted(values, key=lambda value: (_roughness(value), value)):
        if all(abs(places[value] - places[other]) >= _room(value, other) for other in written):
            written.append(value)
    axes.xaxis.set_major_locator(FixedLocator(sorted(written)))
    small = {round(places[value] / _NEAREST_TICKS): value for value in sorted(set(values) - set(written))}
    axes.xaxis.set_minor_locator(FixedLocator(list(small.values())))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _room(one: float, other: float) -> float:
    """How far apart two written ticks have to be, of the axis' width."""
    return ROOM_OF_A_TICK * max(1.0, len(f"{one:g}{other:g}") / 6)


def _roughness(value: float) -> int:
    """How early a value deserves its tick: whole numbers, then even tenths, then the others."""
    return next((rank for rank, unit in enumerate((1, 0.2)) if abs(value / unit - round(value / unit)) < 1e-9), 2)


def curve_name(series: str, value: Any) -> str:
    """`p_uncond = 0.1` as mathematics; `p_uncond not stated` where there is no value; a system's name."""
    if series == "system":
        return str(value)
    symbol = {"p_uncond": r"$p_\mathrm{uncond}$", "T": "$T$"}[series]
    return f"{symbol} {NOT_STATED}" if value is None else f"{symbol} = {value:g}"


_STAR, _LARGER = 15.0, 8.0
"""Points: the size of a star, and by how much more that of one below another."""


def stars(axes: Axes, best: Sequence[tuple[float, float, str]]) -> None:
    """Marks the best points (x, FID, colour) of the curves; one that several have in common in no curve's colour. The
    lowest FID is on top where they lie on each other: those below are larger, and look out."""
    axes.get_xlim()  # the limits are settled when they are asked for
    colours: dict[tuple[float, float], set[str]] = {}
    for x, y, colour in best:
        colours.setdefault((x, y), set()).add(colour)
    lowest_first = sorted(colours, key=lambda mark: mark[1])
    places = [axes.transData.transform(mark) / axes.figure.dpi * 72 for mark in lowest_first]
    for k, (x, y) in reversed(list(enumerate(lowest_first))):
        size = _STAR + _LARGER * sum(np.hypot(*(places[k] - above)) < _STAR / 2 for above in places[:k])
        colour = next(iter(colours[x, y])) if len(colours[x, y]) == 1 else INK
        axes.plot([x], [y], "*", markersize=size, color=colour, markeredgecolor="white", zorder=5, label="_best")


def star_entry() -> Line2D:
    """The legend's entry for the star."""
    return Line2D([], [], linestyle="none", marker="*", markersize=11, color=FAINT, label="best FID")


def legend_above(figure: Figure, handles: Sequence[Line2D]) -> None:
    """One legend for all panels, between heading and axes, where it covers nothing; the figure is made taller where too
    little would be left of the axes."""
    engine = figure.get_layout_engine()
    per_row, lines = _legend_columns(handles, (figure.get_figwidth() - 2 * EDGE) * DPI)
    room = _LINE * lines
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
