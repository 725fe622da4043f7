"""One's own images: a folder with one sub-folder per class, or a zip of that. Nothing is extracted to disk."""

import copy
import io
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np
from PIL import Image

from cfgbench.data.images import Images, choose_classes, share
from cfgbench.errors import UserError
from cfgbench.spec import Dataset

SUFFIXES = {".png", ".jpg", ".jpeg"}
LARGEST_SIDE = 16384
"""Pixels; a larger image is taken for a decompression bomb, as Pillow takes one of more than 179 million pixels."""
LARGEST_FILE = 1 << 28
"""Bytes."""


class Source(Protocol):
    """Files by their path inside the data set; a stamp changes when the file does."""

    where: str

    def names(self) -> Iterable[str]: ...

    def read(self, name: str) -> bytes: ...

    def stamp(self, name: str) -> tuple[int, int]: ...

    def has(self, folder: str) -> bool: ...

    def below(self, folder: str) -> "Source": ...


class _Folder:
    def __init__(self, root: Path) -> None:
        self.root, self.where = root, str(root)

    def names(self) -> Iterable[str]:
        return _files(self.root)

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def stamp(self, name: str) -> tuple[int, int]:
        status = (self.root / name).stat()
        return status.st_size, status.st_mtime_ns

    def has(self, folder: str) -> bool:
        return (self.root / folder).is_dir()

    def below(self, folder: str) -> Source:
        return _Folder(self.root / folder)


def _files(folder: Path, prefix: str = "", above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[str]:
    """All files below a folder, through links too, unless a link leads back to a folder that it is in."""
    try:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in above:
            return
        above |= {(status.st_dev, status.st_ino)}
        with os.scandir(folder) as scanned:
            entries = list(scanned)
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror})") from None
    for entry in entries:
        if entry.is_file():
            yield prefix + entry.name
        elif entry.is_dir():
            yield from _files(folder / entry.name, f"{prefix}{entry.name}/", above)


class _Zip:
    def __init__(self, path: Path) -> None:
        self.where, self.prefix = str(path), ""
        try:
            self.archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, ValueError) as error:
            raise UserError(f"{path}: neither a folder nor a whole zip file ({error})") from None

    def names(self) -> Iterable[str]:
        for entry in self.archive.infolist():
            name = PurePosixPath(entry.filename)
            if name.is_absolute() or ".." in name.parts or "\\" in entry.filename:
                raise UserError(f"{self.where}: {entry.filename!r} climbs out of the archive; make the zip anew")
            if not entry.is_dir() and entry.filename.startswith(self.prefix):
                yield entry.filename.removeprefix(self.prefix)

    def read(self, name: str) -> bytes:
        if self.archive.getinfo(self.prefix + name).file_size > LARGEST_FILE:
            raise ValueError(f"larger than {LARGEST_FILE} bytes")
        return self.archive.read(self.prefix + name)

    def stamp(self, name: str) -> tuple[int, int]:
        entry = self.archive.getinfo(self.prefix + name)
        return entry.file_size, entry.CRC

    def has(self, folder: str) -> bool:
        return any(name.startswith(f"{self.prefix}{folder}/") for name in self.archive.namelist())

    def below(self, folder: str) -> Source:
        inner = copy.copy(self)
        inner.prefix, inner.where = f"{self.prefix}{folder}/", f"{self.where}/{folder}"
        return inner


def load_folder(dataset: Dataset) -> Images:
    """PNG and JPEG, grey or RGB; if one is RGB all are. Raises UserError naming the file that cannot be used."""
    if dataset.path is None:
        raise UserError("dataset.path: missing; name a folder with one sub-folder per class, or a zip of that")
    try:
        source = open_source(dataset.path)
    except UserError as error:
        raise UserError(f"dataset.path = {error}") from None
    classes = files_by_class(source, dataset.split)
    known = sorted(classes)
    names = [known[i] for i in choose_classes(dataset.classes, known)]
    for name in names:
        if not classes[name]:
            raise UserError(f"{source.where}: class {name} has no images (PNG or JPEG)")
    counts = share(dataset.limit, [len(classes[name]) for name in names])
    files = [(file, label) for label, name in enumerate(names) for file in sorted(classes[name])[: counts[label]]]
    images = [_fit(decode(source, file), dataset.resolution) for file, _ in files]
    _check_sizes(source, [file for file, _ in files], images)
    if any(image.mode == "RGB" for image in images):
        images = [image.convert("RGB") for image in images]
    pixels = np.stack([np.asarray(image) for image in images])
    pixels = pixels[:, None] if pixels.ndim == 3 else np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    labels = np.array([label for _, label in files], dtype=np.int64)
    flips = True if dataset.flip is None else dataset.flip
    return Images("folder", pixels, labels, _readable(source, names), flips=flips)


