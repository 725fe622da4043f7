"""A cell's sheet of sample images: a PNG that says what its tiles are."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cfgbench.errors import UserError, printable, reason

if TYPE_CHECKING:
    from cfgbench.data import Images

SHEET_COLUMNS = 10
"""Classes that a cell's sheet shows, at most."""
SHEET_ROWS = 4
"""Images kept of each class that a cell's sheet shows."""
MOST_PIXELS = 1 << 26
"""Of a sheet that is read."""


@dataclass(frozen=True)
class Tiles:
    """The images kept of a cell: uint8 [rows, columns, height, width, 3]; the class of each [rows, columns]."""

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]


def sheet_indices(samples: int, num_classes: int, shown: Sequence[int]) -> np.ndarray:
    """Image indices [rows, columns], increasing: a column a class that is shown, row r its r-th image."""
    columns = [c for c in shown if c < samples] or [0]
    rows = max(1, min(SHEET_ROWS, samples // num_classes))
    return np.arange(rows)[:, None] * num_classes + np.array(columns)


def sheet_candidates(num_classes: int, shown: Sequence[int]) -> list[int]:
    """All that `sheet_indices` may give, whatever the number of samples is, increasing."""
    return sorted({0, *(row * num_classes + c for row in range(SHEET_ROWS) for c in shown)})


def sheet_png(kept: np.ndarray, sheet: np.ndarray, images: "Images") -> bytes:
    """The kept images, which come in index order as the sheet's rows do, as one PNG that says what its tiles are."""
    (rows, columns), (channels, height, width) = sheet.shape, kept.shape[1:]
    tiles = kept.reshape(rows, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    pixels = tiles.reshape(rows * height, columns * width, channels)
    notes = PngInfo()
    labels = (sheet % images.num_classes).tolist()
    layout = {"height": height, "width": width, "labels": labels, "class_names": list(images.class_names)}
    notes.add_text("cfgbench", json.dumps(layout))
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(file, "PNG", pnginfo=notes)
    return file.getvalue()


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
        names = tuple(printable(str(name)) for name in note["class_names"])
        if labels.dtype.kind not in "iu" or grid.size == 0 or labels.min() < 0:
            raise ValueError(f"labels {labels.shape} of {labels.dtype}")
    except Exception as error:  # a damaged image fails in many ways, all of which mean the same
        raise UserError(
            f"{path}: not a grid of sample images ({reason(error)}); delete it to leave that cell out"
        ) from None
    return Tiles(grid, labels, names)
