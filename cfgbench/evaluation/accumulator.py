"""Batches of features in, statistics out, in memory that does not grow with the number of images."""

import functools
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Int

from cfgbench.evaluation.features import Features
from cfgbench.evaluation.statistics import Moments, Predictions, RunningMoments

SPLITS = 10
QUARTERS = 4
REST = QUARTERS
"""In the place of a quarter: none of them."""


class Accumulator:
    """The moments of four quarters of the images, and the predictions of ten consecutive splits.

    Image i belongs to `quarters[i]`, or to none of them where that is REST. The splits' borders are floor(split * total
    / 10), those of the published evaluators; a batch that spans one is divided.
    """

    def __init__(self, quarters: Int[np.ndarray, "n"]) -> None:
        self.total = len(quarters)
        self.quarters = torch.from_numpy(quarters)
        self._moments = [RunningMoments() for _ in range(QUARTERS + 1)]
        self.predictions = [Predictions.empty() for _ in range(SPLITS)]
        self._borders = [split * self.total // SPLITS for split in range(SPLITS + 1)]

    @property
    def moments(self) -> Moments:
        """Of all images."""
        return _merged(self._moments)

    @property
    def together(self) -> Predictions:
        """Of all images."""
        return functools.reduce(Predictions.merge, self.predictions)

    @property
    def dealt(self) -> int:
        """How many images are in one of the quarters."""
        return int((self.quarters != REST).sum())

    def part(self, count: int, number: int) -> Moments:
        """Of part `number` of `count` equal ones: of all quarters (1), a half (2) or a quarter (4)."""
        return _merged(self._moments[:REST][number::count])

    def add(self, first: int, features: Features) -> None:
        """Takes in the images first, first + 1, ...; batches may come in any order, each image once.

        Raises ValueError for images beyond the total, and for numbers that are not finite.
        """
        stop = first + len(features.pooled)
        if first < 0 or stop > self.total:
            raise ValueError(f"images {first} to {stop - 1} of {self.total}")
        mine = self.quarters[first:stop]
        for quarter in mine.unique().tolist():
            self._moments[quarter].add(features.pooled[mine == quarter])
        if features.logits is None:
            return
        for split, inside in self.by_split(first, stop - first):
            self.predictions[split] = self.predictions[split].merge(Predictions.of(features.logits[inside]))

    def by_split(self, first: int, count: int) -> Iterator[tuple[int, slice]]:
        """(number of a split, where in the images first, first + 1, ... its own are), of those that have some."""
        for split, (begin, end) in enumerate(itertools.pairwise(self._borders)):
            inside = slice(max(0, begin - first), min(count, end - first))
            if inside.start < inside.stop:
                yield split, inside


def _merged(parts: Sequence[RunningMoments]) -> Moments:
    return functools.reduce(Moments.merge, (part.moments for part in parts), Moments.empty())


def quarters_of(total: int, labels: Int[np.ndarray, "n"] | None) -> Int[np.ndarray, "n"]:
    """Which of four equal parts each image is in, 0 to 3; a half is two of them. REST are the images in none.

    Where the classes are known each part has its share of each, in turn, and what is left over is in none: parts whose
    shares differ would differ by how far the classes lie apart, which more images do not change. Classes of as many
    images, or one more, have equally many in the parts. Where classes are not known the images are dealt out in an
    order that is always the same and has nothing to do with theirs, which may be that of the classes.
    """
    if labels is None:
        return np.random.Generator(np.random.Philox(0)).permutation(total) % QUARTERS
    order = np.argsort(labels, kind="stable")
    rank = np.empty(total, dtype=np.int64)
    counts = np.bincount(labels)
    rank[order] = np.arange(total) - (np.cumsum(counts) - counts)[labels[order]]
    each = counts // QUARTERS
    present = counts > 0
    if present.any() and np.ptp(counts[present]) <= 1:
        each[:] = each[present].min()
    return np.where(rank < QUARTERS * each[labels], (rank + labels) % QUARTERS, REST)
