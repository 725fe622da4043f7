"""The sheet of images: rows = classes, columns = w, and along a row the same noise under more and more guidance.

Where some w are chosen, a panel for each of them instead, as in the appendix of the paper.
"""

import math
from collections.abc import Sequence, Set
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cfgbench.errors import UserError
from cfgbench.report.drawing.canvas import NARROWEST, PixelCanvas
from cfgbench.report.drawing.figure_files import Draw, NothingToPlot
from cfgbench.report.drawing.headings import image_conditions, subject
from cfgbench.report.drawing.lettering import width
from cfgbench.report.drawing.panels import chosen_cells, panels
from cfgbench.report.drawing.style import FAINT, INK
from cfgbench.report.drawing.tiles import GAP, TILE, Kept, Tiles, compose, drawn_names, find_classes, kept, places, show
from cfgbench.report.request import ALL_IMAGES, ImageChoice
from cfgbench.report.rows.slice import Slice
from cfgbench.report.rows.systems import HIGH_TEMPERATURE, LOW_TEMPERATURE, SIGNS
from cfgbench.report.words import METRICS, significant

_HOW = {
    LOW_TEMPERATURE: "at lower and lower temperature",
    HIGH_TEMPERATURE: "at higher and higher temperature",
}
_ROWS, _COLUMNS = 10, 24  # that a sheet has at most
_HEADS, _NUMBERS = (8, 7, 6), 6.5  # points of the letters over a column: of its head, the larger the better; below it
Heads = Sequence[tuple[str, str]]
"""Over each column: what it is, and its numbers."""


def samples(folder: Path, parts: Sequence[Slice], choice: ImageChoice = ALL_IMAGES) -> list[Draw]:
    """A sheet a slice: the images of its p_uncond (or T) with the best FID, which folder/samples/<cell_id>.png keep;
    with chosen w panels in its place. Raises UserError for a chosen class or w that there are no images of."""
    most = None if choice.ws else _COLUMNS
    found = [images for part in parts if (images := kept(folder, part, most)) is not None]
    if not found:
        raise NothingToPlot(
            f"samples: needs images of finished cells; none are in {folder / 'samples'}; to make them again delete the "
            "cells' rows and run the sweep"
        )
    if not choice.ws:
        return [partial(_sheet, images, _tiles(images.cells[0], choice.classes)) for images in found]
    turning_w = [images for images in found if images.part.knob == "w"]
    _check_ws(turning_w, parts, choice.ws)
    classes = [find_classes(images.cells[0], choice.classes) for images in turning_w]
    chosen = [chosen_cells(images, choice.ws) for images in turning_w]
    drawn = list(zip(turning_w, classes, chosen, strict=True))
    own = {cell for images, _, at in drawn for cell in images.rows.iloc[at].query("not shared")["cell_id"]}
    # images of the unguided network that another system lends alone are left out where that shows them
    shown = [one for one in drawn if one[2] and not _lent(one[0].rows.iloc[one[2]], own)]
    return [partial(panels, *of_slice) for of_slice in shown]


def _lent(rows: pd.DataFrame, own: Set[str]) -> bool:
    """Whether all of these rows are another system's, and among its `own`."""
    return bool(rows["shared"].all()) and own.issuperset(rows["cell_id"])


def _check_ws(found: Sequence[Kept], parts: Sequence[Slice], ws: Sequence[float]) -> None:
    there = sorted({float(w) for images in found for w in images.rows["at"]})
    sampled = [w for part in parts if part.knob == "w" for w in part.ok["at"]]
    for w in ws:
        if not np.isclose(w, there, rtol=0, atol=1e-9).any():
            known = np.isclose(w, sampled, rtol=0, atol=1e-9).any()
            places = ", ".join(dict.fromkeys(images.place for images in found))
            why = f"there are no images of it at {places}" if known else "not sampled"
            raise UserError(f"--w {w:g}: {why}; there are w {', '.join(f'{one:g}' for one in there) or 'none'}")