def open_source(path: Path) -> Source:
    """The folder or zip at this path. Raises UserError for anything else."""
    if path.is_dir():
        return _Folder(path)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    return _Zip(path)


def files_by_class(source: Source, split: str | None) -> dict[str, list[str]]:
    """The image files of each class: of `split`/class/... where a split is given, else of class/..."""
    depth = 1 if split else 0
    classes: dict[str, list[str]] = {}
    splits = set()
    for name in source.names():
        parts = PurePosixPath(name).parts
        if any(part.startswith((".", "__MACOSX")) for part in parts):
            continue
        if len(parts) > 1:
            splits.add(parts[0])
        if len(parts) < depth + 2 or (split and parts[0] != split):
            continue
        members = classes.setdefault(parts[depth], [])
        if PurePosixPath(name).suffix.lower() in SUFFIXES:
            members.append(name)
    if isinstance(source, _Folder):
        root = source.root / split if split else source.root
        for folder in root.iterdir() if root.is_dir() else ():
            if folder.is_dir() and not folder.name.startswith("."):
                classes.setdefault(folder.name, [])
    if not classes and split:
        raise UserError(
            f"dataset.split = {split}: not in {source.where}; it has {', '.join(sorted(splits)) or 'nothing'}"
        )
    if not classes:
        raise UserError(f"dataset.path = {source.where}: no class; it needs one sub-folder of images per class")
    return classes


def decode(source: Source, name: str) -> Image.Image:
    """A PNG or JPEG as grey (L) or RGB. Raises UserError naming the file."""
    try:
        with Image.open(io.BytesIO(source.read(name)), formats=["PNG", "JPEG"]) as image:
            if max(image.size) > LARGEST_SIDE:
                raise ValueError(f"{image.size[0]} x {image.size[1]} pixels; at most {LARGEST_SIDE} a side are read")
            grey = image.mode in ("1", "L", "LA", "I", "I;16", "F")
            image = image.convert("L" if grey else "RGB")
    except (OSError, ValueError, SyntaxError, RuntimeError, zipfile.BadZipFile, zlib.error, NotImplementedError,
            Image.DecompressionBombError) as error:  # fmt: skip
        reason = "not a PNG or JPEG" if "cannot identify" in str(error) else " ".join(str(error).split())[:100]
        raise UserError(
            f"{source.where}: {name}: cannot be read as an image ({reason}); replace or remove it"
        ) from None
    return image


def _fit(image: Image.Image, side: int | None) -> Image.Image:
    """The middle square, brought to side x side by averaging areas; the image itself without a side."""
    return image if side is None else average_areas(middle_square(image), side)


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
    means = np.einsum("in,nm...,jm->ij...", weights, np.asarray(square, np.float64), weights, optimize=True)
    return Image.fromarray(np.rint(means).astype(np.uint8))


def _check_sizes(source: Source, files: list[str], images: list[Image.Image]) -> None:
    width, height = images[0].size
    for file, image in zip(files, images, strict=True):
        if image.size != (width, height) or width != height:
            raise UserError(
                f"{source.where}: {file}: {image.size[0]} x {image.size[1]} pixels, where {files[0]} has "
                f"{width} x {height}; set dataset.resolution to bring all to one square size"
            )


def _readable(source: Source, names: list[str]) -> tuple[str, ...]:
    """The classes' names from a classes.tsv (id, tab, name) at the top, where there is one."""
    try:
        lines = source.read("classes.tsv").decode().splitlines()
    except (OSError, KeyError, ValueError):
        return tuple(names)
    table = dict(line.split("\t", 1) for line in lines if "\t" in line)
    return tuple(table.get(name, name).split(",")[0] for name in names)
