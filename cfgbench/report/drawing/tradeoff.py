"""The trade-off on its axes: FID against Inception Score, a curve per p_uncond, T or system, its knob at each point."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cfgbench.report.drawing.canvas import canvas, settle
from cfgbench.report.drawing.curves import bars, draw, look_out, mark_entries
from cfgbench.report.drawing.headings import subtitle, title
from cfgbench.report.drawing.labels import Label, place
from cfgbench.report.drawing.legends import legend_above
from cfgbench.report.drawing.scales import axis_name, metric_axis
from cfgbench.report.drawing.style import INK, curve_name, looks, star_entry, stars
from cfgbench.report.rows import knobs
from cfgbench.report.rows.best import best_fid
from cfgbench.report.rows.slice import Slice
from cfgbench.report.rows.systems import SIGNS, UNTURNED
from cfgbench.report.words import FID, IS, significant

INSIDE = 6
"""Curves of which the axes hold the legend, at most: one of more lies on the data."""
_HIGH, _WIDE = 480, 1100
"""Pixels of the axes at least."""
_BEHIND = "#808080"
_STARTS = {0.0: "unguided", -1.0: "unconditional"}  # by the w of classifier-free guidance


def frontier(part: Slice, behind: Slice | None, *, log: bool) -> Figure:
    """The curves of a slice; those of `behind`, published ones, are drawn behind them. `log` is of the FIDs' axis."""
    curves = list(part.curves(FID, IS))
    published = [] if behind is None else list(behind.curves(FID, IS))
    systems = part.series == "system"
    inside = not systems and len(curves) <= INSIDE
    note = "" if inside else f" · labels: {knobs.in_legend(part)}"
    what = "FID against Inception Score" + (", systems side by side" if systems else "")
    height = 5.9 + 0.24 * max(0, len(curves) - 5) if systems else 5.4 if inside else 5.4 + 0.12 * len(curves)
    figure, (axes,) = canvas(8, height, title(part, what), subtitle(part) + note)
    metric_axis(axes, FID, fids([*curves, *published]), part, log=log, room=_HIGH)
    axes.set_xlabel(axis_name(IS, part, _WIDE))
    axes.margins(0.07, 0.09)
    handles, labels, marks = _draw(axes, part, curves)
    if behind is not None:
        colours = _colours_behind(part, curves, behind, published)
        handles.append(_published(axes, behind, published, colours))
        labels += _ends(behind, published, colours)
    starts = _starts(axes, curves)
    named = {(label.x, label.y) for label in starts}
    labels = [*starts, *(label for label in labels if (label.x, label.y) not in named)]
    stars(axes, marks)
    handles += [star_entry()] * bool(marks) + mark_entries(part)
    _legend(figure, axes, handles, inside=inside, key=knobs.in_legend(part))
    look_out(axes)
    settle(figure)
    place(axes, _by_importance(labels), [*_lines([*curves, *published]), *_bars(axes, curves)])
    return figure


Curves = Sequence[tuple[Any, pd.DataFrame]]


def fids(curves: Curves) -> np.ndarray:
    """Those of all points of these curves."""
    return pd.concat([rows["fid"] for _, rows in curves]).to_numpy()


def _draw(axes: Axes, part: Slice, curves: Curves) -> tuple[list[Line2D], list[Label], list[tuple[float, float, str]]]:
    """Draws the curves; returns the legend's entries, the points' labels and the best points (x, FID, colour)."""
    handles, labels, marks = [], [], []
    for value, rows in curves:
        colour, marker = looks(*part.place(value))
        name, best = curve_name(part.series, value), best_fid(rows)
        if best is not None:
            name += f": FID {_short(best['fid'])} at {SIGNS[best['knob']]} {best['at']:g}"
            marks.append((best["is_mean"], best["fid"], INK if best["shared"] else colour))
        handles += draw(axes, rows, "is_mean", "fid", along="at", name=name, colour=colour, marker=marker)
        labels += _labels(rows, None if best is None else best["at"], colour, many=len(curves) > INSIDE)
    return handles, labels, marks


def _lines(curves: Curves) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(rows["is_mean"].to_numpy(), rows["fid"].to_numpy()) for _, rows in curves]


def _bars(axes: Axes, curves: Curves) -> list[tuple[np.ndarray, np.ndarray]]:
    """The error bars (xs, ys) as far as they are seen: one that reaches below 0 has no end on a logarithmic axis."""
    low, high = np.transpose([axes.get_xlim(), axes.get_ylim()])
    ends = [np.clip(bars(rows, "is_mean", "fid"), low, high) for _, rows in curves]
    return [tuple(bar.T) for of_curve in ends for bar in of_curve]


