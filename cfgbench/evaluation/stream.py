"""Batches of features in, statistics out, in memory that does not grow with the number of images."""

import numpy as np
import torch
from jaxtyping import Int

from cfgbench.evaluation.extractors import Features
from cfgbench.evaluation.statistics import Moments, Predictions

SPLITS = 10
QUARTERS = 4


class Accumulator:
    """The moments of four quarters of the images, and the predictions of ten consecutive splits.

    Image i belongs to `quarters[i]`. The splits' borders are floor(split * total / 10), those of the published
    evaluators; a batch that spans one is divided.
    """

    def __init__(self, quarters: Int[np.ndarray, "n"]) -> None:
        self.total = len(quarters)
        self.quarters = torch.from_numpy(quarters)
        self.moments_of_quarters = [Moments.empty() for _ in range(QUARTERS)]
        self.predictions = [Predictions.empty() for _ in range(SPLITS)]
        self._borders = [split * self.total // SPLITS for split in range(SPLITS + 1)]

    @property
    def moments(self) -> Moments:
        """Of all images."""
        return self.part(1, 0)

    def part(self, count: int, number: int) -> Moments:
        """Of part `number` of `count` equal ones: of the whole (1), a half (2) or a quarter (4)."""
        merged = Moments.empty()
        for moments in self.moments_of_quarters[number::count]:
            merged = merged.merge(moments)
        return merged

    def add(self, first: int, features: Features) -> None:
        """Takes in the images first, first + 1, ...; batches may come in any order, each image once.

        Raises ValueError for images beyond the total, and for numbers that are not finite.
        """
        stop = first + len(features.pooled)
        if first < 0 or stop > self.total:
            raise ValueError(f"images {first} to {stop - 1} of {self.total}")
        mine = self.quarters[first:stop]
        for quarter in range(QUARTERS):
            moments = Moments.of(features.pooled[mine == quarter])
            self.moments_of_quarters[quarter] = self.moments_of_quarters[quarter].merge(moments)
        if features.logits is None:
            return
        for split, (begin, end) in enumerate(zip(self._borders, self._borders[1:], strict=False)):
            inside = features.logits[max(0, begin - first) : max(0, end - first)]
            if len(inside):
                self.predictions[split] = self.predictions[split].merge(Predictions.of(inside))


def quarters_of(total: int, labels: Int[np.ndarray, "n"] | None) -> Int[np.ndarray, "n"]:
    """Which of four equal parts each image is in, 0 to 3; a half is two of them.

    Where the classes are known each part has its share of each, in turn; where they are not the images are dealt out
    in an order that is always the same and has nothing to do with theirs, which may be that of the classes.
    """
    if labels is None:
        return np.random.Generator(np.random.Philox(0)).permutation(total) % QUARTERS
    order = np.argsort(labels, kind="stable")
    rank = np.empty(total, dtype=np.int64)
    firsts = np.concatenate([[0], np.cumsum(np.bincount(labels))])
    rank[order] = np.arange(total) - firsts[labels[order]]
    # classes begin with different quarters, so that the parts are equally large even with few images a class
    return (rank + labels) % QUARTERS
