"""The sheet of images: rows = classes, columns = w, and along a row the same noise under more and more guidance."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from cfgbench.errors import UserError, printable, reason
from cfgbench.report.plots import NothingToPlot
from cfgbench.report.seeds import seed_of
from cfgbench.report.slices import Slice
from cfgbench.report.style import DPI, FAINT, INK, header
from cfgbench.report.words import METRICS, at, named

_TILE = 80  # pixels that a tile has at least
_GAP = 5  # pixels between tiles
MOST_PIXELS = 1 << 26  # of a cell's sheet
LONGEST_NAME = 40  # characters of a class that are drawn
_ROWS = 10  # rows that a sheet has at most


@dataclass(frozen=True)
class Tiles:
    """The images kept of a cell: uint8 [rows, columns, height, width, 3]; the class of each [rows, columns]."""

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]


def samples(folder: Path, parts: Sequence[Slice]) -> list[Figure]:
    """A sheet a slice: the images of its p_uncond (or T) with the best FID, which folder/samples/<cell_id>.png keep."""
    sheets = [sheet for part in parts if (sheet := _sheet(folder, part)) is not None]
    if not sheets:
        raise NothingToPlot(f"samples: needs images of finished cells; none are in {folder / 'samples'}")
    return sheets


def read_tiles(path: Path) -> Tiles:
    """Reads a cell's image grid. Raises UserError for a file that is not a PNG of such tiles."""
    try:
        if not path.is_file():
            raise ValueError("not a regular file")
        with Image.open(path, formats=["PNG"]) as image:
            if image.size[0] * image.size[1] > MOST_PIXELS:
                raise ValueError(f"{image.size[0]} x {image.size[1]} pixels")
            note = json.loads(image.text["cfgbench"])  # type: ignore[attr-defined]
            pixels = np.asarray(image.convert("RGB"))
        labels = np.array(note["labels"])
        rows, columns = labels.shape
        height, width = int(note["height"]), int(note["width"])
        grid = pixels.reshape(rows, height, columns, width, 3).swapaxes(1, 2)
        names = tuple(printable(str(name))[:LONGEST_NAME] for name in note["class_names"])
        if labels.dtype.kind not in "iu" or grid.size == 0 or labels.min() < 0:
            raise ValueError(f"labels {labels.shape} of {labels.dtype}")
    except Exception as error:  # a damaged image fails in many ways, all of which mean the same
        raise UserError(
            f"{path}: not a grid of sample images ({reason(error)}); delete it to leave that cell out"
        ) from None
    return Tiles(grid, labels, names)


def _sheet(folder: Path, part: Slice) -> Figure | None:
    rows = _of_one_seed(folder, part.ok)
    if rows.empty:
        return None
    best = rows.loc[rows["fid"].idxmin()] if "fid" in rows and rows["fid"].notna().any() else rows.iloc[0]
    rows = at(rows, part.columns, best[part.columns]).sort_values("w", kind="stable")
    cells = [read_tiles(_path(folder, cell)) for cell in rows["cell_id"]]
    if cells[0].images.shape[2] == 1:  # points, not images: there is nothing to see
        return None
    shown = _shown(cells[0])
    alike = [cell.labels.shape == cells[0].labels.shape and (cell.labels == cells[0].labels).all() for cell in cells]
    alike = [same and cell.images.shape == cells[0].images.shape for same, cell in zip(alike, cells, strict=True)]
    kept = [cell for cell, same in zip(cells, alike, strict=True) if same]
    columns = [np.stack([cell.images[place] for place in shown]) for cell in kept]
    names = [_class_name(cells[0], place) for place in shown]
    more = named(part.columns, best[part.columns])
    return _draw(np.stack(columns, axis=1), names, rows[alike], part, more)