def _tiles(tiles: Tiles, classes: Sequence[str]) -> list[tuple[int, int]]:
    """(row, column) of the tiles to show: of the chosen classes, or of all; of each as many as there is room for."""
    labels = find_classes(tiles, classes) if classes else _spread(tiles.labels[0].tolist())
    most = max(1, _ROWS // len(labels))
    return [place for label in labels for place in places(tiles, label, most)]


def _spread(labels: Sequence[int]) -> list[int]:
    """As many of them as there are rows, from all over."""
    return [labels[k] for k in np.unique(np.linspace(0, len(labels) - 1, min(len(labels), _ROWS)).round().astype(int))]


def _sheet(images: Kept, shown: Sequence[tuple[int, int]]) -> Figure:
    first = images.cells[0]
    columns = [np.stack([cell.images[place] for place in shown]) for cell in images.cells]
    labels = [int(first.labels[place]) for place in shown]
    begins = [number == 0 or labels[number - 1] != label for number, label in enumerate(labels)]
    names = [name * begun for name, begun in zip(drawn_names(first, labels), begins, strict=True)]
    return _draw(np.stack(columns, axis=1), names, images.rows, images.part, images.place)


def _draw(tiles: np.ndarray, names: list[str], rows: pd.DataFrame, part: Slice, more: str) -> Figure:
    """`tiles` [rows, columns, height, width, 3]; `names` of the classes, nothing where a row is of the one before's;
    `rows` are the cells of the columns. One image pixel is a whole number of pixels of the PNG, so that nothing is
    blurred."""
    heads = [(_head(row, part), _numbers(row)) for _, row in rows.iterrows()]
    grid = compose(tiles, max(TILE, math.ceil(_widest(heads, _HEADS[-1])) + GAP))
    high, wide = grid.shape[:2]
    left, right, above, margin = 20 + round(max(width(name, 8) for name in names)), 20, 95 + 21 * bool(part.marks), 20
    total = max(left + wide + right, NARROWEST)
    how = _HOW.get(rows["system"].iloc[0], "under growing guidance")
    title = f"{subject(part)}: the same noise {how} ({more})"
    subtitle = " · ".join(image_conditions(part, more))
    canvas = PixelCanvas(total, above + high + margin, title, subtitle)
    axes = canvas.axes(left, above, wide, high)
    show(axes, grid)
    _write_heads(axes, heads, (wide + GAP) / len(rows))
    for number, name in enumerate(names):
        if name:
            centre = (number + 0.5) * (high + GAP) / len(names) - GAP / 2
            axes.text(-10, centre, name, ha="right", va="center", fontsize=8, color=INK, parse_math=False)
    return canvas.figure


def _write_heads(axes: Axes, heads: Heads, column: float) -> None:
    """The heads of columns that are so many pixels apart, all in the largest letters that fit."""
    fitting = next((size for size in _HEADS if _widest(heads, size) <= column - 2 * GAP), _HEADS[-1])
    for number, (head, numbers) in enumerate(heads):
        centre = (number + 0.5) * column - GAP / 2
        axes.text(centre, -62, head, ha="center", va="bottom", fontsize=fitting, fontweight="bold", color=INK)
        axes.text(centre, -8, numbers, ha="center", va="bottom", fontsize=_NUMBERS, color=FAINT)


def _widest(heads: Heads, size: float) -> float:
    """Pixels of the widest line, heads in letters of `size`."""
    bold = max(width(line, size, bold=True) for head, _ in heads for line in head.split("\n"))
    return max(bold, *(width(line, _NUMBERS) for _, numbers in heads for line in numbers.split("\n")))


def _head(row: pd.Series, part: Slice) -> str:
    return f"{SIGNS[part.knob]} {row['at']:g}" + (f"\n[{row['mark']}]" if part.marks else "")


def _numbers(row: pd.Series) -> str:
    there = [metric for metric in METRICS if pd.notna(row.get(metric.column))]
    return "\n".join(f"{metric.name} {significant(row[metric.column], 3)}" for metric in there)
