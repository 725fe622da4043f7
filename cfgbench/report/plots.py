"""The figures of a sweep: the trade-off, and what guidance strength and sampling steps do to each metric."""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cfgbench.errors import UserError
from cfgbench.report.captions import spread
from cfgbench.report.curves import draw, mark_entries, one_mark
from cfgbench.report.labels import Label, place
from cfgbench.report.slices import Slice
from cfgbench.report.style import (
    FAINT,
    axis_name,
    canvas,
    curve_name,
    fixed_ticks,
    legend_above,
    looks,
    metric_axis,
    settle,
    star_entry,
    stars,
)
from cfgbench.report.words import METRICS, Metric, as_text, known, named

FID, IS = METRICS
_BEHIND = "#808080"


class NothingToPlot(UserError):
    """The sweep has no rows from which this figure could be drawn."""


def tradeoff(parts: Sequence[Slice], *, behind: Callable[[Slice], Slice | None] = lambda _: None) -> list[Figure]:
    """Inception Score on x, FID on y, a curve per p_uncond (or T) through the values of w (paper, figures 4 and 5).

    `behind` gives the published slice whose curves stand behind those of a part, or None.
    """
    drawn = [part for part in parts if any(len(rows) > 1 for _, rows in part.curves(FID, IS))]
    if not drawn:
        raise NothingToPlot("tradeoff: needs cells with FID and IS at two values of w or more; none are there")
    return [_tradeoff(part, behind(part)) for part in drawn]


def strength(parts: Sequence[Slice]) -> list[Figure]:
    """FID and IS over w, a panel each."""
    drawn = [part for part in parts if any(len(rows) > 1 for metric in METRICS for _, rows in part.curves(metric))]
    if not drawn:
        raise NothingToPlot("strength: needs finished cells at two values of w or more; none are there")
    return [_strength(part) for part in drawn]


def steps(parts: Sequence[Slice]) -> list[Figure]:
    """FID and IS over T, a panel each, a curve for each of a few chosen w."""
    drawn = [rows for rows in _over_steps(parts) if rows[1]["T"].nunique() > 1]
    if not drawn:
        raise NothingToPlot("steps: needs finished cells at two values of T or more; add them to grid.T")
    return [_steps(part, rows) for part, rows in drawn]


def _tradeoff(part: Slice, behind: Slice | None) -> Figure:
    curves = list(part.curves(FID, IS))
    published = [] if behind is None else list(behind.curves(FID, IS))
    figure, (axes,) = canvas(8, 5.4, _title(part, "FID against Inception Score"), _subtitle(part))
    every = pd.concat([rows for _, rows in [*curves, *published]])
    metric_axis(axes, FID, every["fid"].to_numpy(), part)
    axes.set_xlabel(axis_name(IS, part))
    axes.margins(0.07, 0.09)
    labels: list[Label] = []
    handles, marks = [], []
    for number, (value, rows) in enumerate(curves):
        colour, marker = looks(number, len(curves))
        name, best = curve_name(part.columns, value), rows.loc[rows["fid"].idxmin()]
        if one_mark(rows):
            name += f": FID {_short(best['fid'])} at w {best['w']:g}"
            marks.append((best["is_mean"], best["fid"], colour))
        look = {"name": name, "colour": colour, "marker": marker}
        handles += draw(axes, rows, "is_mean", "fid", along="w", **look)
        labels += _labels(rows, best["w"] if one_mark(rows) else None, colour)
    if behind is not None:
        handles.append(_published(axes, behind, published))
        labels += _ends(behind, published)
    stars(axes, marks)
    handles += [star_entry()] * bool(marks) + mark_entries(part, FAINT)
    legend = axes.legend(handles=handles, frameon=False, fontsize=9, loc="best")
    legend.set_title("labels: w  (scale = 1 + w)", {"size": 9})
    legend.set_alignment("left")
    settle(figure)
    lines = [(rows["is_mean"].to_numpy(), rows["fid"].to_numpy()) for _, rows in [*curves, *published]]
    place(axes, _by_importance(labels), lines)
    return figure


def _published(axes: Axes, behind: Slice, curves: Sequence[tuple[Any, pd.DataFrame]]) -> Line2D:
    """Draws published curves, thin and grey, behind the measured; returns the legend's entry for them."""
    look = {"color": _BEHIND, "linewidth": 0.9, "linestyle": "--", "zorder": 1.5}
    for _, rows in curves:
        axes.plot(rows["is_mean"], rows["fid"], label="_published", **look)
    return Line2D([], [], label=f"{behind.setting['source']}, by {behind.columns}", **look)


def _ends(behind: Slice, curves: Sequence[tuple[Any, pd.DataFrame]]) -> list[Label]:
    """At the end of each published curve: which it is."""
    symbol = {"p_uncond": "$p$", "T": "$T$"}[behind.columns]
    ends = [(value, rows.iloc[-1]) for value, rows in curves]
    return [Label(end["is_mean"], end["fid"], f"{symbol} = {as_text(value)}", _BEHIND) for value, end in ends]


def _labels(rows: pd.DataFrame, best: float | None, colour: str) -> list[Label]:
    """A label a point; w = 0, the best (if there is one) and the ends of the curve must be written."""
    required = {0.0, best, rows["w"].min(), rows["w"].max()}
    return [
        Label(x, y, f"{w:g}", colour, required=w in required, bold=w == best)
        for w, x, y in rows[["w", "is_mean", "fid"]].itertuples(index=False)
    ]


