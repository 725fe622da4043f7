"""Images made anywhere, as they pass by batch by batch: an .npz, a folder, a zip, or a data set."""

import contextlib
import hashlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from jaxtyping import Int

from cfgbench import npz
from cfgbench.data.images import Images
from cfgbench.data.pictures import decode, hidden, is_picture, side_by_side
from cfgbench.data.sources import check_there, open_source
from cfgbench.errors import UserError

LARGEST_BATCH = 1 << 28
"""Bytes."""
LARGEST_SIDE = 4096
LEAST_OF_A_PART = 4
"""Images: FID∞ takes some of each part in each of four quarters."""
GREY = "where these features look at grey images"


@dataclass(frozen=True)
class ImageBatches:
    """`count` images of one `shape` (ch, h, w); `batches(size)` gives them as uint8 [b, ch, h, w], in an order that
    `order` names. Batches of large images are smaller than `size`: none has more than LARGEST_BATCH bytes. `ignored`
    counts the files beside them that are no PNG or JPEG. `content` is the hash of a data set's (see `Images`). `labels`
    number what parts the images, from 0 on: their sub-folders, or `arr_1`."""

    name: str
    count: int
    shape: tuple[int, int, int]
    order: str
    batches: Callable[[int], Iterator[np.ndarray]]
    ignored: int = 0
    content: str | None = None
    labels: Int[np.ndarray, "n"] | None = None

    @property
    def shares(self) -> Literal["equal", "unequal"] | None:
        """Whether all parts have as many images, or one more, and so many that each quarter of the images has some of
        each; None where there is one part, or none is known."""
        counts = np.bincount([] if self.labels is None else self.labels)
        if len(counts) < 2:
            return None
        return "equal" if counts.min() >= LEAST_OF_A_PART and np.ptp(counts) <= 1 else "unequal"


def of_images(images: Images, first: int = 0) -> ImageBatches:
    """A data set's images in its own order, from the one with the index `first` on."""
    pixels = images.images[first:]

    def batches(size: int) -> Iterator[np.ndarray]:
        size = _bounded(size, pixels.shape[1:])
        # a copy of each batch: what is mapped from a file cannot be written, and torch wants what can
        return (np.array(pixels[first : first + size]) for first in range(0, len(pixels), size))

    return ImageBatches(images.name, len(pixels), pixels.shape[1:], "index order", batches, content=images.content)


def open_images(path: Path, *, channels: int = 3) -> ImageBatches:
    """The images at a path: `arr_0` of an .npz, as ADM writes it, or all PNG and JPEG files of a folder or zip. They
    are parted by `arr_1`, or by sub-folders.

    `arr_0` is uint8, [n, h, w, ch] or [n, h, w], `arr_1` whole numbers [n], or nothing. Files are read
    as grey or as colours, as `channels` says. Raises UserError naming the file.
    """
    check_there(path)
    return _from_npz(path, channels) if path.suffix.lower() == ".npz" else _from_files(path, channels)


def _from_npz(path: Path, wanted: int) -> ImageBatches:
    there = npz.members(path)
    if {"mu", "sigma"} <= there.keys() and "arr_0" not in there:
        raise UserError(f"{path}: holds statistics, not images; name it as --reference, and the images before it")
    if "arr_0" not in there:
        names = ", ".join(there)[:100]
        raise UserError(f"{path}: has no array arr_0 of images; it has {names}; save them under that name")
    shape, dtype = npz.header(path, "arr_0")
    if dtype != np.uint8 or len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)):
        belong = "images [n, height, width, 1 or 3] of uint8 belong"
        raise UserError(f"{path}: arr_0 {shape} of {dtype}, where {belong}{_way_out(path, shape, dtype)}")
    height, width, channels = (*shape[1:], 1)[:3]
    _check_side(f"{path}: arr_0", height, width)
    kept = min(channels, wanted)

    def batches(size: int) -> Iterator[np.ndarray]:
        size = _bounded(size, shape[1:])
        for rows in npz.rows(path, "arr_0", size):
            images = rows.reshape(-1, height, width, channels)
            if kept < channels and (images != images[..., :1]).any():
                raise UserError(f"{path}: arr_0: coloured, {GREY}")
            yield np.array(images[..., :kept].transpose(0, 3, 1, 2), order="C")

    labels = _labels_in(path, shape[0]) if "arr_1" in there else None
    return ImageBatches(path.name, shape[0], (kept, height, width), "index order", batches, labels=labels)