def _legend(figure: Figure, axes: Axes, handles: list[Line2D], *, inside: bool, key: str) -> None:
    """Inside the axes with what the labels are; above them where the names are long, as those of systems, or many."""
    if not inside:
        legend_above(figure, handles)
        return
    legend = axes.legend(handles=handles, frameon=False, fontsize=9, loc="best")
    legend.set_title(f"labels: {key}", {"size": 9})
    legend.set_alignment("left")
    legend.set_in_layout(False)  # it lies within the axes, and takes a third of the time of laying them out


def _colours_behind(part: Slice, curves: Curves, behind: Slice, published: Curves) -> list[str]:
    """Of each published curve: that of the measured one that it is held against; grey where none is drawn."""
    if behind.series != part.series:
        return [_BEHIND] * len(published)
    colours = {_rounded(value): looks(*part.place(value))[0] for value, _ in curves}
    return [colours.get(_rounded(value), _BEHIND) for value, _ in published]


def _rounded(value: float | None) -> float | None:
    """As it is written: 0.1 + 0.2 meets 0.3."""
    return None if value is None else round(value, 9)


def _published(axes: Axes, behind: Slice, curves: Curves, colours: Sequence[str]) -> Line2D:
    """Draws published curves, thin and dashed, behind the measured; returns the legend's entry for them."""
    look = {"linewidth": 0.9, "linestyle": "--", "zorder": 1.5}
    for colour, (_, rows) in zip(colours, curves, strict=True):
        axes.plot(rows["is_mean"], rows["fid"], label="_published", color=colour, **look)
    how = f"by {behind.series}" if {*colours} == {_BEHIND} else f"{behind.series} in the same colours"
    return Line2D([], [], label=f"{behind.setting['source']}, {how}", color=_BEHIND, **look)


def _ends(behind: Slice, curves: Curves, colours: Sequence[str]) -> list[Label]:
    """At the end of each grey published curve: which it is; at its other points nothing."""
    return [
        Label(x, y, curve_name(behind.series, value) * (number == len(rows)), _BEHIND)
        for colour, (value, rows) in zip(colours, curves, strict=True)
        if colour == _BEHIND
        for number, (x, y) in enumerate(rows[["is_mean", "fid"]].itertuples(index=False), 1)
    ]


def _starts(axes: Axes, curves: Curves) -> list[Label]:
    """The points from which several systems begin: one mark and one name each, of no system's colour."""
    points = pd.concat([rows[rows["shared"]] for _, rows in curves]).drop_duplicates(["is_mean", "fid"])
    for x, y in points[["is_mean", "fid"]].itertuples(index=False):
        axes.plot([x], [y], "o", markersize=6, color=INK, markeredgecolor="white", zorder=4.5, label="_start")
    return [Label(row["is_mean"], row["fid"], _start(row), INK, required=True) for _, row in points.iterrows()]


def _start(row: pd.Series) -> str:
    """What the row is called from which systems begin: the network as it is, or at another temperature."""
    temperature = row["temperature"]
    return _STARTS[row["w"]] if temperature == UNTURNED["temperature"] else f"{SIGNS['temperature']} {temperature:g}"


def _labels(rows: pd.DataFrame, best: float | None, colour: str, *, many: bool) -> list[Label]:
    """A label a point; the unguided one, the best (if there is one) and the ends of the curve must be written. Of
    `many` curves the best and the farthest: where they begin they lie close together."""
    knob, own = rows["knob"].iloc[0], rows[~rows["shared"]]
    sign = "" if knob == "w" else f"{SIGNS[knob]} "
    ends = {*own["at"].iloc[-1:]} if many else {UNTURNED[knob], rows["at"].min(), rows["at"].max()}
    required = {best} | ends
    return [
        Label(x, y, f"{sign}{at:g}", colour, required=at in required, bold=at == best)
        for at, x, y in own[["at", "is_mean", "fid"]].itertuples(index=False)
    ]


def _by_importance(labels: list[Label]) -> list[Label]:
    """Bold ones first: the best points lie in the crowd and need their places most."""
    return sorted(labels, key=lambda label: not label.bold)


def _short(value: Any) -> str:
    return f"{value:.2f}" if value >= 1 else significant(value, 2)