def _by_importance(labels: list[Label]) -> list[Label]:
    """Bold ones first: the best points lie in the crowd and need their places most."""
    return sorted(labels, key=lambda label: not label.bold)


def _strength(part: Slice) -> Figure:
    metrics = [metric for metric in METRICS if any(len(rows) > 1 for _, rows in part.curves(metric))]
    names = " and ".join(metric.long_name for metric in metrics)
    title = _title(part, f"{names} over guidance strength")
    figure, panels = canvas(4.6 * len(metrics) + 0.4, 4.4, title, _subtitle(part), len(metrics))
    for axes, metric in zip(panels, metrics, strict=True):
        curves = list(part.curves(metric))
        axes.set_xscale("asinh", linear_width=0.5)  # 0 ... 1 is half of the axis, 4 is still on it
        _panel(axes, metric, part, [(curve_name(part.columns, value), rows) for value, rows in curves], "w")
        axes.set_xlabel("guidance strength w  (scale = 1 + w)")
        fixed_ticks(axes, sorted(part.ok["w"].unique()))
    best = [star_entry()] if any(line.get_marker() == "*" for line in panels[0].lines) else []
    legend_above(figure, [*panels[0].get_legend_handles_labels()[0], *best, *mark_entries(part, FAINT)])
    settle(figure)
    return figure


def _over_steps(parts: Sequence[Slice]) -> list[tuple[Slice, pd.DataFrame]]:
    """Finished rows that differ in w and T only, each with a slice that says what else holds."""
    several = len({known(value) for part in parts for value in part.ok["p_uncond"]}) > 1
    groups: dict[str, tuple[Slice, list[pd.DataFrame]]] = {}
    for part in parts:
        apart = [key for key in part.apart if key not in ("T", "p_uncond")] + ["p_uncond"] * several
        for p_uncond, rows in part.ok.dropna(subset="T").groupby("p_uncond", dropna=False):
            setting = {key: held for key, held in part.setting.items() if key != "T"} | {"p_uncond": known(p_uncond)}
            key = repr(sorted((name, repr(held)) for name, held in setting.items()))
            groups.setdefault(key, (Slice(part.rows, "T", setting, tuple(apart), part.marks), []))[1].append(rows)
    return [(part, pd.concat(rows, ignore_index=True)) for part, rows in groups.values()]


def _steps(part: Slice, rows: pd.DataFrame) -> Figure:
    metrics = [metric for metric in METRICS if metric.column in rows and rows[metric.column].notna().any()]
    names = " and ".join(metric.long_name for metric in metrics)
    figure, panels = canvas(
        4.6 * len(metrics) + 0.4, 4.4, _title(part, f"{names} over sampling steps"), _subtitle(part), len(metrics)
    )
    for axes, metric in zip(panels, metrics, strict=True):
        curves = [(_w_name(rows, w), rows[rows["w"] == w].sort_values("T", kind="stable")) for w in _chosen(rows)]
        axes.set_xscale("log", base=2)
        _panel(axes, metric, part, curves, "T")
        axes.set_xlabel("sampling steps $T$")
        fixed_ticks(axes, sorted(rows["T"].unique()))
    legend_above(figure, [*panels[0].get_legend_handles_labels()[0], *mark_entries(part, FAINT)])
    settle(figure)
    return figure


def _chosen(rows: pd.DataFrame) -> list[float]:
    """w = 0, the w with the lowest FID, 1 and 4, as far as they are there, and the largest."""
    there = set(rows["w"])
    wanted = {0.0, 1.0, 4.0, rows["w"].max()}
    if "fid" in rows and rows["fid"].notna().any() and one_mark(rows):
        wanted.add(rows.loc[rows["fid"].idxmin(), "w"])
    return sorted(wanted & there)


def _w_name(rows: pd.DataFrame, w: float) -> str:
    measured = "fid" in rows and rows["fid"].notna().any() and one_mark(rows)
    best = measured and rows.loc[rows["fid"].idxmin(), "w"] == w
    return f"w = {w:g}" + (" (best FID)" if best else "")


def _panel(axes: Axes, metric: Metric, part: Slice, curves: Sequence[tuple[str, pd.DataFrame]], x: str) -> None:
    """Curves of one metric over the column `x`, the best FID of each starred where x is w."""
    drawn = [(name, rows.dropna(subset=[metric.column])) for name, rows in curves]
    metric_axis(axes, metric, pd.concat([rows[metric.column] for _, rows in drawn]).to_numpy(), part)
    marks: list[tuple[float, float, str]] = []
    for number, (name, rows) in enumerate(drawn):
        colour, marker = looks(number, len(drawn))
        draw(axes, rows, x, metric.column, along=x, name=name, colour=colour, marker=marker)
        if x == "w" and metric == FID and len(rows) and one_mark(rows):
            best = rows.loc[rows["fid"].idxmin()]
            marks.append((best["w"], best["fid"], colour))
    stars(axes, marks)


def _title(part: Slice, what: str) -> str:
    return f"{part.setting['dataset']}: {what}" + (f" ({part.differs})" if part.differs else "")


def _subtitle(part: Slice) -> str:
    conditions = [
        f"{text} per point" if text == named("samples", part.setting["samples"]) else text for text in part.conditions
    ]
    bars = spread(part, part.metrics)
    return " · ".join([*conditions, f"{part.extractor} features", *([bars] if bars else [])])


def _short(value: Any) -> str:
    return f"{value:.2f}" if value >= 1 else as_text(float(f"{value:.2g}"))
