"""One's own images: a folder with one sub-folder per class, or a zip of that."""

import itertools
import posixpath
import time
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

import numpy as np
from PIL import Image

from cfgbench import machine
from cfgbench.data.images import Images, choose_classes, composed, counts_per_class, in_order
from cfgbench.data.pictures import average_areas, decode, hidden, is_picture, middle_square, side_by_side
from cfgbench.data.sources import Source, open_source
from cfgbench.errors import UserError, brief, reason
from cfgbench.progress import Progress, silent
from cfgbench.spec import Dataset

LONGEST_NAME = 255
TABLE = "classes.tsv"
LABELS = "dataset.json"
LARGEST_TABLE = 1 << 22
"""Bytes."""
SECONDS_OF_SILENCE = 1.0
AT_A_TIME = 64
"""Images that are decoded ahead of one that cannot be used."""
SPLITS = "train", "training", "val", "valid", "validation", "test", "testing", "dev"
"""Folders of these names hold classes where all else in them is deeper."""


def load_folder(dataset: Dataset, progress: Progress = silent) -> Images:
    """PNG and JPEG, grey or RGB; if one is RGB all are. Raises UserError naming the file that cannot be used."""
    if dataset.path is None:
        raise UserError("dataset.path: missing; name a folder with one sub-folder per class, or a zip of that")
    try:
        source = open_source(dataset.path)
    except UserError as error:
        raise UserError(f"dataset.path = {error}") from None
    there = list(source.names())
    asked = _split_of(dataset)
    split = next((one for one in (asked, unicodedata.normalize("NFD", asked)) if source.has(one)), "")  # a Mac's
    if asked and not split:
        raise _missing(source, asked)
    if LABELS in there or f"{split}/{LABELS}" in there:
        raise UserError(
            f"dataset.path = {source.where}: {LABELS} keeps the labels, as StyleGAN's and EDM's data sets have it, and "
            "the folders are no classes; sort the images into one folder a class, without that file"
        )
    classes = _files_by_class(source, there, split)
    known = sorted(classes)
    names = [known[i] for i in choose_classes(dataset.classes, known)]
    for name in names:
        if not classes[name]:
            way_out = "remove the folder, name the others in dataset.classes, or the folder of classes as dataset.split"
            raise UserError(f"{source.where}: class {name} has no images (PNG or JPEG); {way_out}")
    table = _table_for(there, split)
    called = _readable(source, _table(source, table, known) if table else {}, names)
    counts = counts_per_class(dataset.limit, [len(classes[name]) for name in names])
    files = [(file, label) for label, name in enumerate(names) for file in in_order(classes[name])[: counts[label]]]
    pixels = _decoded(source, [file for file, _ in files], dataset.resolution, progress)
    labels = np.array([label for _, label in files], dtype=np.int64)
    flips = True if dataset.flip is None else dataset.flip
    ignored = _passed_over([name for name in there if name != table], split, set(names))
    return Images("folder", pixels, labels, called, flips=flips, ignored=ignored)


def _decoded(source: Source, files: list[str], side: int | None, progress: Progress) -> np.ndarray:
    """All images [n, ch, h, w], brought to `side`. Raises UserError where they would be more than memory holds, or are
    of different sizes."""

    def read(file: str) -> Image.Image:
        return _fit(decode(source, file), side)

    first = read(files[0])
    _check_memory(source, files[0], first, len(files))
    pixels = np.empty((len(files), 1, *first.size[::-1]), dtype=np.uint8)
    others = itertools.chain.from_iterable(side_by_side(read, files[1:], AT_A_TIME))
    images = itertools.chain([first], others)
    task, began, told = f"read the images of {source.where}", time.monotonic(), False
    for place, (file, image) in enumerate(zip(files, images, strict=True)):
        if told := told or time.monotonic() - began >= SECONDS_OF_SILENCE:
            progress(task, place, len(files), "")
        _check_size(source, files[0], first.size, file, image)
        if image.mode == "RGB" and pixels.shape[1] == 1:  # one coloured image makes all
            pixels = np.repeat(pixels, 3, axis=1)
        pixels[place] = np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)
    if told:
        progress(task, len(files), len(files), "")
    return pixels


def _check_memory(source: Source, file: str, image: Image.Image, count: int) -> None:
    needed = 3 * image.size[0] * image.size[1] * count  # in colours
    if needed > machine.memory() // 2:
        raise UserError(
            f"{source.where}: {count:,} images of {file}'s size, {needed / 1e9:,.1f} GB, are more than memory "
            "holds; set a smaller dataset.resolution, or dataset.limit"
        )


def _split_of(dataset: Dataset) -> str:
    """The folder of the class folders, `train` or `photos/train`; empty where they lie at the top. Raises UserError for
    one that would climb out."""
    inside = PurePosixPath(dataset.split or "")
    if inside.is_absolute() or ".." in inside.parts:
        raise UserError(f"dataset.split = {dataset.split}: should be a folder in dataset.path, such as train")
    return "/".join(inside.parts)


def _missing(source: Source, split: str) -> UserError:
    """What is said of a split that is not there: what there is instead, where its path ends."""
    above = next((str(one) for one in PurePosixPath(split).parents if one.parts and source.has(str(one))), "")
    place = source.below(above) if above else source
    there = ", ".join(sorted(folder for folder in place.folders() if not hidden(folder)))
    return UserError(f"dataset.split = {split}: not in {place.where}; it has {there or 'no folders'}")


