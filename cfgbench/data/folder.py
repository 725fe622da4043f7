"""One's own images: a folder with one sub-folder per class, or a zip of that."""

from collections.abc import Iterable
from pathlib import PurePosixPath

import numpy as np
from PIL import Image

from cfgbench import machine
from cfgbench.data.images import Images, choose_classes, counts_per_class
from cfgbench.data.pictures import average_areas, decode, hidden, is_picture, middle_square
from cfgbench.data.sources import Source, open_source
from cfgbench.errors import UserError, brief, reason
from cfgbench.spec import Dataset

LONGEST_NAME = 255
TABLE = "classes.tsv"
LARGEST_TABLE = 1 << 22
"""Bytes."""
SPLITS = "train", "training", "val", "valid", "validation", "test", "testing", "dev"
"""Folders of these names hold classes where all else in them is deeper."""


def load_folder(dataset: Dataset) -> Images:
    """PNG and JPEG, grey or RGB; if one is RGB all are. Raises UserError naming the file that cannot be used."""
    if dataset.path is None:
        raise UserError("dataset.path: missing; name a folder with one sub-folder per class, or a zip of that")
    try:
        source = open_source(dataset.path)
    except UserError as error:
        raise UserError(f"dataset.path = {error}") from None
    there = list(source.names())
    classes = files_by_class(source, there, dataset.split)
    known = sorted(classes)
    names = [known[i] for i in choose_classes(dataset.classes, known)]
    for name in names:
        if not classes[name]:
            raise UserError(f"{source.where}: class {name} has no images (PNG or JPEG)")
    called = _readable(source, _table(source, known) if TABLE in there else {}, names)
    counts = counts_per_class(dataset.limit, [len(classes[name]) for name in names])
    files = [(file, label) for label, name in enumerate(names) for file in sorted(classes[name])[: counts[label]]]
    images = _decoded(source, [file for file, _ in files], dataset.resolution)
    _check_sizes(source, [file for file, _ in files], images)
    if any(image.mode == "RGB" for image in images):
        images = [image.convert("RGB") for image in images]
    pixels = np.stack([np.asarray(image) for image in images])
    pixels = pixels[:, None] if pixels.ndim == 3 else np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    labels = np.array([label for _, label in files], dtype=np.int64)
    flips = True if dataset.flip is None else dataset.flip
    ignored = _passed_over(there, dataset.split, set(names))
    return Images("folder", pixels, labels, called, flips=flips, ignored=ignored)


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


def files_by_class(source: Source, there: Iterable[str], split: str | None) -> dict[str, list[str]]:
    """The image files of each class, of those that are there: of `split`/class/... where a split is given, else of
    class/... Raises UserError where there is no class."""
    depth = 1 if split else 0
    classes: dict[str, list[str]] = {}
    splits = set()
    for name in there:
        parts = PurePosixPath(name).parts
        if any(map(hidden, parts)):
            continue
        if len(parts) > 1:
            splits.add(parts[0])
        if len(parts) < depth + 2 or (split and parts[0] != split):
            continue
        members = classes.setdefault(parts[depth], [])
        if is_picture(name):
            members.append(name)
    for folder in (source.below(split) if split else source).folders():
        if not hidden(folder):
            classes.setdefault(folder, [])  # an empty one is said to be empty
    if not classes and split:
        raise UserError(
            f"dataset.split = {split}: not in {source.where}; it has {', '.join(sorted(splits)) or 'nothing'}"
        )
    if not classes:
        raise UserError(f"dataset.path = {source.where}: no class; it needs one sub-folder of images per class")
    _check_depth(source, classes, depth)
    return classes


def _passed_over(there: Iterable[str], split: str | None, chosen: set[str]) -> int:
    """How many files are left out: those in the chosen classes that are no images, all beside the class folders, and
    images above the split's folder. Hidden files and the table of names do not count."""
    depth, count = 1 if split else 0, 0
    for name in there:
        parts = PurePosixPath(name).parts
        if any(map(hidden, parts)) or name == TABLE:
            continue
        if split and parts[0] != split:
            count += len(parts) == 1 and is_picture(name)
        elif len(parts) < depth + 2:
            count += 1
        else:
            count += parts[depth] in chosen and not is_picture(name)
    return count


def _check_depth(source: Source, classes: dict[str, list[str]], depth: int) -> None:
    """Raises UserError where what was taken for classes are the folders of classes: one folder that holds them all, or
    train, val and the like. Images of a class may lie deeper otherwise, as in a folder `images` of it."""
    inside = {name: {PurePosixPath(file).parts[depth + 1] for file in files} for name, files in classes.items()}
    direct = any(len(PurePosixPath(file).parts) == depth + 2 for files in classes.values() for file in files)
    outer = len(classes) == 1 or all(name.casefold() in SPLITS for name in classes)
    if direct or not outer or max(map(len, inside.values())) < 2:
        return
    name = max(inside, key=lambda one: len(inside[one]))
    few = ", ".join(sorted(inside[name])[:3])
    way_out = f"name the folder {name} itself in dataset.path" if depth else f"set dataset.split: {name}"
    raise UserError(
        f"dataset.path = {source.where}: {', '.join(sorted(classes))}: taken for classes they hold no images, but "
        f"folders of them ({few}{', ...' * (len(inside[name]) > 3)}); if these are the classes, {way_out}"
    )


def _fit(image: Image.Image, side: int | None) -> Image.Image:
    """The middle square, brought to side x side by averaging areas; the image itself without a side."""
    return image if side is None else average_areas(middle_square(image), side)


def _check_sizes(source: Source, files: list[str], images: list[Image.Image]) -> None:
    width, height = images[0].size
    for file, image in zip(files, images, strict=False):
        if image.size != (width, height) or width != height:
            there = f"{image.size[0]} x {image.size[1]} pixels"
            why = "not square" if image.size == (width, height) else f"where {files[0]} has {width} x {height}"
            raise UserError(
                f"{source.where}: {file}: {there}, {why}; set dataset.resolution to bring all to one square size"
            )


def _table(source: Source, known: list[str]) -> dict[str, str]:
    """The classes' names by folder, of the table (folder, tab, words) at the top: the first of its words. Raises
    UserError for one that cannot be used: if it were left out, other names would make another data set."""
    where = f"{source.where}: {TABLE}"
    try:
        lines = source.read(TABLE, LARGEST_TABLE).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{where}: not UTF-8; save it as UTF-8, or remove it") from None
    except Exception as error:  # files and damaged zips fail in many ways, all of which mean the same
        raise UserError(f"{where}: cannot be read ({reason(error)}); replace or remove it") from None
    table: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        folder, tab, words = line.partition("\t")
        name = words.split(",")[0]
        if not tab:
            continue  # a remark
        if not name.strip():
            raise UserError(f"{where}: line {number}: {brief(line)}: no name; write one behind the tab")
        table[folder] = name
    if table.keys().isdisjoint(known):
        raise UserError(f"{where}: names none of the classes; write folder, tab, words, such as {brief(known[0])}")
    return table


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
