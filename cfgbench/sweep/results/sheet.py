"""A cell's sheet of sample images, as PNG that says what its tiles are."""

import io
import json
from collections.abc import Sequence

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cfgbench.data import Images

SHEET_COLUMNS = 10
"""Classes that a cell's sheet shows, at most."""
SHEET_ROWS = 4
"""Images kept of each class that a cell's sheet shows."""


def sheet_indices(samples: int, num_classes: int, shown: Sequence[int]) -> np.ndarray:
    """Image indices [rows, columns], increasing: a column a class that is shown, row r its r-th image."""
    columns = [c for c in shown if c < samples] or [0]
    rows = max(1, min(SHEET_ROWS, samples // num_classes))
    return np.arange(rows)[:, None] * num_classes + np.array(columns)


def sheet_png(kept: np.ndarray, sheet: np.ndarray, images: Images) -> bytes:
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