def _labels_in(path: Path, count: int) -> Int[np.ndarray, "n"] | None:
    """What `arr_1` says of so many images: their classes, as ADM writes it; others write anything or nothing there."""
    with contextlib.suppress(UserError):
        labels = npz.array(path, "arr_1")
        if labels.shape == (count,) and labels.dtype.kind in "iu":
            return np.unique(labels, return_inverse=True)[1]
    return None


def _way_out(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> str:
    """What makes such images of an array that holds images otherwise."""
    if len(shape) not in (3, 4):
        return ""
    ways = []
    if len(shape) == 4 and shape[3] not in (1, 3):
        if shape[1] in (1, 3):
            ways.append("transpose (0, 2, 3, 1)")
        elif shape[3] == 4:
            ways.append("leave out the fourth channel")
    if dtype != np.uint8:
        ways.append("multiply by 255 and round" if _within_one(path, shape, dtype) else "convert to uint8, 0 to 255")
    return "".join(f"; {way}" for way in ways)


def _within_one(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> bool:
    """Whether arr_0 holds floats, all in 0 .. 1: they are looked at in pieces that fit into memory."""
    row = math.prod(shape[1:]) * dtype.itemsize
    if dtype.kind != "f" or not 0 < row <= LARGEST_BATCH:
        return False
    return all(rows.min() >= 0 and rows.max() <= 1 for rows in npz.rows(path, "arr_0", LARGEST_BATCH // row))


def _from_files(path: Path, channels: int) -> ImageBatches:
    """Files come in an order shuffled by the hash of their names: in order of names, each of the Inception Score's
    splits would hold a few classes only. Folders that hold all of them do not count: a zip of a folder itself has the
    splits of that folder."""
    source = open_source(path)
    there = list(source.names())
    files = [name for name in there if is_picture(name)]
    ignored = sum(not any(map(hidden, PurePosixPath(name).parts)) for name in there) - len(files)
    outer = os.path.commonprefix(files).rfind("/") + 1  # noqa: RUF071, cut where a folder ends
    files.sort(key=lambda name: hashlib.sha256(name[outer:].encode("utf-8", "surrogateescape")).digest())
    if not files:
        raise UserError(f"{path}: no PNG or JPEG in it")
    width, height = decode(source, files[0], check=lambda size: _check_side(f"{source.where}: {files[0]}", *size)).size

    def read(name: str) -> np.ndarray:
        def check(size: tuple[int, int]) -> None:
            if size != (width, height):
                said = f"{size[0]} x {size[1]} pixels, where {files[0]} has {width} x {height}"
                raise UserError(f"{source.where}: {name}: {said}; bring all to one size")

        image = decode(source, name, check=check)
        if channels == 3:
            return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
        pixels = np.atleast_3d(np.asarray(image))
        if (pixels != pixels[..., :1]).any():
            raise UserError(f"{source.where}: {name}: coloured, {GREY}")
        return pixels[..., :1].transpose(2, 0, 1)  # of three that are equal, as many programs save grey

    def batches(size: int) -> Iterator[np.ndarray]:
        return map(np.stack, side_by_side(read, files, _bounded(size, (channels, height, width))))

    labels = np.unique([str(PurePosixPath(name).parent) for name in files], return_inverse=True)[1]
    shape = channels, height, width
    return ImageBatches(path.name, len(files), shape, "shuffled order", batches, ignored, labels=labels)


def _bounded(size: int, shape: tuple[int, ...]) -> int:
    """A batch's size, made smaller where images of this shape would fill the memory."""
    return max(1, min(size, LARGEST_BATCH // math.prod(shape)))


def _check_side(where: str, *sides: int) -> None:
    if not all(1 <= side <= LARGEST_SIDE for side in sides):
        raise UserError(f"{where}: images of {' x '.join(map(str, sides))} pixels; at most {LARGEST_SIDE} a side")
