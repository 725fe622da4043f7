"""The figure: densities above, points of the sampler below, a column a strength of guidance."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cfgbench.report.drawing.canvas import blank, header
from cfgbench.report.drawing.style import FAINT, INK, looks
from cfgbench.report.figure2.experiment import BIN, CELLS, EDGE, StrengthResult, T, V
from cfgbench.report.words import joined
from cfgbench.wording import strength

SHARES = 0.95, 0.5
"""Of a class's density: what its lines hold."""
SHOWN = 300
"""Points of each class that are drawn."""
_STRIDE = 4
"""Lines are drawn through every so many cells: as smooth to the eye, and a quarter of the file."""
VIEW = 0.8
"""The panels show [-VIEW, VIEW]^2."""
WIDTH, LEFT, GAP, BOTTOM, HEADS = 11.0, 0.75, 0.12, 0.5, 0.55
"""Of the figure in inches: its own, and what is beside, between, below and above the panels."""


def draw(results: Sequence[StrengthResult]) -> Figure:
    """A column a strength: the densities above, points of the sampler below, over lines of the same densities."""
    side = (WIDTH - LEFT - GAP * len(results)) / len(results)
    drawn = blank(WIDTH)
    rest = 2 * side + GAP + BOTTOM + HEADS
    header(drawn, _TITLE, _subtitle(results), height=lambda above: above + rest)
    for column, one in enumerate(results):
        above, below = (_panel(drawn, column, row, side) for row in (1, 0))
        _draw_density(above, one)
        _draw_points(below, one)
        head = "non-guided" if one.w == 0 else "guided"
        above.set_title(f"{head}: {strength(one.w)}", fontsize=9.5, fontweight="bold", color=INK, pad=6)
        apart, chance = one.variations
        below.set_xlabel(f"total variation {apart:.2f}, by chance {chance:.2f}", fontsize=8.5, color=FAINT, labelpad=6)
        if column == 0:
            above.set_ylabel("densities", fontsize=9.5, color=INK)
            below.set_ylabel("samples over the densities' lines", fontsize=9.5, color=INK)
    _legend(drawn, results[0], side)
    return drawn


_TITLE = "Guidance of a mixture of three Gaussians: normalised p(z|c) p(c|z)^w, and what the sampler gives"


def _subtitle(results: Sequence[StrengthResult]) -> str:
    per_class = results[0].deviations[0].of_points.n
    return (
        f"exact denoiser · ancestral sampler · T {T} · v {V:g} · {SHOWN} of {per_class:,} points a class are drawn · "
        f"lines hold {joined([f'{share:.0%}' for share in sorted(SHARES)])} of a class's density · "
        f"total variation of {per_class:,} points in squares of {2 * EDGE * BIN / CELLS:g}, mean of the classes"
    )


def _panel(drawn: Figure, column: int, row: int, side: float) -> Axes:
    width, height = drawn.get_size_inches()
    x, y = LEFT + column * (side + GAP), BOTTOM + row * (side + GAP)
    axes = drawn.add_axes((x / width, y / height, side / width, side / height))
    axes.set(xlim=(-VIEW, VIEW), ylim=(-VIEW, VIEW), aspect="equal")
    axes.set_xticks([-0.5, 0, 0.5], [] if row else ["-0.5", "0", "0.5"])
    axes.set_yticks([-0.5, 0, 0.5], [] if column else ["-0.5", "0", "0.5"])
    axes.tick_params(colors=FAINT, labelsize=8, length=2)
    for spine in axes.spines.values():
        spine.set_color("#bbbbbb")
    return axes


def _draw_density(axes: Axes, one: StrengthResult) -> None:
    """White where nothing is; where classes overlap their colours mix as ink does."""
    picture = np.ones((CELLS, CELLS, 3))
    for c, cells in enumerate(one.density.cells):
        picture *= 1 - (cells / cells.max())[..., None] * (1 - np.array(to_rgb(_colour(one, c))))
    edges = (-EDGE, EDGE, -EDGE, EDGE)
    axes.imshow(picture.swapaxes(0, 1), origin="lower", extent=edges, interpolation="bilinear")
    axes.set(xlim=(-VIEW, VIEW), ylim=(-VIEW, VIEW))
    _draw_lines(axes, one, alpha=0.6)


def _draw_points(axes: Axes, one: StrengthResult) -> None:
    for c in range(len(one.deviations)):
        x, y = one.points[one.labels == c][:SHOWN].T
        axes.scatter(x, y, s=4, color=_colour(one, c), alpha=0.45, linewidths=0, label=f"class {c}", rasterized=True)
    _draw_lines(axes, one, alpha=1)


def _draw_lines(axes: Axes, one: StrengthResult, *, alpha: float) -> None:
    middles = one.density.places[:CELLS, 1][::_STRIDE]
    for c, cells in enumerate(one.density.cells):
        levels = [one.density.level(c, share) for share in SHARES]
        axes.contour(
            middles, middles, cells.T[::_STRIDE, ::_STRIDE], levels, colors=_colour(one, c), linewidths=0.9, alpha=alpha
        )


def _colour(one: StrengthResult, c: int) -> str:
    return looks(c, len(one.density.cells))[0]


def _legend(drawn: Figure, one: StrengthResult, side: float) -> None:
    width, height = drawn.get_size_inches()
    dots = [
        Line2D([], [], linestyle="none", marker="o", color=_colour(one, c), label=f"class {c}")
        for c in range(len(one.deviations))
    ]
    drawn.legend(
        handles=dots,
        loc="upper left",
        bbox_to_anchor=(LEFT / width, (BOTTOM + 2 * side + GAP + HEADS - 0.02) / height),
        ncols=len(dots),
        borderaxespad=0,
        borderpad=0,
        handletextpad=0.1,
        frameon=False,
        fontsize=9,
    )
