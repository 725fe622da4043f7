"""Several seeds of one experiment as one row: the mean, its standard error over seeds, and the best of them."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cfgbench.report.columns import POINT, SEEDS, comparable
from cfgbench.report.doubt import Doubt, Part
from cfgbench.report.words import ERRORS, INFINITY, METRICS, as_text, joined, known, number, runs

_MEANS = (*(metric.column for metric in (*METRICS, INFINITY)), "is_std", "seconds", "images_per_second")


def average(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows that differ only in a seed, and in what follows from it, become one.

    fid, is_mean and fid_infinity are means over the k seeds that have numbers, their `..._se` as `mean_over` has it
    (null for k = 1); `fid_min` and `is_max` are the best of k; `seeds` is k, `seed_names` all seeds asked for,
    `shortfall` says which have no numbers and why; `members` are the rows themselves, as dictionaries; a seed's own
    column lists all seeds. What else there is (cell_id, so the images) is the first seed's that has numbers.

    Rows of whose kind no point has two seeds stay as they are, with `seeds` 1 or 0, no `seed_names`, and one member.
    """
    groups = comparable(rows, without=tuple(SEEDS))
    return pd.concat([_merged(group) if _several(group) else _single(group) for group in groups], ignore_index=True)


def at_shared_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of `average`, those of systems that were sampled at different seeds over the seeds that all of them have at
    most of their points, so that they may stand side by side. Systems that have the same, or none in common, keep
    theirs."""
    groups = comparable(rows, without=(*SEEDS, "system"))
    return pd.concat(map(_at_shared, groups), ignore_index=True)


def _at_shared(group: pd.DataFrame) -> pd.DataFrame:
    held = [_usual(map(_with_numbers, of_system["members"])) for _, of_system in group.groupby("system")]
    shared = frozenset.intersection(*held)
    if not shared or all(seeds == shared for seeds in held):
        return group
    members = [member for members in group["members"] for member in members if seed_of(member) in shared]
    return average(pd.DataFrame(members))


def seed_of(row: Any) -> tuple[Any, ...]:
    """The seeds of one row, by which the rows of two points are paired."""
    return tuple(known(row.get(key)) for key in SEEDS)


def other_seeds(curve: Sequence[Mapping[str, Any]]) -> list[bool]:
    """Of each point of a curve, whether it is a mean over other seeds than most of its points: as long as a sweep runs,
    or where a cell failed. Which point is best such a number does not tell: seeds may lie further apart than points."""
    held = [_with_numbers(row["members"]) for row in curve]
    usual = _usual(held)
    return [bool(seeds) and seeds != usual for seeds in held]


Seeds = frozenset[tuple[Any, ...]]


def _with_numbers(members: Iterable[Mapping[str, Any]]) -> Seeds:
    return frozenset(seed_of(member) for member in members if member["status"] == "ok")


def _usual(held: Iterable[Seeds]) -> Seeds:
    """The seeds that most points have; of several the most seeds."""
    counts = Counter(seeds for seeds in held if seeds)
    return max(counts, key=lambda seeds: (counts[seeds], len(seeds)), default=frozenset())


class Mean(NamedTuple):
    """A mean over seeds, its standard error (NaN for one value), and what that is made of."""

    value: float
    se: float
    doubt: Doubt


def alike_noise(seeds: Sequence[tuple[Hashable, ...]]) -> bool:
    """Whether trainings differ, and the noise of their images does not: what that does to all of them alike is not in
    the spread of their numbers."""
    return len({seed[:1] for seed in seeds}) > 1 and len({seed[1:] for seed in seeds}) == 1


def mean_over(seeds: Sequence[tuple[Hashable, ...]], values: np.ndarray, images: float = 0.0) -> Mean:
    """The mean of `values`, found with these `seeds` (see seed_of), and its error: std / sqrt(k) with k - 1.

    Where the noise of all trainings is alike (see alike_noise), its part in the variance of the mean is `images`, which
    is taken for known; NaN where it is not, and then it is left out of the standard error.

    Where trainings and draws of noise both vary, two values of one training, or of the same noise, are not independent.
    The variance is then that of leaving out a training, plus that of leaving out a draw of noise, less that of single
    values, which is in both (Cameron, Gelbach & Miller 2011); it is no less than either. Each has as many degrees of
    freedom as there are groups, less one; groups of different sizes count as n^2 / sum of n_g^2. What `doubt` reaches
    holds the truth 94 to 100 times in 100.
    """
    if len(values) < 2:
        return Mean(float(values[0]) if len(values) else np.nan, np.nan, Doubt(images=Part(np.nan)))
    from_first = values - values[0]  # equal values have an error of exactly 0
    trainings, noise = _numbered([seed[:1] for seed in seeds]), _numbered([seed[1:] for seed in seeds])
    mean = float(values.mean())
    single = Part(float(from_first.var(ddof=1) / len(values)), len(values) - 1)
    if not trainings.any():
        return Mean(mean, np.sqrt(single.variance), Doubt(noise=single))
    if not noise.any():
        se = np.sqrt(np.nansum([single.variance, images]))
        return Mean(mean, float(se), Doubt(trainings=single, images=Part(images)))
    if (trainings == noise).all():  # a draw of its own for each training
        return Mean(mean, np.sqrt(single.variance), Doubt(trainings=single))
    doubt = Doubt(_left_out(from_first, trainings), _left_out(from_first, noise))
    of_trainings, of_noise = doubt.trainings.variance, doubt.noise.variance
    variance = max(of_trainings, of_noise, of_trainings + of_noise - single.variance)
    return Mean(mean, np.sqrt(variance), doubt)


def _numbered(keys: Sequence[Hashable]) -> np.ndarray:
    """0, 1 ... for the keys, equal ones alike."""
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys])


def _left_out(values: np.ndarray, groups: np.ndarray) -> Part:
    """The variance of the mean where only the groups are independent of each other: the jackknife over groups."""
    sizes, sums = np.bincount(groups), np.bincount(groups, weights=values)
    without = (values.sum() - sums) / (len(values) - sizes)
    variance = (len(sizes) - 1) / len(sizes) * float(((without - values.mean()) ** 2).sum())
    return Part(variance, max(1.0, len(values) ** 2 / float((sizes**2).sum()) - 1))


def seeds_phrase(names: Sequence[tuple[str, str]]) -> str:
    """`3 seeds (0, 1, 2)`, `48 seeds (0 to 47)`; where two kinds of seeds vary `4 pairs of seeds (training 0, 1;
    sampling 0, 1)`."""
    kinds = list(zip(*names, strict=True))
    listed = [list(dict.fromkeys(values)) for values in kinds]
    if sum(len(values) > 1 for values in listed) < 2:
        values = next(values for values in listed if len(values) > 1)
        return f"{len(values)} seeds ({runs(values)})"
    words = [f"{kind} {runs(values)}" for kind, values in zip(("training", "sampling"), listed, strict=True)]
    return f"{len(names)} pairs of seeds ({'; '.join(words)})"


def _several(group: pd.DataFrame) -> bool:
    return bool(group.groupby(list(POINT), dropna=False).size().max() > 1)


def _single(group: pd.DataFrame) -> pd.DataFrame:
    more = {"seeds": (group["status"] == "ok").astype(int), "shortfall": None}
    more |= {metric.extreme: group[metric.column] for metric in METRICS if metric.column in group}
    members = [(member,) for member in group.to_dict("records")]
    return group.assign(**more, members=_column(members, group), seed_names=_column([()] * len(group), group))


def _merged(group: pd.DataFrame) -> pd.DataFrame:
    seeds = [key for key in SEEDS if key in group]
    point = group.groupby(list(POINT), dropna=False, sort=False).ngroup().to_numpy()
    order = group.reset_index(drop=True).sort_values(seeds, kind="stable").index
    points: list[list[dict[str, Any]]] = [[] for _ in range(point.max() + 1)]
    for place, member in zip(point[order], group.iloc[order].to_dict("records"), strict=True):
        points[place].append(member)
    names = sorted({_name(member) for members in points for member in members}, key=_by_number)
    varying = {key: runs(_listed(group[key])) for key in seeds if group[key].nunique() > 1}
    return pd.DataFrame([_point(members, names) | varying for members in points])


def _point(members: Sequence[dict[str, Any]], names: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """One row for the rows of one point, which are in order of their seeds."""
    ok = [member for member in members if member["status"] == "ok"]
    point = (ok or members)[0] | {column: _mean(_numbers(ok, column)) for column in _MEANS if column in members[0]}
    for metric in (*METRICS, INFINITY):
        values = _numbers(ok, metric.column)
        point[metric.se] = mean_of(ok, metric.column).se
        if metric.extreme:
            point[metric.extreme] = getattr(np, metric.best)(values) if len(values) else np.nan
    without = _shortfall(members, names)
    return point | {
        "seeds": len(ok),
        "seed_names": tuple(names),
        "members": tuple(members),
        "shortfall": f"mean over {len(ok)} of {len(names)} seeds; {without}" if len(ok) and without else None,
        "reason": None if len(ok) else without,
    }


def _numbers(rows: Sequence[Mapping[str, Any]], column: str) -> np.ndarray:
    """What the rows have there, of those that have a number."""
    values = np.array([number(row, column) for row in rows])
    return values[~np.isnan(values)]


def mean_of(rows: Sequence[Mapping[str, Any]], column: str) -> Mean:
    """The mean over those rows that have a number there. Where their noise is alike, its part in the error is that of a
    single row, of those that have one: no less than that of their mean, which only influences tell."""
    there = [row for row in rows if not np.isnan(number(row, column))]
    single = _numbers(there, ERRORS.get(column, ""))
    images = float(np.mean(single**2)) if len(single) else np.nan
    return mean_over([seed_of(row) for row in there], _numbers(there, column), images)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else np.nan


def _shortfall(rows: Sequence[dict[str, Any]], names: Sequence[tuple[str, str]]) -> str:
    """The seeds that have no numbers, and why: `seeds 1 and 2: out of memory; seed 3: not run`."""
    there = {_name(row): row for row in rows}
    seeds_of: dict[str, list[str]] = {}
    for name in names:
        row = there.get(name)
        if row is None or row["status"] != "ok":
            why = "not run" if row is None else known(row.get("reason")) or "failed without a reason"
            seeds_of.setdefault(why, []).append(_short(name, names))
    return "; ".join(f"seed{'s' * (len(them) > 1)} {joined(them)}: {why}" for why, them in seeds_of.items())


def _name(row: dict[str, Any]) -> tuple[str, str]:
    """(seed of training, seed of sampling) as text; "" where it is not known."""
    found = {kind: as_text(row[key]) for key, kind in SEEDS.items() if known(row.get(key)) is not None}
    return found.get("training", "").removesuffix(".0"), found.get("sampling", "").removesuffix(".0")


def _short(name: tuple[str, str], names: Sequence[tuple[str, str]]) -> str:
    """The part of a seed's name in which the names differ."""
    return "/".join(
        part for part, all_of_them in zip(name, zip(*names, strict=True), strict=True) if len({*all_of_them}) > 1
    )


def _by_number(name: tuple[str, str]) -> tuple[float, ...]:
    return tuple(float(part or -1) for part in name)


def _listed(column: pd.Series) -> list[str]:
    return [f"{seed:.0f}" for seed in sorted(column.astype(float).dropna().unique())]


def _column(values: Sequence[Any], rows: pd.DataFrame) -> pd.Series:
    """Values that are tuples as a column."""
    return pd.Series(list(values), index=rows.index, dtype=object)
