"""The one type that comes out of every data set."""

import hashlib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from cfgbench.data.mixture import Mixture
from cfgbench.errors import UserError, brief
from cfgbench.spec import Dataset


@dataclass(frozen=True)
class Images:
    """Images [n, ch, h, w] uint8 with labels [n] int64 in 0 .. classes - 1, every class present.

    `flips` says whether a mirrored image is as good as the original. Raises ValueError for arrays of another kind or
    shape and for labels out of range, and UserError for an empty class.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    flips: bool
    known_content: str | None = field(default=None, repr=False, compare=False)
    """The content hash where it was computed before; such images may be mapped from a file larger than memory."""
    mixture: Mixture | None = field(default=None, repr=False, compare=False)
    """The law that the images were drawn from, where it is known."""
    ignored: int = field(default=0, repr=False, compare=False)
    """Files beside them that were passed over: no part of the data's identity."""

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise ValueError(f"images {self.images.shape} of {self.images.dtype}; they are [n, ch, h, w] of uint8")
        one_each = self.images.shape[:1]
        if self.labels.dtype != np.int64 or self.labels.shape != one_each:
            raise ValueError(f"labels {self.labels.shape} of {self.labels.dtype}; they are {one_each} of int64")
        outside = self.labels[(self.labels < 0) | (self.labels >= self.num_classes)]
        if len(outside):
            raise ValueError(f"label {outside[0]}; those of {self.num_classes} classes are 0 to {self.num_classes - 1}")
        counts = np.bincount(self.labels, minlength=self.num_classes)
        if not counts.all():
            raise UserError(f"dataset: class {self.class_names[int(counts.argmin())]} has no images")

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @cached_property
    def content(self) -> str:
        """SHA-256 over shape, pixels, labels and class names: the data's identity, wherever it lies; with the law that
        they were drawn from, over that too."""
        content = self.known_content or content_of(self.images.shape, [self.images], self.labels, self.class_names)
        return hashlib.sha256(f"{content} {self.mixture.digest}".encode()).hexdigest() if self.mixture else content


def content_of(
    shape: tuple[int, ...], batches: Iterable[np.ndarray], labels: np.ndarray, class_names: tuple[str, ...]
) -> str:
    """The hash that `Images.content` is, of images that come batch by batch."""
    digest = hashlib.sha256(repr((shape, class_names)).encode())
    for batch in batches:
        digest.update(np.ascontiguousarray(batch).data)
    digest.update(np.ascontiguousarray(labels).data)
    return digest.hexdigest()


def choose_classes(wanted: int | list[str] | None, known: list[str]) -> list[int]:
    """Positions in `known` of what `dataset.classes` asks for: the first N, or by name. Raises UserError."""
    if wanted is None:
        return list(range(len(known)))
    if isinstance(wanted, int):
        if wanted > len(known):
            raise UserError(f"dataset.classes = {wanted}: there are only {len(known)}")
        return list(range(wanted))
    wanted = [composed(name) for name in wanted]
    for name in wanted:
        if name not in known:
            raise UserError(f"dataset.classes = {name[:60]}: no such class; there are {', '.join(known[:20])}")
    if len(set(wanted)) < len(wanted):
        raise UserError(f"dataset.classes = {brief(wanted)}: a class stands there twice")
    return [known.index(name) for name in wanted]


def chosen_of(dataset: Dataset, pixels: np.ndarray, labels: np.ndarray, names: list[str]) -> Images:
    """Of a data set that comes as a whole, what `dataset.classes` and `dataset.limit` ask for; never flipped unless
    asked. Raises UserError."""
    chosen = choose_classes(dataset.classes, names)
    positions, labels = select(labels, chosen, dataset.limit)
    return Images(dataset.name, pixels[positions], labels, tuple(names[i] for i in chosen), flips=bool(dataset.flip))


def composed(name: str) -> str:
    """The name with each letter and its accent as one, as it is typed: a Mac's folders have them as two."""
    return unicodedata.normalize("NFC", name)


def in_order(names: Iterable[str]) -> list[str]:
    """Sorted by what is typed, so that a Mac's copy of a folder is the same data set."""
    return sorted(names, key=lambda name: (composed(name), name))


def counts_per_class(limit: int | None, sizes: list[int]) -> list[int]:
    """How many of each class to take so that there are at most `limit` in all, evenly. Raises UserError."""
    if limit is None:
        return sizes
    if limit < len(sizes):
        raise UserError(f"dataset.limit = {limit}: {len(sizes)} classes need at least one image each")
    taken = [0] * len(sizes)
    while limit > 0 and taken != sizes:
        open_classes = [i for i, size in enumerate(sizes) if taken[i] < size]
        each = max(1, limit // len(open_classes))
        for i in open_classes[:limit]:
            more = min(each, sizes[i] - taken[i])
            taken[i] += more
            limit -= more
    return taken


def select(labels: np.ndarray, chosen: list[int], limit: int | None) -> tuple[np.ndarray, np.ndarray]:
    """(positions in the source's order, new labels 0, 1, ...) of the chosen classes, at most `limit`, evenly."""
    members = [np.flatnonzero(labels == position) for position in chosen]
    counts = counts_per_class(limit, [len(member) for member in members])
    positions = np.concatenate([member[:count] for member, count in zip(members, counts, strict=True)])
    new = np.repeat(np.arange(len(chosen), dtype=np.int64), counts)
    order = np.argsort(positions, kind="stable")
    return positions[order], new[order]
