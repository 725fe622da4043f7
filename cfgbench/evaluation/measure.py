"""All numbers of a set of images, with their errors, from two passes over its features."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cfgbench.evaluation.accumulator import REST, SPLITS, Accumulator, quarters_of
from cfgbench.evaluation.columns import ERROR_OF
from cfgbench.evaluation.features import Features
from cfgbench.evaluation.influence import QuadraticForm, fid_influence, is_influence
from cfgbench.evaluation.metrics import factor, frechet_distance, inception_score
from cfgbench.evaluation.standard_error import standard_error
from cfgbench.evaluation.statistics import Moments, Predictions

Blocks = Callable[[], Iterator[tuple[int, Features]]]
"""Gives (index of the first image, features) of consecutive images, from the first to the last, whenever called."""

INTERCEPTS = {2: {1: 2.0, 2: -1.0}, 4: {1: 1.0, 2: 0.5, 4: -0.5}}
r"""The value at 1/n = 0 of the least-squares line through the mean FIDs of the whole, its halves and its quarters, as
weights of these means: for x = 1, 2, 4 (in units of 1/n) they are 1/3 - mean(x) (x - mean(x)) / sum (x - mean(x))^2."""
LEAST_IN_A_PART = 2
"""Times the dimensions: FID grows like a line in 1/n only where the covariance is well determined."""


@dataclass(frozen=True)
class Measurement:
    """The numbers by the names of their columns, None for what cannot be said; the moments; how far each image pulls
    the FID (`fid`) and the Inception Score (`is_mean`), [n] each, where that can be said; and the predictions of all
    images together, where there is a score."""

    numbers: dict[str, float | None]
    moments: Moments
    influences: dict[str, np.ndarray] = field(default_factory=dict)
    predictions: Predictions | None = None


def measure(
    blocks: Blocks,
    total: int,
    *,
    fid_against: Moments | None,
    inception: bool,
    labels: Int[np.ndarray, "n"] | None = None,
) -> Measurement:
    """FID against these moments and the Inception Score, where they are asked for, with their errors.

    `labels` are the images' classes where their shares are fixed (see `standard_error`). The numbers depend on the
    features alone, to the last bit if the blocks are the same. Raises ValueError for features that are not finite,
    where a number is not, and for other than `total` images.
    """
    quarters = quarters_of(total, labels)
    accumulator = Accumulator(quarters)
    for first, features in blocks():
        accumulator.add(first, features)
    moments = accumulator.moments
    if moments.n != total:
        raise ValueError(f"{moments.n} images, not {total}")
    numbers: dict[str, float | None] = {}
    fid = None if fid_against is None else _Fid(accumulator, moments, fid_against)
    if inception := inception and all(split.n for split in accumulator.predictions):
        numbers["is_mean"], numbers["is_std"] = inception_score(accumulator.predictions)
    influences = _influences(blocks, accumulator, fid, inception=inception)
    if fid is not None:
        numbers |= {"fid": fid.value, "fid_infinity": fid.infinity}
    for column, q in influences.items():
        dealt = quarters != REST if column == "fid_infinity" else np.full(total, True)
        fixed = labels if labels is None or column != "is_mean" else _fixed_in_splits(labels, accumulator)
        numbers[ERROR_OF[column]] = standard_error(q[dealt], None if fixed is None else fixed[dealt])
    influences.pop("fid_infinity", None)
    for column, value in numbers.items():
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{column} is {value}")
    return Measurement(numbers, moments, influences, accumulator.together if inception else None)


class _Fid:
    """FID, its extrapolation, and the influence functions of both."""

    def __init__(self, accumulator: Accumulator, moments: Moments, reference: Moments) -> None:
        """`moments` are those of all images."""
        self.quarters, self._reference, self._root = accumulator.quarters, reference, factor(reference.covariance)
        self.value, self.influence = self._measured(moments)
        self.infinity: float | None = None
        self.of_parts: list[QuadraticForm] = []
        """The influence on the extrapolation, of the images of each part."""
        if count := _parts(accumulator.dealt, len(reference.mean)):
            whole = moments if accumulator.dealt == accumulator.total else None
            self._extrapolate(accumulator, count, whole)

    def _measured(self, samples: Moments) -> tuple[float, QuadraticForm | None]:
        """Their FID, and the influence on it; None where that cannot be said."""
        try:
            influence, eigenvalues = fid_influence(samples, self._reference.mean, self._root)
        except ValueError:
            return frechet_distance(samples, self._reference), None
        return frechet_distance(samples, self._reference, eigenvalues), influence

    def _extrapolate(self, accumulator: Accumulator, count: int, whole: Moments | None) -> None:
        """From `count` parts; `whole` are the moments of all of them, where those are known."""
        self.infinity = 0.0
        forms: dict[tuple[int, int], QuadraticForm | None] = {}
        for k, weight in INTERCEPTS[count].items():
            for number in range(k):
                known = k == 1 and whole is not None
                part = whole if known else accumulator.part(k, number)
                value, form = (self.value, self.influence) if known else self._measured(part)
                self.infinity += weight * value / k
                forms[k, number] = form and replace(form, constant=-form.mean(part))  # q_i less its mean
        if all(forms.values()):
            for number in range(count):
                weighted = [(weight, forms[k, number % k]) for k, weight in INTERCEPTS[count].items()]
                self.of_parts.append(QuadraticForm.weighted(weighted))

    def of(self, first: int, pooled: Float[Tensor, "n d"]) -> dict[str, Tensor]:
        """The influences of these images, on the FID and on its extrapolation."""
        if self.influence is None:
            return {}
        found = {"fid": self.influence.of(pooled)}
        if self.of_parts:
            found["fid_infinity"] = torch.zeros(len(pooled), dtype=torch.float64)
            quarters = self.quarters[first : first + len(pooled)]
            for number, form in enumerate(self.of_parts):
                inside = (quarters != REST) & (quarters % len(self.of_parts) == number)
                found["fid_infinity"][inside] = form.of(pooled[inside])
        return found


def _parts(total: int, d: int) -> int:
    """Into how many parts the images may be divided for the extrapolation: 4, 2, or 0 where there are too few."""
    return next((parts for parts in (4, 2) if total // parts >= LEAST_IN_A_PART * d), 0)


def _influences(
    blocks: Blocks, accumulator: Accumulator, fid: _Fid | None, *, inception: bool
) -> dict[str, np.ndarray]:
    """The influences [n] of all images, from a second pass."""
    found: dict[str, np.ndarray] = {}
    if not inception and (fid is None or fid.influence is None):
        return found
    for first, features in blocks():
        parts = fid.of(first, features.pooled) if fid is not None else {}
        if inception:
            parts["is_mean"] = _on_the_score(accumulator, first, features.logits)
        for column, q in parts.items():
            found.setdefault(column, np.empty(accumulator.total))[first : first + len(q)] = q.numpy()
    return found


def _fixed_in_splits(labels: Int[np.ndarray, "n"], accumulator: Accumulator) -> Int[np.ndarray, "n"]:
    """The classes, parted by how many of its class an image's split holds, which is no chance either: where classes do
    not divide a split some have one more in it, and a sure extractor's images there pull the score less. The classes
    as they are where a part would have a single image."""
    held = np.empty_like(labels)
    for _, inside in accumulator.by_split(0, len(labels)):
        held[inside] = np.bincount(labels[inside])[labels[inside]]
    _, parts, counts = np.unique(labels * (len(labels) + 1) + held, return_inverse=True, return_counts=True)
    return parts if counts.min() > 1 else labels


def _on_the_score(accumulator: Accumulator, first: int, logits: Float[Tensor, "n k"]) -> Tensor:
    """The influences of these images on the mean of the splits' Inception Scores."""
    found = torch.empty(len(logits), dtype=torch.float64)
    for number, inside in accumulator.by_split(first, len(logits)):
        split = accumulator.predictions[number]
        found[inside] = accumulator.total / (SPLITS * split.n) * is_influence(logits[inside], split)
    return found
