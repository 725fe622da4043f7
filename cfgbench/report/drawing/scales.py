"""The axes of figures: their names, scales and ticks."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, Locator, LogLocator, MaxNLocator, NullFormatter, NullLocator

from cfgbench.report.drawing.lettering import balanced, width, written
from cfgbench.report.drawing.style import INK
from cfgbench.report.rows.slice import Slice
from cfgbench.report.words import Metric

LOG_FROM = 8.0
"""FIDs whose largest is this many times the smallest get a logarithmic axis."""
_LETTERS = 10.0
"""Points of the letters of an axis' name."""
_NEAREST_TICKS = 0.004
"""Of an axis' width between two ticks: two pixels."""
_ROOM_OF_A_TICK = 0.058
"""Of an axis' width: three characters."""


def asks_for_log(fids: np.ndarray) -> bool:
    """Whether these FIDs ask for a logarithmic axis."""
    return bool(len(fids) and fids.min() > 0 and fids.max() >= LOG_FROM * fids.min())


def metric_axis(axes: Axes, metric: Metric, values: np.ndarray, part: Slice, *, log: bool, room: float) -> None:
    """The y axis of a metric: named with its extractor, in lines of at most `room` pixels; that of positive FIDs
    logarithmic with `log`, as all figures of a kind are where one of them asks for it (see `asks_for_log`): they are
    held against each other."""
    log = log and metric.column == "fid" and bool(values.min() > 0)
    axes.set_ylabel(axis_name(metric, part, room, ", log scale" * log), color=INK)
    if not log:
        return
    axes.set_yscale("log")
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


def axis_name(metric: Metric, part: Slice, room: float, scale: str = "") -> str:
    """`FID (digits features)`: so that nobody takes it for an FID of the Inception network. In lines of at most `room`
    pixels, the features on their own."""
    name, features = f"{metric.long_name}{scale}", f"({written(part.extractor)} features)"
    whole = f"{name} {features}"
    return whole if width(whole, _LETTERS) <= room else "\n".join([name, *balanced(features, room, _LETTERS)])


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
    return _ROOM_OF_A_TICK * max(1.0, len(f"{one:g}{other:g}") / 6)


def _roughness(value: float) -> int:
    """How early a value deserves its tick: whole numbers, then even tenths, then the others."""
    return next((rank for rank, unit in enumerate((1, 0.2)) if abs(value / unit - round(value / unit)) < 1e-9), 2)
