"""The seeds of rows: which they are, how they are told, and the error of a mean over them."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from cfgbench.evaluation.columns import ERROR_OF
from cfgbench.report.rows.columns import SEEDS
from cfgbench.report.rows.doubt import Doubt, Part
from cfgbench.report.words import known, number, numbers, runs
from cfgbench.sweep.results.row import Row


class Seed(NamedTuple):
    """The seed of a row's training, and that of its images' noise; None where it is not known."""

    training: int | None = None
    sampling: int | None = None


def seed_of(row: Row) -> Seed:
    """The seeds of one row, by which the rows of two points are paired."""
    return Seed(**{drawn: seed for key, drawn in SEEDS.items() if (seed := known(row.get(key))) is not None})


def distinct(seeds: Sequence[Seed]) -> tuple[list[int | None], list[int | None]]:
    """The seeds of training and those of sampling, each once and in their order."""
    return [*dict.fromkeys(seed.training for seed in seeds)], [*dict.fromkeys(seed.sampling for seed in seeds)]


def vary_twice(seeds: Sequence[Seed]) -> bool:
    """Whether both kinds of seed vary."""
    return all(len(held) > 1 for held in distinct(seeds))


def other_seeds(curve: Iterable[Iterable[Row]]) -> list[bool]:
    """Of each point of a curve, given by its members, whether its FID (or what there is, where there is none) is a mean
    over other seeds than most of the points': as long as a sweep runs, where a cell failed, or where FID is measured
    later. Which point is best such a number does not tell: seeds may lie further apart than points."""
    points = [list(members) for members in curve]
    held = [frozenset(map(seed_of, measured(members, "fid"))) for members in points]
    held = held if any(held) else list(map(with_numbers, points))
    usual = usual_of(held)
    return [bool(seeds) and seeds != usual for seeds in held]


def with_numbers(members: Iterable[Row]) -> frozenset[Seed]:
    """The seeds of those rows that have numbers."""
    return frozenset(seed_of(member) for member in members if member["status"] == "ok")


def measured(members: Iterable[Row], column: str) -> list[Row]:
    """Those rows that have a number there: a metric that a sweep was given later not all seeds have yet."""
    return [member for member in members if member["status"] == "ok" and not np.isnan(number(member, column))]


def usual_of(held: Iterable[frozenset[Seed]]) -> frozenset[Seed]:
    """The seeds that most points have; of several the most seeds."""
    counts = Counter(seeds for seeds in held if seeds)
    return max(counts, key=lambda seeds: (counts[seeds], len(seeds)), default=frozenset())


class Mean(NamedTuple):
    """A mean over seeds, its standard error (NaN for one value), and what that is made of."""

    value: float
    se: float
    doubt: Doubt


def alike_noise(seeds: Sequence[Seed]) -> bool:
    """Whether trainings differ, and the noise of their images does not: what that does to all of them alike is not in
    the spread of their numbers."""
    trainings, samplings = distinct(seeds)
    return len(trainings) > 1 and len(samplings) == 1


def alike_network(seeds: Sequence[Seed]) -> bool:
    """Whether draws of noise differ, and trainings do not: the images of each are then a sample of their own from one
    network, and their number tells how far chance goes."""
    trainings, samplings = distinct(seeds)
    return len(trainings) == 1 and len(samplings) > 1


def mean_over(seeds: Sequence[Seed], values: np.ndarray, images: float = np.nan) -> Mean:
    """The mean of `values`, found with these `seeds`, and its error: std / sqrt(k) with k - 1.

    `images` is what the images' own chance has in the variance of the mean, where that is known and seeds do not tell
    it. Where the noise of all trainings is alike (see alike_noise), it is added; without it the standard error lacks
    that part. Where the network is (see alike_network), it is the whole: images are many, and seeds few.

    Where trainings and draws of noise both vary, two values of one training, or of the same noise, are not independent.
    The variance is then that of leaving out a training, plus that of leaving out a draw of noise, less what is in both:
    that of single values (Cameron, Gelbach & Miller 2011), or where each training has each draw that of what is left of
    them beside both. It is no less than either. Each has as many degrees of freedom as there are groups, less one;
    groups of different sizes count as n^2 / sum of n_g^2. What `doubt` reaches holds the truth 94 to 100 times in 100.
    """
    if len(values) < 2:
        return Mean(float(values[0]) if len(values) else np.nan, np.nan, Doubt(images=Part(np.nan)))
    from_first = values - values[0]  # equal values have an error of exactly 0
    trainings, noise = (_numbered(kind) for kind in zip(*seeds, strict=True))
    mean = float(values.mean())
    single = Part(float(from_first.var(ddof=1) / len(values)), len(values) - 1)
    if not trainings.any():
        doubt = Doubt(noise=single) if np.isnan(images) else Doubt(images=Part(images))
        return Mean(mean, float(np.sqrt(sum(part.variance for part in doubt))), doubt)
    if not noise.any():
        se = np.sqrt(np.nansum([single.variance, images]))
        return Mean(mean, float(se), Doubt(trainings=single, images=Part(images)))
    if (trainings == noise).all():  # a draw of its own for each training
        return Mean(mean, np.sqrt(single.variance), Doubt(trainings=single))
    doubt = Doubt(_left_out(from_first, trainings), _left_out(from_first, noise))
    of_trainings, of_noise = doubt.trainings.variance, doubt.noise.variance
    beside = _beside(from_first, trainings, noise)
    in_both = single.variance if beside is None else beside
    variance = max(of_trainings, of_noise, of_trainings + of_noise - in_both)
    return Mean(mean, np.sqrt(variance), doubt)


def _numbered(keys: Sequence[Hashable]) -> np.ndarray:
    """0, 1 ... for the keys, equal ones alike."""
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys])


def _beside(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> float | None:
    """The variance of the mean by what is left of the values beside the means of their rows and columns (the residual
    mean square of a two-way layout over their number); None where the table has gaps."""
    table = np.full((rows.max() + 1, columns.max() + 1), np.nan)
    table[rows, columns] = values
    if np.isnan(table).any():
        return None
    left = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    return float((left**2).sum()) / freedom / table.size


def _left_out(values: np.ndarray, groups: np.ndarray) -> Part:
    """The variance of the mean where only the groups are independent of each other: the jackknife over groups."""
    sizes, sums = np.bincount(groups), np.bincount(groups, weights=values)
    without = (values.sum() - sums) / (len(values) - sizes)
    variance = (len(sizes) - 1) / len(sizes) * float(((without - values.mean()) ** 2).sum())
    return Part(variance, max(1.0, len(values) ** 2 / float((sizes**2).sum()) - 1))


def seeds_phrase(seeds: Sequence[Seed]) -> str:
    """`3 seeds (0, 1, 2)`, `48 seeds (0 to 47)`; where two kinds of seeds vary `4 pairs of seeds (training 0, 1;
    sampling 0, 1)`."""
    varying = {kind: held for kind, held in zip(Seed._fields, distinct(seeds), strict=True) if len(held) > 1}
    if len(varying) == 1:
        (held,) = varying.values()
        return f"{len(held)} seeds ({listed(held)})"
    words = [f"{kind} {listed(held)}" for kind, held in varying.items()]
    return f"{len(seeds)} pairs of seeds ({'; '.join(words)})"


def mean_phrase(seeds: Sequence[Seed]) -> str:
    """`mean of 3 seeds`, `mean of 4 pairs of seeds`."""
    return f"mean of {seeds_phrase(seeds).partition(' (')[0]}"


def listed(seeds: Iterable[int | None]) -> str:
    """`0 to 47`, `0, 2`."""
    return runs(list(map(_text, seeds)))


def _text(seed: int | None) -> str:
    """A column of seeds some of which are not known has them as floats."""
    return "" if seed is None else str(int(seed))


def mean_of(rows: Sequence[Row], column: str) -> Mean:
    """The mean over those rows that have a number there. Where their network is alike, the error is that of all their
    images, if each row has its own. Where their noise is alike, its part in the error is that of a single row, of those
    that have one: no less than that of their mean, which only influences tell."""
    there = [row for row in rows if not np.isnan(number(row, column))]
    seeds, single = [seed_of(row) for row in there], numbers(there, ERROR_OF.get(column, ""))
    images = float(np.mean(single**2)) if len(single) else np.nan
    if alike_network(seeds):
        images = images / len(there) if len(single) == len(there) else np.nan
    return mean_over(seeds, numbers(there, column), images)


def differing(seed: Seed, seeds: Sequence[Seed]) -> str:
    """Of a seed what differs among the seeds."""
    return "/".join(_text(part) for part, held in zip(seed, distinct(seeds), strict=True) if len(held) > 1)
