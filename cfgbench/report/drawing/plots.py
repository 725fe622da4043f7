"""The figures of a sweep: the trade-off, and what guidance strength and sampling steps do to each metric."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cfgbench.report.drawing.canvas import canvas, settle
from cfgbench.report.drawing.curves import draw, look_out, mark_entries
from cfgbench.report.drawing.figure_files import Draw, NothingToPlot
from cfgbench.report.drawing.headings import subtitle, title
from cfgbench.report.drawing.legends import legend_above
from cfgbench.report.drawing.scales import asks_for_log, fixed_ticks, metric_axis
from cfgbench.report.drawing.style import curve_name, looks, star_entry, stars
from cfgbench.report.drawing.tradeoff import fids, frontier
from cfgbench.report.rows import knobs
from cfgbench.report.rows.averages import shared_by
from cfgbench.report.rows.best import best_fid
from cfgbench.report.rows.columns import PROVENANCE, SEEDS
from cfgbench.report.rows.protocols import of_rows
from cfgbench.report.rows.slice import Slice
from cfgbench.report.rows.slices import with_other_seeds
from cfgbench.report.rows.systems import LOW_TEMPERATURE
from cfgbench.report.words import FID, IS, METRICS, Metric, known

_HIGH = 300
"""Pixels that a panel is high at least."""


def tradeoff(parts: Sequence[Slice], *, behind: Callable[[Slice], Slice | None] = lambda _: None) -> list[Draw]:
    """Inception Score on x, FID on y, a curve per p_uncond (or T, or system) through the values of w or of the system's
    other knob (paper, figures 4 and 5).

    `behind` gives the published slice whose curves stand behind those of a part, or None.
    """
    drawn = [part for part in parts if any(len(rows) > 1 for _, rows in part.curves(FID, IS))]
    if not drawn:
        raise NothingToPlot(f"tradeoff: needs cells with FID and IS at two values of w or more; {_lacking(parts)}")
    pairs = [(part, behind(part)) for part in drawn]
    every = [[curve for one in pair if one is not None for curve in one.curves(FID, IS)] for pair in pairs]
    log = any(asks_for_log(fids(curves)) for curves in every)
    return [partial(frontier, *pair, log=log) for pair in pairs]


def _lacking(parts: Sequence[Slice]) -> str:
    """Why there are no such cells."""
    for metric in METRICS:
        if not any(part.has(metric.column) for part in parts):
            return f"{metric.name} was not measured (evaluation.metrics)"
    return "none are there"


def strength(parts: Sequence[Slice]) -> list[Draw]:
    """FID and IS over w (or the temperature), a panel each."""
    turned = [one for part in parts for one in part.by_knob]
    drawn = [part for part in turned if any(len(rows) > 1 for metric in METRICS for _, rows in part.curves(metric))]
    if not drawn:
        raise NothingToPlot("strength: needs finished cells at two values of w or more; none are there")
    log = any(asks_for_log(part.ok["fid"].dropna().to_numpy()) for part in drawn if "fid" in part.ok)
    return [partial(_strength, part, log=log) for part in drawn]


def steps(parts: Sequence[Slice]) -> list[Draw]:
    """FID and IS over T, a panel each, a curve for each of a few chosen w."""
    drawn = [part for part in _over_steps(parts) if any(part.has(metric.column) for metric in METRICS)]
    if not drawn:
        raise NothingToPlot("steps: needs finished cells at two values of T or more; add them to grid.T")
    held = [part.rows[part.rows["at"].isin(_chosen(part.rows))] for part in drawn if "fid" in part.rows]
    log = any(asks_for_log(rows["fid"].dropna().to_numpy()) for rows in held)
    return [partial(_steps, part, log=log) for part in drawn]


def _strength(part: Slice, *, log: bool) -> Figure:
    metrics = [metric for metric in METRICS if any(len(rows) > 1 for _, rows in part.curves(metric))]
    names = " and ".join(metric.long_name for metric in metrics)
    figure, panels = _canvas(part, f"{names} over {knobs.name(part)}", len(metrics))
    for axes, metric in zip(panels, metrics, strict=True):
        curves = list(part.curves(metric))
        if part.knob == "w":
            axes.set_xscale("asinh", linear_width=0.5)  # 0 ... 1 is half of the axis, 4 is still on it
        named = [(curve_name(part.series, value), looks(*part.place(value)), rows) for value, rows in curves]
        _panel(axes, metric, part, named, "at", log=log)
        axes.set_xlabel(knobs.on_axis(part))
        fixed_ticks(axes, sorted(part.ok["at"].unique()))
        axes.xaxis.set_inverted((part.rows["system"] == LOW_TEMPERATURE).any())  # to the right it is turned further
    return _finished(figure, part)


def _canvas(part: Slice, what: str, count: int) -> tuple[Figure, list[Axes]]:
    return canvas(4.6 * count + 0.4, 4.4, title(part, what), subtitle(part), count)


def _finished(figure: Figure, part: Slice) -> Figure:
    """With its legend, and its layout fixed."""
    panels = figure.axes
    best = [star_entry()] if any(line.get_marker() == "*" for line in panels[0].lines) else []
    named = {line.get_label(): line for axes in panels for line in axes.get_legend_handles_labels()[0]}
    legend_above(figure, [*named.values(), *best, *mark_entries(part)])
    for axes in panels:
        look_out(axes)
    settle(figure)
    return figure


def _over_steps(parts: Sequence[Slice]) -> list[Slice]:
    """Finished rows that differ in the knob and T only, or in how they were measured where they have marks, of two T or
    more, each with a slice that says what else holds."""
    several = len({known(value) for part in parts for value in part.ok["p_uncond"]}) > 1
    groups: dict[str, tuple[Slice, list[pd.DataFrame]]] = {}
    for part in parts:
        joined = ("T", *(PROVENANCE if part.marks else ()))
        apart = [key for key in part.apart if key not in (*joined, "p_uncond", *SEEDS)] + ["p_uncond"] * several
        for p_uncond, rows in part.ok.dropna(subset="T").groupby("p_uncond", dropna=False):
            setting = {key: held for key, held in part.setting.items() if key not in joined}
            setting |= {"p_uncond": known(p_uncond)}
            key = repr(sorted((name, repr(held)) for name, held in setting.items() if name not in SEEDS))
            one, held = groups.get(key, (replace(part, series="T", setting=setting, apart=tuple(apart), every=()), []))
            groups[key] = replace(one, marks={**one.marks, **part.marks}), [*held, rows]
    whole = [(part, pd.concat(rows, ignore_index=True)) for part, rows in groups.values()]
    return [_at_one_kind_of_seeds(part, rows) for part, rows in whole if rows["T"].nunique() > 1]


def _at_one_kind_of_seeds(part: Slice, rows: pd.DataFrame) -> Slice:
    """The same at the seeds that all T have at most of their points, where there are such; with the marks of these."""
    rows = with_other_seeds(shared_by(rows, "T"), "at").sort_values("other_seeds", kind="stable", ignore_index=True)
    seeds = {key: rows[key].iloc[0] for key in SEEDS if key in part.setting}
    return replace(part, rows=rows, setting=part.setting | seeds, marks=of_rows(part.marks, rows))


def _steps(part: Slice, *, log: bool) -> Figure:
    rows = part.ok
    metrics = [metric for metric in METRICS if part.has(metric.column)]
    names = " and ".join(metric.long_name for metric in metrics)
    figure, panels = _canvas(part, f"{names} over sampling steps", len(metrics))
    chosen, best = _chosen(rows), _best(rows)
    curves = [
        (_at_name(part, at, best), looks(number, len(chosen)), rows[rows["at"] == at].sort_values("T", kind="stable"))
        for number, at in enumerate(chosen)
    ]
    for axes, metric in zip(panels, metrics, strict=True):
        axes.set_xscale("log", base=2)
        _panel(axes, metric, part, curves, "T", log=log)
        axes.set_xlabel("sampling steps $T$")
        fixed_ticks(axes, sorted(rows["T"].unique()))
    return _finished(figure, part)


def _chosen(rows: pd.DataFrame) -> list[float]:
    """w = 0, the w with the lowest FID (see _best), 1 and 4, as far as they are there, and the largest at which each
    metric was measured, so that no panel is empty; of temperatures 1, the one with the lowest FID, and likewise the
    farthest from 1."""
    measured = [rows.loc[rows[metric.column].notna(), "at"].tolist() for metric in METRICS if metric.column in rows]
    usual, far = ((0.0, 1.0, 4.0), float) if rows["knob"].iloc[0] == "w" else ((1.0,), lambda at: abs(at - 1))
    chosen = {*usual, *(max(there, key=far) for there in measured if there)}
    if (best := _best(rows)) is not None:
        chosen.add(best["at"])
    return sorted(chosen.intersection(chain(*measured)))


def _best(rows: pd.DataFrame) -> pd.Series | None:
    """The row of the lowest FID, of those w that have one at two T or more: of others there is no curve."""
    if "fid" not in rows:
        return None
    there = rows.dropna(subset="fid")
    steps = there.groupby("at")["T"].transform("nunique")
    return best_fid(there[steps >= min(2, steps.max())] if len(there) else there)


def _at_name(part: Slice, at: float, best: pd.Series | None) -> str:
    of_best = f" (best FID, at T {best['T']:g})" if best is not None and best["at"] == at else ""
    return f"{part.knob} = {at:g}{of_best}"


Drawn = Sequence[tuple[str, tuple[str, str], pd.DataFrame]]
"""(name, (colour, marker), rows) of each."""


def _panel(axes: Axes, metric: Metric, part: Slice, curves: Drawn, x: str, *, log: bool) -> None:
    """Curves of one metric over the column `x`, the best FID of each starred where x is the knob's."""
    drawn = [(name, look, rows.dropna(subset=[metric.column])) for name, look, rows in curves]
    values = pd.concat([rows[metric.column] for *_, rows in drawn]).to_numpy()
    metric_axis(axes, metric, values, part, log=log, room=_HIGH)
    marks: list[tuple[float, float, str]] = []
    for name, (colour, marker), rows in drawn:
        if rows.empty:  # has the other metric alone
            continue
        draw(axes, rows, x, metric.column, along=x, name=name, colour=colour, marker=marker)
        if x == "at" and metric == FID and (best := best_fid(rows)) is not None:
            marks.append((best["at"], best["fid"], colour))
    stars(axes, marks)
