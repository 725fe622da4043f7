"""One's own images: a folder with one sub-folder per class, or a zip of that. Nothing is extracted to disk."""

import contextlib
import copy
import io
import os
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

import numpy as np
from PIL import Image

from cfgbench import machine
from cfgbench.data.images import Images, choose_classes, share
from cfgbench.errors import UserError, brief, reason
from cfgbench.files import open_regular, read_at_most
from cfgbench.spec import Dataset

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # what it warns of is refused below

SUFFIXES = {".png", ".jpg", ".jpeg"}
MOST_PIXELS = 1 << 26
"""An image of more (8192 x 8192) is taken for a decompression bomb."""
LARGEST_FILE = 1 << 28
"""Bytes."""
LONGEST_NAME = 255
LARGEST_TABLE = 1 << 22
"""Bytes of a classes.tsv."""
DEEPEST = 64
MOST_LINKS = 4
"""Links to folders on the way to a file: folders that link to each other have endlessly many ways through them."""
MOST_FOLDERS = 1_000_000


class Source(Protocol):
    """Files by their path inside the data set; a stamp changes when the file does."""

    where: str

    def names(self) -> Iterable[str]: ...

    def read(self, name: str, largest: int = LARGEST_FILE) -> bytes: ...

    def stamp(self, name: str) -> tuple[int, int]: ...

    def has(self, folder: str) -> bool: ...

    def below(self, folder: str) -> "Source": ...


class _Folder:
    def __init__(self, root: Path) -> None:
        self.root, self.where = root, str(root)

    def names(self) -> Iterable[str]:
        return _files(self.root, _Walk())

    def read(self, name: str, largest: int = LARGEST_FILE) -> bytes:
        return read_at_most(self.root / name, largest)

    def stamp(self, name: str) -> tuple[int, int]:
        status = (self.root / name).stat()
        return status.st_size, status.st_mtime_ns

    def has(self, folder: str) -> bool:
        return (self.root / folder).is_dir()

    def below(self, folder: str) -> Source:
        return _Folder(self.root / folder)


@dataclass
class _Walk:
    """How many folders were looked into so far."""

    folders: int = 0

    def enter(self, folder: Path, depth: int, links: int) -> None:
        """Raises UserError where there is no end in sight."""
        self.folders += 1
        if depth > DEEPEST or links > MOST_LINKS or self.folders > MOST_FOLDERS:
            raise UserError(
                f"{folder}: more than {DEEPEST} folders deep, {MOST_LINKS} links on the way or {MOST_FOLDERS:,} "
                "folders in all; name a folder that holds the images and little else"
            )


def _files(
    folder: Path, walk: _Walk, prefix: str = "", above: frozenset[tuple[int, int]] = frozenset(), links: int = 0
) -> Iterator[str]:
    """All files below a folder, through links too, unless a link leads back to a folder that it is in."""
    walk.enter(folder, len(above), links)
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
            inner = links + entry.is_symlink()
            yield from _files(folder / entry.name, walk, f"{prefix}{entry.name}/", above, inner)


class _Zip:
    def __init__(self, path: Path) -> None:
        self.where, self.prefix = str(path), ""
        try:
            self.archive = zipfile.ZipFile(open_regular(path))
        except Exception as error:  # a damaged zip fails in many ways, all of which mean the same
            raise UserError(f"{path}: neither a folder nor a whole zip file ({reason(error)})") from None

    def names(self) -> Iterable[str]:
        for entry in self.archive.infolist():
            name = PurePosixPath(entry.filename)
            if not name.parts:
                raise UserError(f"{self.where}: a file without a name; make the zip anew")
            if name.is_absolute() or ".." in name.parts or "\\" in entry.filename:
                raise UserError(f"{self.where}: {entry.filename!r} climbs out of the archive; make the zip anew")
            if not entry.filename.endswith("/") and entry.filename.startswith(self.prefix):
                yield entry.filename.removeprefix(self.prefix)

    def read(self, name: str, largest: int = LARGEST_FILE) -> bytes:
        entry = self.archive.getinfo(self.prefix + name)
        if entry.file_size > largest:
            raise ValueError(f"larger than {largest:,} bytes")
        with open_entry(self.archive, entry) as file:
            return file.read(entry.file_size + 1)  # without a number all that it inflates to would be made

    def stamp(self, name: str) -> tuple[int, int]:
        entry = self.archive.getinfo(self.prefix + name)
        return entry.file_size, entry.CRC

    def has(self, folder: str) -> bool:
        return any(name.startswith(f"{self.prefix}{folder}/") for name in self.archive.namelist())

    def below(self, folder: str) -> Source:
        inner = copy.copy(self)
        inner.prefix, inner.where = f"{self.prefix}{folder}/", f"{self.where}/{folder}"
        return inner


