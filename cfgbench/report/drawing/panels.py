"""Panels of images: one for each chosen w, the same classes and seeds at the same place in all of them (paper, figures
1, 3, 6 to 8)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cfgbench.report.drawing.canvas import NARROWEST, PixelCanvas
from cfgbench.report.drawing.headings import image_conditions, subject
from cfgbench.report.drawing.style import INK
from cfgbench.report.drawing.tiles import Kept, Tiles, compose, drawn_names, places, show
from cfgbench.report.rows.slice import Slice
from cfgbench.report.tables.layout import decimals_of
from cfgbench.report.words import joined, letter

_WIDEST = 1500  # pixels of panels side by side
_SLOT = 300  # pixels that a caption needs
_BETWEEN, _CAPTION, _MARGIN = 30, 70, 20  # pixels between panels, below each, around all
_TILE, _LARGE_TILE = 80, 130  # pixels that a tile has at least; where a panel is of few
_DRAWS = 4  # images of a class at most


def chosen_cells(images: Kept, ws: Sequence[float]) -> list[int]:
    """The places, among the images' cells, of those of the w that there are."""
    return [int(k) for w in ws for k in np.flatnonzero(np.isclose(images.rows["at"], w, rtol=0, atol=1e-9))]


def panels(images: Kept, labels: Sequence[int], chosen: Sequence[int]) -> Figure:
    """The figure of these classes (all where none is named) at the chosen cells, one or more."""
    rows = images.rows.reset_index(drop=True)
    first = images.cells[0]
    labels = list(labels) or [int(label) for label in dict.fromkeys(first.labels[0])]
    grid = _grid(first, labels)
    tile = _TILE if len(grid[0]) > 3 else _LARGE_TILE
    tiles = [np.stack([[images.cells[k].images[spot] for spot in line] for line in grid]) for k in chosen]
    pictures = [compose(of_cell, tile) for of_cell in tiles]
    captions = [_caption(n, rows.loc[k], images.part) for n, k in enumerate(chosen)]
    shown = joined([f"{w:g}" for w in dict.fromkeys(rows.loc[list(chosen), "at"])])
    title = f"{subject(images.part)}: the same seeds at w {shown} ({images.place})"
    names = drawn_names(first, labels)
    conditions = image_conditions(images.part, images.place)
    order = ", left to right" * (len(names) > 1)
    between = "; " if any("," in name for name in names) else ", "  # ImageNet's have commas
    return _draw(pictures, captions, title, " · ".join([*conditions, f"classes{order}: {between.join(names)}"]))


def _grid(tiles: Tiles, labels: Sequence[int]) -> list[list[tuple[int, int]]]:
    """(row, column) of the tiles of a panel: a class a column; a single class in about a square."""
    found = [places(tiles, label, _DRAWS) for label in labels]
    draws = min(map(len, found))
    if len(found) > 1:
        return [[of_class[draw] for of_class in found] for draw in range(draws)]
    wide = 2 if draws % 2 == 0 else draws
    return [found[0][start : start + wide] for start in range(0, draws, wide)]


def _caption(position: int, row: pd.Series, part: Slice) -> str:
    """`(b) w = 1.0: FID=12.60, IS=170.10`, with the decimals of the table; `w = 1.0 [a]: ...` where there are marks:
    letters of two kinds would be taken for each other."""
    found = [metric for metric in part.metrics if pd.notna(row.get(metric.column))]
    numbers = ", ".join(f"{m.name}={row[m.column]:.{decimals_of(part, m)}f}" for m in found)
    w = f"{row['at']:.1f}" if round(row["at"], 1) == row["at"] else f"{row['at']:g}"
    place = f"w = {w} [{row['mark']}]" if part.marks else f"({letter(position)}) w = {w}"
    return f"{place}: {numbers}" if numbers else place


def _draw(pictures: Sequence[np.ndarray], captions: Sequence[str], title: str, subtitle: str) -> Figure:
    """Pictures of one size side by side, as many as there is room for, each over its caption. One pixel of a picture is
    one of the PNG."""
    height, width = pictures[0].shape[:2]
    slot = max(width, _SLOT)
    across = min(len(pictures), max(1, (_WIDEST + _BETWEEN) // (slot + _BETWEEN)))
    down = -(-len(pictures) // across)
    total = max(across * (slot + _BETWEEN) - _BETWEEN + 2 * _MARGIN, NARROWEST)
    canvas = PixelCanvas(total, down * (height + _CAPTION) + _MARGIN, title, subtitle)
    for number, (picture, text) in enumerate(zip(pictures, captions, strict=True)):
        left = _MARGIN + number % across * (slot + _BETWEEN) + (slot - width) // 2
        axes = canvas.axes(left, number // across * (height + _CAPTION), width, height)
        show(axes, picture)
        lines = text if width >= 1.3 * _SLOT else text.replace(": ", ":\n", 1)
        axes.text(width / 2, height + 10, lines, ha="center", va="top", fontsize=9, color=INK, linespacing=1.3)
    return canvas.figure
