"""Batches of features in, statistics out, in memory that does not grow with the number of images."""

from cfgbench.evaluation.extractors import Features
from cfgbench.evaluation.statistics import Moments, Predictions

SPLITS = 10


class Accumulator:
    """The moments of all features, and the predictions of ten consecutive splits of `total` images.

    The borders are floor(split * total / 10), those of the published evaluators; a batch that spans one is divided.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.moments = Moments.empty()
        self.predictions = [Predictions.empty() for _ in range(SPLITS)]
        self._borders = [split * total // SPLITS for split in range(SPLITS + 1)]

    def add(self, first: int, features: Features) -> None:
        """Takes in the images first, first + 1, ...; batches may come in any order, each image once.

        Raises ValueError for images beyond `total`, and for numbers that are not finite.
        """
        if first < 0 or first + len(features.pooled) > self.total:
            raise ValueError(f"images {first} to {first + len(features.pooled) - 1} of {self.total}")
        self.moments = self.moments.merge(Moments.of(features.pooled))
        if features.logits is None:
            return
        for split, (begin, end) in enumerate(zip(self._borders, self._borders[1:], strict=False)):
            inside = features.logits[max(0, begin - first) : max(0, end - first)]
            if len(inside):
                self.predictions[split] = self.predictions[split].merge(Predictions.of(inside))
