"""Figure 2 of the paper: three Gaussians under growing guidance, as densities and as points of the sampler."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cfgbench.report import markup
from cfgbench.report.canvas import blank, header
from cfgbench.report.figure_files import png, svg
from cfgbench.report.guided import BIN, CELLS, DRAWS, EDGE, Deviation, Sampled, T, V
from cfgbench.report.markup import markdown_table
from cfgbench.report.output import save
from cfgbench.report.style import FAINT, INK, looks
from cfgbench.report.words import joined, plus_minus, strength

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


def write(made: Sequence[Sampled], out: Path) -> list[Path]:
    """Writes figure-2.png, .svg, .md and .csv into `out`; returns the files' paths. Raises UserError."""
    drawn = figure(made)
    files = {"png": png(drawn), "svg": svg(drawn), "md": markdown(made).encode(), "csv": csv(made).encode()}
    return save({f"figure-2.{kind}": content for kind, content in files.items()}, out)


def summary(made: Sequence[Sampled]) -> list[str]:
    """A line a strength: that its densities are densities, and how far the points are from them."""
    lines = []
    for one in made:
        integrals = ", ".join(f"{value:.6f}" for value in one.density.integrals)
        apart, chance = _variations(one)
        lines.append(
            f"{strength(one.w)}: integrals of the densities {integrals}; total variation between samples and density "
            f"{apart:.3f}, by chance alone {chance:.3f}"
        )
    return lines


def figure(made: Sequence[Sampled]) -> Figure:
    """A column a strength: the densities above, points of the sampler below, over lines of the same densities."""
    side = (WIDTH - LEFT - GAP * len(made)) / len(made)
    drawn = blank(WIDTH)
    rest = 2 * side + GAP + BOTTOM + HEADS
    header(drawn, _TITLE, _subtitle(made), height=lambda above: above + rest)
    for column, one in enumerate(made):
        above, below = (_panel(drawn, column, row, side) for row in (1, 0))
        _draw_density(above, one)
        _draw_points(below, one)
        head = "non-guided" if one.w == 0 else "guided"
        above.set_title(f"{head}: {strength(one.w)}", fontsize=9.5, fontweight="bold", color=INK, pad=6)
        apart, chance = _variations(one)
        below.set_xlabel(f"total variation {apart:.2f}, by chance {chance:.2f}", fontsize=8.5, color=FAINT, labelpad=6)
        if column == 0:
            above.set_ylabel("densities", fontsize=9.5, color=INK)
            below.set_ylabel("samples over the densities' lines", fontsize=9.5, color=INK)
    _legend(drawn, made[0], side)
    return drawn


_TITLE = "Guidance of a mixture of three Gaussians: normalised p(z|c) p(c|z)^w, and what the sampler gives"


def _subtitle(made: Sequence[Sampled]) -> str:
    per_class = made[0].deviations[0].found.n
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


def _draw_density(axes: Axes, one: Sampled) -> None:
    """White where nothing is; where classes overlap their colours mix as ink does."""
    picture = np.ones((CELLS, CELLS, 3))
    for c, cells in enumerate(one.density.cells):
        picture *= 1 - (cells / cells.max())[..., None] * (1 - np.array(to_rgb(_colour(one, c))))
    edges = (-EDGE, EDGE, -EDGE, EDGE)
    axes.imshow(picture.swapaxes(0, 1), origin="lower", extent=edges, interpolation="bilinear")
    axes.set(xlim=(-VIEW, VIEW), ylim=(-VIEW, VIEW))
    _draw_lines(axes, one, alpha=0.6)


def _draw_points(axes: Axes, one: Sampled) -> None:
    for c in range(len(one.deviations)):
        x, y = one.points[one.labels == c][:SHOWN].T
        axes.scatter(x, y, s=4, color=_colour(one, c), alpha=0.45, linewidths=0, label=f"class {c}", rasterized=True)
    _draw_lines(axes, one, alpha=1)


