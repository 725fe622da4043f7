"""Several seeds of one experiment as one row: the mean, its standard error over seeds, and the best of them."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cfgbench.report.columns import POINT, SEEDS, comparable
from cfgbench.report.words import ERRORS, INFINITY, METRICS, joined, known, number, runs
from cfgbench.sweep.row import Row

_MEANS = (*(metric.column for metric in (*METRICS, INFINITY)), "is_std", "seconds", "images_per_second")


def average(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows that differ only in a seed, and in what follows from it, become one.

    fid, is_mean and fid_infinity are means over the k seeds that have numbers, their `..._se` as `mean_over` has it
    (null for k = 1); `fid_min` and `is_max` are the best of k; `seeds` is k, `asked_seeds` all seeds asked for,
    `shortfall` says which have no numbers and why; `members` are the rows themselves, as dictionaries; a seed's own
    column lists all seeds. What else there is (cell_id, so the images) is the first seed's that has numbers.

    Rows of whose kind no point has two seeds stay as they are, with `seeds` 1 or 0, no `asked_seeds`, and one member.
    """
    groups = comparable(rows, without=tuple(SEEDS))
    return pd.concat([_merged(group) if _several(group) else _single(group) for group in groups], ignore_index=True)


def at_shared_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of `average`, those of systems that were sampled at different seeds over the seeds that all of them have, so
    that they may stand side by side. Systems that have the same seeds, or none in common, keep theirs."""
    groups = comparable(rows, without=(*SEEDS, "system"))
    return pd.concat(map(_at_shared, groups), ignore_index=True)


def _at_shared(group: pd.DataFrame) -> pd.DataFrame:
    held = {
        system: {seed_of(member) for members in of_system["members"] for member in members}
        for system, of_system in group.groupby("system")
    }
    shared = set.intersection(*held.values())
    if not shared or all(seeds == shared for seeds in held.values()):
        return group
    members = [member for members in group["members"] for member in members if seed_of(member) in shared]
    return average(pd.DataFrame(members))


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


def other_seeds(curve: Sequence[Row]) -> list[bool]:
    """Of each point of a curve, whether it is a mean over other seeds than most of its points: as long as a sweep runs,
    or where a cell failed. Which point is best such a number does not tell: seeds may lie further apart than points."""
    held = [frozenset(seed_of(member) for member in row["members"] if member["status"] == "ok") for row in curve]
    counts = Counter(seeds for seeds in held if seeds)
    usual = max(counts, key=lambda seeds: (counts[seeds], len(seeds)), default=frozenset())
    return [bool(seeds) and seeds != usual for seeds in held]


class Mean(NamedTuple):
    """A mean over seeds, its standard error (NaN for one value), and the degrees of freedom of that."""

    value: float
    se: float
    freedom: float


def alike_noise(seeds: Sequence[Seed]) -> bool:
    """Whether trainings differ, and the noise of their images does not: what that does to all of them alike is not in
    the spread of their numbers."""
    trainings, samplings = distinct(seeds)
    return len(trainings) > 1 and len(samplings) == 1


def mean_over(seeds: Sequence[Seed], values: np.ndarray, images: float = 0.0) -> Mean:
    """The mean of `values`, found with these `seeds`, and its error: std / sqrt(k) with k - 1.

    Where the noise of all trainings is alike (see alike_noise), its part in the variance of the mean is `images`, which
    is taken for known.

    Where trainings and draws of noise both vary, two values of one training, or of the same noise, are not independent.
    The variance is then that of means over trainings, plus that of means over noise, less that of single values, which
    is in both (Cameron, Gelbach & Miller 2011); it is no less than either. Its degrees of freedom are Satterthwaite's,
    at most one fewer than there are trainings. 1.96 of such errors (see differences.sigmas) hold the truth 95 to 99
    times in 100; 91 with two draws of noise that matter as much as ten trainings.
    """
    if len(values) < 2:
        return Mean(float(values[0]) if len(values) else np.nan, np.nan, np.nan)
    from_first = values - values[0]  # equal values have an error of exactly 0
    kinds = [_numbered([seed.training for seed in seeds]), _numbered([seed.sampling for seed in seeds])]
    counts = [kind.max() + 1 for kind in kinds]
    mean, free = float(values.mean()), len(values) - 1
    single = float(from_first.var(ddof=1) / len(values))
    if min(counts) == 1:
        variance = single + (images if counts[0] > 1 else 0.0)
        known_part = np.inf if variance else free
        return Mean(mean, np.sqrt(variance), free * (variance / single) ** 2 if single else known_part)
    parts = [_clustered(from_first, kind) for kind in kinds]
    variance = max(*parts, sum(parts) - single)
    doubt = sum(part**2 / (count - 1) for part, count in zip(parts, counts, strict=True))
    freedom = variance**2 / doubt if doubt else free
    return Mean(mean, np.sqrt(variance), float(np.clip(freedom, min(counts) - 1, counts[0] - 1)))


def _numbered(keys: Sequence[Hashable]) -> np.ndarray:
    """0, 1 ... for the keys, equal ones alike."""
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys])


def _clustered(values: np.ndarray, groups: np.ndarray) -> float:
    """The variance of the mean where only the groups are independent of each other."""
    sums = np.bincount(groups, weights=values - values.mean())
    return float(len(sums) / (len(sums) - 1) * (sums**2).sum() / len(values) ** 2)


def seeds_phrase(seeds: Sequence[Seed]) -> str:
    """`3 seeds (0, 1, 2)`, `48 seeds (0 to 47)`; where two kinds of seeds vary `4 pairs of seeds (training 0, 1;
    sampling 0, 1)`."""
    varying = {kind: held for kind, held in zip(Seed._fields, distinct(seeds), strict=True) if len(held) > 1}
    if len(varying) == 1:
        (held,) = varying.values()
        return f"{len(held)} seeds ({_listed(held)})"
    words = [f"{kind} {_listed(held)}" for kind, held in varying.items()]
    return f"{len(seeds)} pairs of seeds ({'; '.join(words)})"


def _listed(seeds: Iterable[int | None]) -> str:
    return runs(list(map(_text, seeds)))


def _text(seed: int | None) -> str:
    """A column of seeds some of which are not known has them as floats."""
    return "" if seed is None else str(int(seed))


def _several(group: pd.DataFrame) -> bool:
    return bool(group.groupby(list(POINT), dropna=False).size().max() > 1)


def _single(group: pd.DataFrame) -> pd.DataFrame:
    more = {"seeds": (group["status"] == "ok").astype(int), "shortfall": None}
    more |= {metric.extreme: group[metric.column] for metric in METRICS if metric.column in group}
    members = [(member,) for member in group.to_dict("records")]
    return group.assign(**more, members=_column(members, group), asked_seeds=_column([()] * len(group), group))


def _merged(group: pd.DataFrame) -> pd.DataFrame:
    seeds = [key for key in SEEDS if key in group]
    point = group.groupby(list(POINT), dropna=False, sort=False).ngroup().to_numpy()
    order = group.reset_index(drop=True).sort_values(seeds, kind="stable").index
    points: list[list[dict[str, Any]]] = [[] for _ in range(point.max() + 1)]
    for place, member in zip(point[order], group.iloc[order].to_dict("records"), strict=True):
        points[place].append(member)
    asked = sorted({seed_of(member) for members in points for member in members}, key=_in_order)
    varying = {key: _listed(sorted(group[key].dropna().unique())) for key in seeds if group[key].nunique() > 1}
    return pd.DataFrame([_point(members, asked) | varying for members in points])


def _point(members: Sequence[dict[str, Any]], asked: Sequence[Seed]) -> dict[str, Any]:
    """One row for the rows of one point, which are in order of their seeds; `asked` are all seeds asked for."""
    ok = [member for member in members if member["status"] == "ok"]
    point = (ok or members)[0] | {column: _mean(_numbers(ok, column)) for column in _MEANS if column in members[0]}
    for metric in (*METRICS, INFINITY):
        values = _numbers(ok, metric.column)
        point[metric.se] = mean_of(ok, metric.column).se
        if metric.extreme:
            point[metric.extreme] = getattr(np, metric.best)(values) if len(values) else np.nan
    without = _shortfall(members, asked)
    return point | {
        "seeds": len(ok),
        "asked_seeds": tuple(asked),
        "members": tuple(members),
        "shortfall": f"mean over {len(ok)} of {len(asked)} seeds; {without}" if len(ok) and without else None,
        "reason": None if len(ok) else without,
    }


def _numbers(rows: Sequence[Row], column: str) -> np.ndarray:
    """What the rows have there, of those that have a number."""
    values = np.array([number(row, column) for row in rows])
    return values[~np.isnan(values)]


def mean_of(rows: Sequence[Row], column: str) -> Mean:
    """The mean over those rows that have a number there. Where their noise is alike, its part in the error is that of a
    single row, as far as rows have one: no less than that of their mean, which only influences tell."""
    there = [row for row in rows if not np.isnan(number(row, column))]
    single = _numbers(there, ERRORS.get(column, ""))
    images = float(np.mean(single**2)) if len(single) else 0.0
    return mean_over([seed_of(row) for row in there], _numbers(there, column), images)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else np.nan


def _shortfall(rows: Sequence[Row], asked: Sequence[Seed]) -> str:
    """The seeds that have no numbers, and why: `seeds 1 and 2: out of memory; seed 3: not run`."""
    there = {seed_of(row): row for row in rows}
    seeds_of: dict[str, list[str]] = {}
    for seed in asked:
        row = there.get(seed)
        if row is None or row["status"] != "ok":
            why = "not run" if row is None else known(row.get("reason")) or "failed without a reason"
            seeds_of.setdefault(why, []).append(_short(seed, asked))
    return "; ".join(f"seed{'s' * (len(them) > 1)} {joined(them)}: {why}" for why, them in seeds_of.items())


def _short(seed: Seed, seeds: Sequence[Seed]) -> str:
    """Of a seed what differs among the seeds."""
    return "/".join(_text(part) for part, held in zip(seed, distinct(seeds), strict=True) if len(held) > 1)


def _in_order(seed: Seed) -> tuple[int, ...]:
    return tuple(-1 if part is None else part for part in seed)


def _column(values: Sequence[Any], rows: pd.DataFrame) -> pd.Series:
    """Values that are tuples as a column."""
    return pd.Series(list(values), index=rows.index, dtype=object)