def _files_by_class(source: Source, there: Iterable[str], split: str) -> dict[str, list[str]]:
    """The image files of each class, of those that are there: of `split`/class/... where a split is given, else of
    class/... Raises UserError where there is no class."""
    top = PurePosixPath(split)
    classes: dict[str, list[str]] = {}
    for name in there:
        inside = _inside(name, top)
        if len(inside) < 2 or any(map(hidden, inside)):
            continue
        members = classes.setdefault(inside[0], [])
        if is_picture(name):
            members.append(name)
    for folder in (source.below(split) if split else source).folders():
        if not hidden(folder):
            classes.setdefault(composed(folder), [])  # an empty one is said to be empty
    if not classes:
        where = f"dataset.split = {split}: in {source.where}" if split else f"dataset.path = {source.where}"
        raise UserError(f"{where}: no class; it needs one sub-folder of images per class")
    _check_depth(source, classes, top)
    return classes


def _inside(name: str, top: PurePosixPath) -> tuple[str, ...]:
    """The parts of a file's path below a folder, composed; none for a file elsewhere."""
    parts, depth = PurePosixPath(name).parts, len(top.parts)
    return tuple(map(composed, parts[depth:])) if parts[:depth] == top.parts else ()


def _passed_over(there: Iterable[str], split: str, chosen: set[str]) -> int:
    """How many files are left out: those in the chosen classes that are no images, all beside the class folders, and
    images above the split's folder. Hidden files do not count."""
    top, count = PurePosixPath(split), 0
    for name in there:
        path, inside = PurePosixPath(name), _inside(name, top)
        if any(map(hidden, path.parts)):
            continue
        if not inside:
            count += path.parent in top.parents and is_picture(name)
        elif len(inside) == 1:
            count += 1
        else:
            count += inside[0] in chosen and not is_picture(name)
    return count


def _check_depth(source: Source, classes: dict[str, list[str]], top: PurePosixPath) -> None:
    """Raises UserError where what was taken for classes are the folders of classes: one folder that holds them all,
    however deep, or train, val and the like, alone or with others beside them. Images of a class may lie deeper
    otherwise, as in a folder `images` of it."""
    folders = {name: {"/".join(_inside(file, top)[:-1]) for file in files} for name, files in classes.items() if files}
    splits = [name for name in map(str.casefold, classes) if name in SPLITS]
    several = len(splits) > 1 and not {*SPLITS[:2]}.isdisjoint(splits)
    flat = {name for name, below in folders.items() if name in below}  # such as a `test` without labels
    if not (several or len(classes) in (1, len(splits))) or (flat and not several):
        return
    above = {name: posixpath.commonpath(below) for name, below in folders.items()}
    inside = {
        name: set() if above[name] in below else {PurePosixPath(one).relative_to(above[name]).parts[0] for one in below}
        for name, below in folders.items()
    }
    if max(map(len, inside.values()), default=0) < 2:
        return
    name = max(inside, key=lambda one: (len(inside[one]), len(classes[one])))  # more images: rather train than test
    few, deep = ", ".join(sorted(inside[name])[:3]), ", ".join(sorted({*classes} - flat))
    raise UserError(
        f"dataset.path = {source.where}: {deep}: taken for classes they hold no images, but "
        f"folders of them ({few}{', ...' * (len(inside[name]) > 3)}); if these are the classes, set dataset.split: "
        f"{top / above[name]}"
    )


def _fit(image: Image.Image, side: int | None) -> Image.Image:
    """The middle square, brought to side x side by averaging areas; the image itself without a side."""
    return image if side is None else average_areas(middle_square(image), side)


def _check_size(source: Source, first: str, size: tuple[int, int], file: str, image: Image.Image) -> None:
    """`size` is that of the `first` image."""
    width, height = size
    if image.size != size or width != height:
        there = f"{image.size[0]} x {image.size[1]} pixels"
        why = "not square" if image.size == size else f"where {first} has {width} x {height}"
        raise UserError(
            f"{source.where}: {file}: {there}, {why}; set dataset.resolution to bring all to one square size"
        )


def _table_for(there: Iterable[str], split: str) -> str | None:
    """The table of names nearest to the class folders, beside them or above: a zip may hold a folder that has it."""
    top = PurePosixPath(split)
    places = [str(folder / TABLE) for folder in (top, *top.parents)]
    return next((place for place in places if place in there), None)


def _table(source: Source, table: str, known: list[str]) -> dict[str, str]:
    """The classes' names by folder, of this table (folder, tab, words): the first of its words. Raises UserError for
    one that cannot be used: if it were left out, other names would make another data set."""
    where = f"{source.where}: {table}"
    try:
        lines = source.read(table, LARGEST_TABLE).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{where}: not UTF-8; save it as UTF-8, or remove it") from None
    except Exception as error:  # files and damaged zips fail in many ways, all of which mean the same
        raise UserError(f"{where}: cannot be read ({reason(error)}); replace or remove it") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        folder, tab, words = line.partition("\t")
        name = words.split(",")[0].strip()
        if not tab:
            continue  # a remark
        if not name:
            raise UserError(f"{where}: line {number}: {brief(line)}: no name; write one behind the tab")
        found[composed(folder)] = name
    if found.keys().isdisjoint(known):
        raise UserError(f"{where}: names none of the classes; write folder, tab, words, such as {brief(known[0])}")
    return found


def _readable(source: Source, table: dict[str, str], names: list[str]) -> tuple[str, ...]:
    """The classes' names by the table; a folder's own name, whole, where it has none. Raises UserError for a name that
    no report could print."""
    found = tuple(table.get(name, name) for name in names)
    for name in found:
        if not name.isprintable() or len(name) > LONGEST_NAME:
            raise UserError(
                f"{source.where}: class {brief(name)}: a name has at most {LONGEST_NAME} visible characters; rename "
                f"the folder, or its line in {TABLE}"
            )
    return found
