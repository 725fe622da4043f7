"""What figures are drawn on: white under a heading, on which axes are laid out, or stand where they are put."""

import re
from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from cfgbench.report.drawing.lettering import DPI, balanced, filled, written
from cfgbench.report.drawing.style import EDGE, FAINT, GRID, INK

NARROWEST = 720
"""Pixels of a figure of images at least: a heading in narrower lines would be as high as they."""
SHORT = 24
"""Characters of a condition that stands on one line."""
_NAMED = re.compile(r"(?<![,\d]) (?=-?\d)")
"""The space between a name and its number."""


def canvas(width: float, height: float, title: str, subtitle: str, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of `panels` axes side by side under a heading; sizes in inches."""
    figure = blank(width)
    heading = header(figure, title, subtitle, height=lambda _: height)
    figure.set_layout_engine(ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - heading / height), w_pad=0.08, h_pad=0.06))
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    for one in axes:
        one.grid(color=GRID, linewidth=0.8)
        one.set_axisbelow(True)
        one.spines[["top", "right"]].set_visible(False)
        one.spines[["left", "bottom"]].set_color("#999999")
        one.tick_params(colors=INK, labelsize=9)
        one.ticklabel_format(useOffset=False)  # 45.35 and 45.36, not +4.535e1 in a corner
    return figure, axes


class PixelCanvas:
    """A figure of images under a heading, on which all has its place by the pixel: nothing is blurred."""

    def __init__(self, width: int, height: int, title: str, subtitle: str) -> None:
        """`height` is that of what stands below the heading."""
        self.figure = blank(width / DPI)
        heading = header(self.figure, title, subtitle, height=lambda inches: (round(inches * DPI) + height) / DPI)
        self._width, self._below = width, height
        self._height = round(heading * DPI) + height

    def axes(self, left: int, top: int, width: int, height: int) -> Axes:
        """Axes of this size, `top` below the heading."""
        bottom = self._below - top - height
        place = (left / self._width, bottom / self._height, width / self._width, height / self._height)
        return self.figure.add_axes(place)


def blank(width: float) -> Figure:
    """A white figure of so many inches, whose height a heading decides (see `header`)."""
    figure = Figure(figsize=(width, 1), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def header(figure: Figure, title: str, subtitle: str, *, height: Callable[[float], float]) -> float:
    """Writes title and subtitle at the top; returns the inches they take, from which `height` makes the figure's."""
    width = figure.get_figwidth()
    room = (width - 2 * EDGE) * DPI
    titles = filled(_NAMED.sub("\u00a0", written(title, bold=True)), room, 12, bold=True)
    lines = balanced(_bound(written(subtitle)), room, 8.5)
    below_title = 0.16 + 0.2 * len(titles)
    heading = below_title + 0.09 + 0.17 * len(lines)
    figure.set_figheight(height(heading))
    x, y = EDGE / width, 1 / figure.get_figheight()
    style = {"va": "top", "linespacing": 1.25, "parse_math": False}
    figure.text(x, 1 - 0.1 * y, "\n".join(titles), fontsize=12, fontweight="bold", color=INK, **style)
    figure.text(x, 1 - below_title * y, "\n".join(lines), fontsize=8.5, color=FAINT, **style)
    return heading


def _bound(text: str) -> str:
    """The same with spaces at which no line ends: before a dot, and within what is as short as `training.seed 0`."""
    parts = (part.replace(" ", "\u00a0") if len(part) <= SHORT else part for part in text.split(" · "))
    return "\u00a0· ".join(parts)


def settle(figure: Figure) -> None:
    """Fixes the layout: from here on a place in data units stays at its place on the page, in every file format."""
    figure.get_layout_engine().execute(figure)
    figure.set_layout_engine(None)  # "none" leaves a placeholder, for whose sake savefig draws everything twice
    for axes in figure.axes:  # a legend that looks for the best place does so at every drawing
        if (legend := axes.get_legend()) is not None:
            corner = legend.get_window_extent(figure.canvas.get_renderer()).min
            legend.set_loc(tuple(axes.transAxes.inverted().transform(corner)))
