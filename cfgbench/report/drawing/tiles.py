"""The images that are kept of cells: what was read, of which classes, and as one picture."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from cfgbench.errors import UserError, counted
from cfgbench.report.drawing.lettering import written
from cfgbench.report.rows.best import lowest_fid
from cfgbench.report.rows.seeds import Seed, seed_of
from cfgbench.report.rows.slice import Slice
from cfgbench.report.words import at, named
from cfgbench.sweep.results.sheet import Tiles, read_tiles
from cfgbench.sweep.results.store import Store

GAP = 5
"""Pixels between tiles."""
TILE = 80
"""Pixels that a tile has at least."""
LONGEST_NAME = 40  # characters of a class that are drawn


@dataclass(frozen=True)
class Kept:
    """The images of a slice at one value of its series, all of one seed: `cells` belong to `rows`, in order of the
    knob, and show the same classes at the same places. `place` names that value."""

    part: Slice
    rows: pd.DataFrame
    cells: Sequence[Tiles]
    place: str


def kept(folder: Path, part: Slice, most: int | None = None) -> Kept | None:
    """The images of the p_uncond (or T) with the best FID, which folder/samples/<cell_id>.png hold; None where there
    are none. Of more than `most` cells so many: the first, the last, the best, and others evenly between them. Cells
    whose tiles are laid out otherwise than most of these are left out, and `place` says so."""
    rows = _of_one_seed(folder, part.ok)
    if rows.empty:
        return None
    lowest = lowest_fid(rows)
    best = rows.iloc[0] if lowest is None else lowest
    rows, place = at(rows, part.series, best[part.series]), named(part.series, best[part.series])
    if most and len(rows) > most:
        evenly = np.linspace(0, len(rows) - 1, most - 1).round().astype(int)
        shown = sorted({*evenly.tolist(), rows.index.get_loc(best.name)})
        rows, place = rows.iloc[shown], f"{place}, {len(shown)} of {len(rows)} cells"
    cells = [read_tiles(Store(folder).samples(cell)) for cell in rows["cell_id"]]
    if cells[0].images.shape[2] == 1:  # points, not images: there is nothing to see
        return None
    usual = max(cells, key=lambda cell: sum(_alike(cell, other) for other in cells))
    alike = [_alike(cell, usual) for cell in cells]
    same = [cell for cell, fits in zip(cells, alike, strict=True) if fits]
    other = "" if all(alike) else f", without {counted(len(cells) - len(same), 'cell')} of other classes"
    return Kept(part, rows[alike], same, place + other)


KEPT = "evaluation.show says of which, when cells are made"


def find_classes(tiles: Tiles, texts: Sequence[str]) -> list[int]:
    """The classes of these names or ids, in that order. A name may be one of several that the class has (`malamute` of
    `malamute, Alaskan malamute`); all classes that have it are taken. Raises UserError for one of which there are no
    images, listing those that there are.
    """
    there = [int(label) for label in np.unique(tiles.labels)]
    every = range(max(len(tiles.class_names), max(there) + 1))
    found: list[int] = []
    for text in texts:
        named = _called(text, every, tiles)
        matches = [label for label in there if label in named]
        if not matches:
            why = f"no images of that class were kept ({KEPT})" if named else "no such class"
            raise UserError(f"--classes {text}: {why}; there are images of {_listed(there, tiles)}")
        found += matches
    return list(dict.fromkeys(found))


def places(tiles: Tiles, label: int, most: int) -> list[tuple[int, int]]:
    """(row, column) of the first images of a class, `most` at most."""
    return [(int(row), int(column)) for row, column in np.argwhere(tiles.labels == label)[:most]]


def class_name(tiles: Tiles, label: int) -> str:
    """The class's name; its id where it has none."""
    return tiles.class_names[label] if label < len(tiles.class_names) else str(label)


def drawn_names(tiles: Tiles, labels: Sequence[int]) -> list[str]:
    """The classes' names as figures have them: a long one cut, `class 3` where the font lacks a letter of the name, and
    with its id where another class's looks the same."""
    names = {label: _drawn(class_name(tiles, label), label) for label in labels}
    times = Counter(names.values())
    return [f"{names[label]} ({label})" if times[names[label]] > 1 else names[label] for label in labels]


def compose(tiles: np.ndarray, tile: int = TILE) -> np.ndarray:
    """The tiles [rows, columns, h, w, 3], enlarged by whole numbers to `tile` pixels or more, as one white-gapped
    image."""
    factor = max(1, -(-tile // max(tiles.shape[2:4])))
    large = tiles.repeat(factor, axis=2).repeat(factor, axis=3)
    padded = np.pad(large, ((0, 0), (0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=255)
    rows, columns, height, width, _ = padded.shape
    return padded.swapaxes(1, 2).reshape(rows * height, columns * width, 3)[:-GAP, :-GAP]


def show(axes: Axes, pixels: np.ndarray) -> None:
    """Shows an image [height, width, 3] in axes that have a pixel of the PNG for each of its own, and makes these the
    axes' units, downwards."""
    height, width = pixels.shape[:2]
    image = _Unscaled(axes, interpolation="none", extent=(0, width, height, 0))
    image.set_data(np.dstack([pixels, np.full((height, width), 255, np.uint8)]))
    axes.add_image(image)
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()


class _Unscaled(AxesImage):
    """matplotlib resamples every image, if only to the pixels that it has: most of the time of a sheet."""

    def make_image(self, renderer: Any, magnification: float = 1.0, unsampled: bool = False) -> tuple:
        if unsampled:  # for an SVG, which says itself how large it is
            return super().make_image(renderer, magnification, unsampled)
        pixels = self.get_array()
        left, bottom = self.axes.transData.transform((0, len(pixels)))
        return np.asarray(pixels)[::-1], left, bottom, None  # rows from the bottom up


def _called(text: str, labels: Iterable[int], tiles: Tiles) -> set[int]:
    """The classes of this very name; else those that have it among their names, or as their id."""
    asked = text.strip().casefold()
    names = {label: class_name(tiles, label).casefold() for label in labels}
    exactly = {label for label, name in names.items() if name == asked}
    parts = {label: [part.strip() for part in name.split(",")] for label, name in names.items()}
    return exactly or {label for label in names if asked in (*parts[label], str(label))}


def _drawn(name: str, label: int) -> str:
    cut = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
    return cut if written(cut) == cut else f"class {label}"


def _listed(labels: Sequence[int], tiles: Tiles) -> str:
    names = [(class_name(tiles, label), str(label)) for label in labels]
    return ", ".join(name if name == label else f"{name} ({label})" for name, label in names)


def _alike(one: Tiles, other: Tiles) -> bool:
    return one.images.shape == other.images.shape and np.array_equal(one.labels, other.labels)


def _of_one_seed(folder: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that have images, with the cells of that seed that has most of them: along a row the noise is one."""
    cells: dict[Seed, dict[int, str]] = {}
    store = Store(folder)
    for place, members in rows["members"].items():
        for member in members:
            if member["status"] == "ok" and store.samples(member["cell_id"]).is_file():
                cells.setdefault(seed_of(member), {})[place] = member["cell_id"]
    of_seed = max(cells.values(), key=len, default={})
    return rows.loc[list(of_seed)].assign(cell_id=list(of_seed.values()))
