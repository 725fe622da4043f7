"""ImageNet at 64x64 and 128x128: the downsampled data set's npz batches, or an ILSVRC2012 tree that is scaled here.

FIDs of the two are not comparable, nor those of different scalings; the choice is part of the data's identity. Nor need
their classes have the same numbers: the batches bring theirs, 1 to 1000; a tree's go by its folders' sorted names.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from cfgbench import npz
from cfgbench.data.cache import Prepared, prepared
from cfgbench.data.images import Images, choose_classes, composed, in_order, select
from cfgbench.data.pictures import average_areas, decode, hidden, is_picture, middle_square, side_by_side
from cfgbench.data.sources import Source, open_source
from cfgbench.errors import UserError
from cfgbench.progress import Progress
from cfgbench.spec import Dataset

SIDES = {"imagenet64": 64, "imagenet128": 128}
CLASSES = 1000
SPLITS = {
    "train": ("train", "ILSVRC2012_img_train", "Data/CLS-LOC/train"),
    "val": ("val", "ILSVRC2012_img_val", "Data/CLS-LOC/val"),
}
"""Where a tree keeps the class folders of a split, if not at its top."""
BATCH = re.compile(r"train_data_batch_(\d+)\.npz")
"""The name of a file of the downsampled data set; a copy's, such as `train_data_batch_1 (1).npz`, is not one."""
LAYOUT = 2
"""Part of every cache's key: raised when the same source would be prepared to other pixels."""
CHUNK = 1000
"""Images that are read or decoded at a time."""


def load_imagenet(dataset: Dataset, progress: Progress, prepare: bool) -> Images:
    """Train or val split. Classes are those that have images, in the order of their labels or folder names: a part of
    ImageNet is a data set of fewer classes, numbered anew, and never one of 1000 with empty ones.

    The images are prepared once into a cache (CFGBENCH_CACHE, else the user's cache folder) and mapped from there.
    Raises UserError naming the file that cannot be used; without `prepare` Unprepared where they are not.
    """
    if dataset.path is None or not dataset.path.exists():
        raise UserError(
            f"dataset.path = {dataset.path}: not there; name the folder with train_data_batch_1.npz ... 10.npz and "
            "val_data.npz, or ILSVRC2012's folder of class folders"
        )
    source = _source(dataset)
    chosen = choose_classes(dataset.classes, source.names)
    wanted, labels = select(source.labels, chosen, dataset.limit)
    names = tuple(source.names[position] for position in chosen)
    key = [LAYOUT, source.fingerprint, names, dataset.limit]
    side = SIDES[dataset.name]
    task = Prepared(key, names, labels, (3, side, side), lambda: source.read(wanted))
    pixels, labels, content = prepared(task, dataset.name, progress, prepare=prepare)
    flips = True if dataset.flip is None else dataset.flip
    made = source.prepared + ", val" * (dataset.split == "val")
    return Images(
        f"{dataset.name} ({made})", pixels, labels, names, flips=flips, known_content=content, ignored=source.ignored
    )


def _source(dataset: Dataset) -> "_Npz | _Tree":
    """Where images come from: how they are `prepared`, what identifies them, the class of each, how many files are
    `ignored`, and `read`, which gives the pixels of those that are wanted."""
    split = dataset.split or "train"
    if split not in ("train", "val"):
        raise UserError(f"dataset.split = {split}: should be train or val")
    files = {name: _batches(dataset.path, name) for name in SPLITS}
    if not any(files.values()):
        return _Tree.found(dataset, dataset.path)
    return _Npz.found(_checked_batches(dataset, files[split], split))


def _checked_batches(dataset: Dataset, files: list[Path], split: str) -> list[Path]:
    if not files:
        there = {"train": "train_data_batch_1.npz ... 10.npz", "val": "val_data.npz"}[split]
        raise UserError(f"dataset.split = {split}: {dataset.path} has no {there}")
    if split == "train":
        there = {path.name for path in files}
        for name in (f"train_data_batch_{number}.npz" for number in range(1, len(files) + 1)):
            if name not in there:
                raise UserError(f"dataset.path = {dataset.path}: {name} is missing, where others are; fetch it")
    if dataset.name != "imagenet64":
        raise UserError(f"dataset.name = {dataset.name}: {files[0]} holds 64x64 images; take imagenet64")
    if dataset.preprocess is not None:
        raise UserError(f"dataset.preprocess: the images of {files[0]} are scaled already; remove the key")
    return files


def _batches(folder: Path, split: str) -> list[Path]:
    if folder.suffix.lower() == ".npz" and folder.is_file():
        raise UserError(f"dataset.path = {folder}: a single file; name the folder that it is in")
    if split == "val":
        return [path for path in [folder / "val_data.npz"] if path.exists()]
    numbers = {path: BATCH.fullmatch(path.name) for path in folder.glob("train_data_batch_*.npz")}
    return sorted((path for path in numbers if numbers[path]), key=lambda path: int(numbers[path][1]))