def _of_one_seed(folder: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that have images, with the cells of that seed that has most of them: along a row the noise is one."""
    cells: dict[object, dict[int, str]] = {}
    for place, members in rows["members"].items():
        for member in members:
            if member["status"] == "ok" and _path(folder, member["cell_id"]).is_file():
                cells.setdefault(seed_of(member), {})[place] = member["cell_id"]
    of_seed = max(cells.values(), key=len, default={})
    return rows.loc[list(of_seed)].assign(cell_id=list(of_seed.values()))


def _path(folder: Path, cell_id: str) -> Path:
    return folder / "samples" / f"{cell_id}.png"


def _shown(tiles: Tiles) -> list[tuple[int, int]]:
    """(row, column) of the tiles to show: each class once, more draws of each where there are few classes."""
    draws, classes = tiles.labels.shape
    chosen = np.unique(np.linspace(0, classes - 1, min(classes, _ROWS)).round().astype(int))
    return [(draw, int(column)) for column in chosen for draw in range(min(draws, max(1, _ROWS // classes)))]


def _class_name(tiles: Tiles, place: tuple[int, int]) -> str:
    label = int(tiles.labels[place])
    return tiles.class_names[label] if label < len(tiles.class_names) else str(label)


def _draw(tiles: np.ndarray, names: list[str], rows: pd.DataFrame, part: Slice, more: str) -> Figure:
    """`tiles` [rows, columns, height, width, 3]; `rows` are the cells of the columns. One image pixel is a whole number
    of pixels of the PNG, so that nothing is blurred."""
    grid = _compose(tiles)
    height, width = grid.shape[:2]
    left, right, heads, margin = 20 + 13 * max(map(len, names)), 20, 95, 20
    total = max(left + width + right, 1100)
    title = f"{part.setting['dataset']}: the same noise under growing guidance ({more})"
    conditions = [text for text in part.conditions if text != more]
    subtitle = " · ".join([*conditions, f"FID and IS: {part.extractor} features", "scale = 1 + w"])
    subtitle += " · images of one seed, numbers are means" if part.seeds else ""
    figure = Figure(figsize=(total / DPI, 1), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    top = round(
        header(figure, title, subtitle, height=lambda above: (round(above * DPI) + heads + height + margin) / DPI) * DPI
    )
    size = np.array([total, top + heads + height + margin])
    x0, y0 = left / size[0], margin / size[1]
    axes = figure.add_axes((x0, y0, width / size[0], height / size[1]))
    axes.imshow(grid, interpolation="none", aspect="auto", extent=(0, width, height, 0))
    axes.set_axis_off()
    for number, (_, row) in enumerate(rows.iterrows()):
        centre = (number + 0.5) * (width + _GAP) / len(rows) - _GAP / 2
        head = f"w {row['w']:g}" + (f" [{row['mark']}]" if part.marks else "")
        axes.text(centre, -62, head, ha="center", va="bottom", fontsize=8, fontweight="bold", color=INK)
        axes.text(centre, -8, _numbers(row, part), ha="center", va="bottom", fontsize=6.5, color=FAINT)
    for number, name in enumerate(names):
        if number == 0 or names[number - 1] != name:
            centre = (number + 0.5) * (height + _GAP) / len(names) - _GAP / 2
            axes.text(-10, centre, name, ha="right", va="center", fontsize=8, color=INK, parse_math=False)
    return figure


def _numbers(row: pd.Series, part: Slice) -> str:
    return "\n".join(f"{metric.name} {row[metric.column]:.3g}" for metric in METRICS if metric in part.metrics)


def _compose(tiles: np.ndarray) -> np.ndarray:
    """The tiles [rows, columns, h, w, 3], enlarged by whole numbers, as one white-gapped image."""
    factor = max(1, -(-_TILE // max(tiles.shape[2:4])))
    large = tiles.repeat(factor, axis=2).repeat(factor, axis=3)
    padded = np.pad(large, ((0, 0), (0, 0), (0, _GAP), (0, _GAP), (0, 0)), constant_values=255)
    rows, columns, height, width, _ = padded.shape
    return padded.swapaxes(1, 2).reshape(rows * height, columns * width, 3)[:-_GAP, :-_GAP]