def _draw_lines(axes: Axes, one: Sampled, *, alpha: float) -> None:
    middles = one.density.places[:CELLS, 1][::_STRIDE]
    for c, cells in enumerate(one.density.cells):
        levels = [one.density.level(c, share) for share in SHARES]
        axes.contour(
            middles, middles, cells.T[::_STRIDE, ::_STRIDE], levels, colors=_colour(one, c), linewidths=0.9, alpha=alpha
        )


def _colour(one: Sampled, c: int) -> str:
    return looks(c, len(one.density.cells))[0]


def _legend(drawn: Figure, one: Sampled, side: float) -> None:
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


def frame(made: Sequence[Sampled]) -> pd.DataFrame:
    """A row a strength and class: the deviations, and where both laws lie; unrounded."""
    return pd.DataFrame([_row(one, deviation) for one in made for deviation in one.deviations])


def _row(one: Sampled, deviation: Deviation) -> dict[str, float]:
    (distance, distance_sd), (variation, variation_sd) = deviation.distance_by_chance, deviation.variation_by_chance
    wanted, found = deviation.wanted, deviation.found
    return {
        "w": one.w,
        "scale": 1 + one.w,
        "class": deviation.c,
        "points": found.n,
        "integral": one.density.integrals[deviation.c],
        "frechet_distance": deviation.distance,
        "frechet_distance_by_chance": distance,
        "frechet_distance_by_chance_sd": distance_sd,
        "total_variation": deviation.variation,
        "total_variation_by_chance": variation,
        "total_variation_by_chance_sd": variation_sd,
        "radius_density": wanted.mean.norm().item(),
        "radius_samples": found.mean.norm().item(),
        "deviation_density": (wanted.covariance.trace() / 2).sqrt().item(),
        "deviation_samples": (found.covariance.trace() / 2).sqrt().item(),
    }


def csv(made: Sequence[Sampled]) -> str:
    """The table, unrounded."""
    return markup.csv(frame(made))


def markdown(made: Sequence[Sampled]) -> str:
    """The table under its caption, as GitHub's Markdown."""
    heads = ["w", "scale", "class", "Fréchet distance", "by chance", "total variation", "by chance",
             "radius, density", "radius, samples", "deviation, density", "deviation, samples"]  # fmt: skip
    rows = []
    for row in frame(made).to_dict("records"):
        cells = [f"{row['w']:g}", f"{row['scale']:g}", f"{row['class']}"]
        cells += [f"{row['frechet_distance']:.6f}", _chance(row, "frechet_distance")]
        cells += [f"{row['total_variation']:.4f}", _chance(row, "total_variation")]
        cells += [f"{row[f'{name}_{law}']:.3f}" for name in ("radius", "deviation") for law in ("density", "samples")]
        rows.append(cells)
    return f"{_caption(made)}\n\n{markdown_table(heads, rows)}\n"


def _chance(row: dict[str, float], name: str) -> str:
    return plus_minus(row[f"{name}_by_chance"], row[f"{name}_by_chance_sd"])


def _caption(made: Sequence[Sampled]) -> str:
    points = made[0].deviations[0].found.n
    error = max(np.abs(one.density.integrals - 1).max() for one in made)
    return (
        f"**Figure 2 in numbers.** Sampled classes against their densities p(z|c) p(c|z)^w, normalised. Points of "
        f"the sampler: {points:,} a class, classifier-free guidance of the exact "
        f"denoiser, ancestral sampler, T {T}, v {V:g}, no clipping. Fréchet distance of their mean and covariance to "
        f"the density's; total variation of shares in squares of {2 * EDGE * BIN / CELLS:g}; both beside what as many "
        f"exact draws of the density give (mean ± standard deviation of {DRAWS} times). Radius: of the class's mean "
        f"around the mixture's. Deviation: root of the mean variance of a coordinate. At w = 0 the two laws are one; "
        f"under guidance they are not, since the guided scores are not those of the noised density. The densities' "
        f"integrals by another quadrature are 1 to {error:.1g}."
    )


def _variations(one: Sampled) -> tuple[float, float]:
    """(total variation, what chance alone does), means of the classes."""
    pairs = [(deviation.variation, deviation.variation_by_chance[0]) for deviation in one.deviations]
    apart, chance = np.mean(pairs, axis=0)
    return float(apart), float(chance)