@dataclass(frozen=True)
class _Npz:
    """Batches of `data` uint8 [n, 12288] in channel planes and `labels` 1 .. 1000 (Chrabaszcz et al. 2017)."""

    files: list[Path]
    counts: list[int]
    fingerprint: list[Any]
    names: list[str]
    labels: np.ndarray
    prepared: str = "npz"
    ignored: int = 0

    @staticmethod
    def found(files: list[Path]) -> "_Npz":
        batches = [_npz_labels(path) for path in files]
        labels = np.concatenate(batches) - 1
        there = np.unique(labels)
        entries = [npz.members(path)[name] for path in files for name in ("data", "labels")]
        fingerprint = ["npz", [[entry.CRC, entry.file_size] for entry in entries]]
        position = np.zeros(CLASSES, dtype=np.int64)
        position[there] = np.arange(len(there))
        names = [str(label + 1) for label in there.tolist()]
        return _Npz(files, [len(batch) for batch in batches], fingerprint, names, position[labels])

    def read(self, wanted: np.ndarray) -> Iterator[np.ndarray]:
        first = 0
        for path, count in zip(self.files, self.counts, strict=True):
            here = wanted[(wanted >= first) & (wanted < first + count)] - first
            for number, rows in enumerate(npz.rows(path, "data", CHUNK) if len(here) else ()):
                begin = number * CHUNK
                inside = here[(here >= begin) & (here < begin + len(rows))] - begin
                if len(inside):
                    yield rows[inside].reshape(-1, 3, 64, 64)
            first += count


def _npz_labels(path: Path) -> np.ndarray:
    """The labels 1 .. 1000 of a batch, which is checked to be one."""
    labels = npz.array(path, "labels")
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels):
        raise UserError(f"{path}: labels {labels.shape} of {labels.dtype}, where a row of integers is expected")
    if labels.min() < 1 or labels.max() > CLASSES:
        raise UserError(f"{path}: labels from {labels.min()} to {labels.max()}, where 1 to {CLASSES} are expected")
    shape, dtype = npz.header(path, "data")
    if shape != (len(labels), 3 * 64 * 64) or dtype != np.uint8:
        raise UserError(f"{path}: data {shape} of {dtype}, where ({len(labels)}, {3 * 64 * 64}) of uint8 is expected")
    return labels.astype(np.int64)


@dataclass(frozen=True)
class _Tree:
    """Class folders of JPEGs, scaled by one of the recipes in the literature."""

    source: Source
    files: list[str]
    scale: Callable[[Image.Image], Image.Image]
    prepared: str
    fingerprint: list[Any]
    names: list[str]
    labels: np.ndarray
    ignored: int

    @staticmethod
    def found(dataset: Dataset, path: Path) -> "_Tree":
        source = _class_folders(open_source(path), dataset.split)
        classes: dict[str, list[str]] = {}
        ignored = 0
        for file in source.names():
            parts = PurePosixPath(file).parts
            if len(parts) == 2 and is_picture(file):
                classes.setdefault(composed(parts[0]), []).append(file)
            else:
                ignored += not any(map(hidden, parts))
        names = sorted(classes)
        if not names:
            raise UserError(
                f"dataset.path = {dataset.path}: neither npz batches nor class folders with JPEGs directly in them "
                "(n01440764/*.JPEG ...); the official validation images must be sorted into such folders first"
            )
        files = [(file, label) for label, name in enumerate(names) for file in in_order(classes[name])]
        recipe, side = dataset.preprocess or "adm", SIDES[dataset.name]
        fingerprint = ["tree", recipe, side, [[file, *source.stamp(file)] for file, _ in files]]
        labels = np.array([label for _, label in files], dtype=np.int64)
        scale = partial(SCALES[recipe], side=side)
        return _Tree(source, [file for file, _ in files], scale, recipe, fingerprint, names, labels, ignored)

    def read(self, wanted: np.ndarray) -> Iterator[np.ndarray]:
        return map(np.stack, side_by_side(self._pixels, [self.files[position] for position in wanted], CHUNK))

    def _pixels(self, file: str) -> np.ndarray:
        image = self.scale(decode(self.source, file).convert("RGB"))
        return np.asarray(image).transpose(2, 0, 1)


def _class_folders(source: Source, split: str | None) -> Source:
    """Where the class folders are: below the split's folder, or at the top where no split is asked for."""
    places = {name: next((place for place in SPLITS[name] if source.has(place)), None) for name in SPLITS}
    place = places[split or "train"]
    if place is not None:
        return source.below(place)
    if split is not None:
        wanted = ", ".join(SPLITS[split])
        raise UserError(
            f"dataset.split = {split}: {source.where} has none of the folders {wanted}; if its class folders are "
            f"the {split} split, remove the key"
        )
    if places["val"] is not None:
        raise UserError(f"dataset.split: {source.where} has {places['val']} only; set split: val")
    return source


def adm(image: Image.Image, side: int) -> Image.Image:
    """Dhariwal & Nichol 2021: halved by box as long as the short side is at least twice `side`, then bicubic to `side`,
    then the middle square."""
    while min(image.size) >= 2 * side:
        image = image.resize((image.size[0] // 2, image.size[1] // 2), Image.Resampling.BOX)
    scale = side / min(image.size)
    image = image.resize(tuple(round(length * scale) for length in image.size), Image.Resampling.BICUBIC)
    return middle_square(image)


def area(image: Image.Image, side: int) -> Image.Image:
    """The middle square, then the mean over each pixel's area, which is what "area-downsampled" says in the paper."""
    return average_areas(middle_square(image), side)


def box(image: Image.Image, side: int) -> Image.Image:
    """The whole image squeezed into a square by Pillow's box filter, as in the downsampled data set (Chrabaszcz et al.
    2017); the aspect ratio is not kept."""
    return image.resize((side, side), Image.Resampling.BOX)


SCALES: dict[str, Callable[[Image.Image, int], Image.Image]] = {"adm": adm, "area": area, "box": box}
"""The names that sweep files use."""