def open_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> IO[bytes]:
    """A file of a zip, of which no more is inflated at a time than is read. Raises ValueError where that cannot be."""
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("neither stored nor deflated; make the zip anew in the usual way")
    if entry.flag_bits & 1:
        raise ValueError("encrypted; make the zip anew without a password")
    return archive.open(entry)


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
    images = _decoded(source, [file for file, _ in files], dataset.resolution)
    _check_sizes(source, [file for file, _ in files], images)
    if any(image.mode == "RGB" for image in images):
        images = [image.convert("RGB") for image in images]
    pixels = np.stack([np.asarray(image) for image in images])
    pixels = pixels[:, None] if pixels.ndim == 3 else np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    labels = np.array([label for _, label in files], dtype=np.int64)
    flips = True if dataset.flip is None else dataset.flip
    return Images("folder", pixels, labels, _readable(source, names), flips=flips)


def _decoded(source: Source, files: list[str], side: int | None) -> list[Image.Image]:
    """All images, brought to `side`. Raises UserError where they are on the way to more than memory holds."""
    images: list[Image.Image] = []
    for file in files:
        images.append(_fit(decode(source, file), side))
        needed = 3 * images[0].size[0] * images[0].size[1] * len(files)  # in colours, as one coloured image makes all
        if needed > machine.memory() // 2:
            raise UserError(
                f"{source.where}: {len(files):,} images of {file}'s size, {needed / 1e9:,.1f} GB, are more than memory "
                "holds; set a smaller dataset.resolution, or dataset.limit"
            )
        if images[-1].size != images[0].size:
            break  # which is said next
    return images


def open_source(path: Path) -> Source:
    """The folder or zip at this path. Raises UserError for anything else."""
    try:
        if path.is_dir():
            return _Folder(path)
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({reason(error)})") from None
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


def decode(source: Source, name: str, *, check: Callable[[tuple[int, int]], None] = lambda _: None) -> Image.Image:
    """A PNG or JPEG as grey (L) or RGB. Raises UserError naming the file. `check` sees its size before its pixels are
    made, and may refuse it with a UserError."""
    try:
        with Image.open(io.BytesIO(source.read(name)), formats=["PNG", "JPEG"]) as image:
            if image.size[0] * image.size[1] > MOST_PIXELS:
                raise ValueError(f"{image.size[0]} x {image.size[1]} pixels; at most {MOST_PIXELS:,} in all are read")
            check(image.size)
            if image.mode.startswith("I"):  # grey of 16 bits, which Pillow would cut off at 255
                return Image.fromarray(((np.asarray(image, dtype=np.uint32) + 128) // 257).astype(np.uint8))
            return image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
    except UserError:
        raise
    except Exception as error:  # damaged images and zips fail in many ways, all of which mean the same
        why = "not a PNG or JPEG" if "cannot identify" in str(error) else reason(error)
        raise UserError(f"{source.where}: {name}: cannot be read as an image ({why}); replace or remove it") from None


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
    for file, image in zip(files, images, strict=False):
        if image.size != (width, height) or width != height:
            raise UserError(
                f"{source.where}: {file}: {image.size[0]} x {image.size[1]} pixels, where {files[0]} has "
                f"{width} x {height}; set dataset.resolution to bring all to one square size"
            )


def _readable(source: Source, names: list[str]) -> tuple[str, ...]:
    """The classes' names from a classes.tsv (id, tab, name) at the top, where there is one. Raises UserError for a name
    that no report could print."""
    table: dict[str, str] = {}
    with contextlib.suppress(OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error):
        lines = source.read("classes.tsv", LARGEST_TABLE).decode().splitlines()
        table = dict(line.split("\t", 1) for line in lines if "\t" in line)
    found = tuple(table.get(name, name).split(",")[0] for name in names)
    for name in found:
        if not name.isprintable() or len(name) > LONGEST_NAME:
            raise UserError(
                f"{source.where}: class {brief(name)}: a name has at most {LONGEST_NAME} visible characters; rename "
                "the folder, or its line in classes.tsv"
            )
    return found
