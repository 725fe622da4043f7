"""A PNG or JPEG as pixels, and made square and smaller."""

import io
import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import TypeVar

import numpy as np
from PIL import Image

from cfgbench import machine
from cfgbench.data.sources import Source
from cfgbench.errors import UserError, reason

T = TypeVar("T")

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # what it warns of is refused below

SUFFIXES = {".png", ".jpg", ".jpeg"}
MOST_PIXELS = 1 << 26
"""An image of more (8192 x 8192) is taken for a decompression bomb."""


def hidden(name: str) -> bool:
    """Whether a file or folder of this name is no part of a data set: `.DS_Store`, what a Mac adds to a zip."""
    return name.startswith((".", "__MACOSX"))


def is_picture(path: str) -> bool:
    """Whether the path inside a source names an image, and nothing on the way is hidden."""
    inside = PurePosixPath(path)
    return inside.suffix.lower() in SUFFIXES and not any(map(hidden, inside.parts))


def decode(source: Source, name: str, *, check: Callable[[tuple[int, int]], None] = lambda _: None) -> Image.Image:
    """A PNG or JPEG as grey (L) or RGB. Raises UserError naming the file. `check` sees its size before its pixels are
    made, and may refuse it with a UserError."""
    try:
        with Image.open(io.BytesIO(source.read(name)), formats=["PNG", "JPEG"]) as image:
            if image.size[0] * image.size[1] > MOST_PIXELS:
                raise ValueError(f"{image.size[0]} x {image.size[1]} pixels; at most {MOST_PIXELS:,} in all are read")
            check(image.size)
            deep = np.asarray(image, dtype=np.uint32) if image.mode.startswith("I") else None
            whole = image.convert("RGBA") if deep is None and image.has_transparency_data else image
            clear = whole.mode == "RGBA" and whole.getchannel("A").getextrema()[0] < 255
            if clear or (deep is not None and (deep == image.info.get("transparency")).any()):
                raise UserError(f"{source.where}: {name}: has transparent pixels; lay it on a background of one colour")
            if deep is not None:  # grey of 16 bits, which Pillow would cut off at 255
                return Image.fromarray(((deep + 128) // 257).astype(np.uint8))
            if image.mode in ("1", "L", "LA"):
                return whole.convert("L")
            coloured = whole.convert("RGB")
            colours = coloured.getcolors(256) if image.mode == "P" else None
            greys = colours and all(red == green == blue for _, (red, green, blue) in colours)
            return coloured.getchannel(0) if greys else coloured
    except UserError:
        raise
    except Exception as error:  # damaged images and zips fail in many ways, all of which mean the same
        why = "not a PNG or JPEG" if "cannot identify" in str(error) else reason(error)
        raise UserError(f"{source.where}: {name}: cannot be read as an image ({why}); replace or remove it") from None


def side_by_side(read: Callable[[str], T], files: Sequence[str], size: int) -> Iterator[list[T]]:
    """What `read` gives of each file, in batches of at most `size`."""
    with ThreadPoolExecutor(machine.processors()) as pool:  # decoding leaves Python's lock
        for first in range(0, len(files), size):
            yield list(pool.map(read, files[first : first + size]))


def middle_square(image: Image.Image) -> Image.Image:
    """The largest square around the middle."""
    short = min(image.size)
    left, top = (image.size[0] - short) // 2, (image.size[1] - short) // 2
    return image.crop((left, top, left + short, top + short))


def average_areas(square: Image.Image, side: int) -> Image.Image:
    """Each pixel of the result is the mean over its area of the square, as TensorFlow's resize has it (method `area`).

    A pixel of the square on the border of two counts for each by the part that lies in it; Pillow's box filter gives
    it to one of them whole, which is the same only where `side` divides the square's.
    """
    edges = np.linspace(0, square.size[0], side + 1)
    pixels = np.arange(square.size[0])
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights = np.clip(overlap, 0, None) * (side / square.size[0])
    whole = np.asarray(square)
    rows = np.empty((side, *whole.shape[1:]))
    for row, (begin, end) in enumerate(itertools.pairwise(edges)):  # a few rows are numbers at a time, not the whole
        inside = slice(int(begin), math.ceil(end))
        rows[row] = np.tensordot(weights[row, inside], whole[inside].astype(np.float64), 1)
    means = np.einsum("jm,im...->ij...", weights, rows, optimize=True)
    return Image.fromarray(np.rint(means.round(9)).astype(np.uint8))  # a half is one, however sums are rounded
