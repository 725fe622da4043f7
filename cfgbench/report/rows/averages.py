"""Several seeds of one experiment as one row: the mean, its standard error, and the best of them."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cfgbench.report.rows.columns import PLANE, POINT, SEEDS, comparable
from cfgbench.report.rows.seeds import (
    Seed,
    differing,
    listed,
    mean_of,
    measured,
    seed_of,
    usual_of,
    vary_twice,
    with_numbers,
)
from cfgbench.report.words import INFINITY, METRICS, joined, numbers, why_failed
from cfgbench.sweep.results.row import Row

_GIVEN = ("guidance", "on", "system", "knob", "at", "shared", "mark")
"""What a row may have been given after its seeds were averaged, as one from which another system begins."""


def average(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows that differ only in a seed, and in what follows from it, become one.

    fid, is_mean and fid_infinity are means over the k seeds that have numbers, their `..._se` as `mean_of` has it
    (null for k = 1); `fid_min` and `is_max` are the best of k; `seeds` is k, `asked_seeds` all seeds asked for,
    `shortfall` says which have no numbers and why, and of which metric fewer have one; `members` are the rows
    themselves, as dictionaries; a seed's own column lists all seeds. What else there is (cell_id, so the images) is the
    first seed's that has numbers.

    Rows of whose kind and T no point has two seeds stay as they are, with `seeds` 1 or 0, no `asked_seeds`, and one
    member. A point that has more seeds than most of its curve is taken at theirs; `unused` counts its other rows.
    """
    groups = comparable(rows, without=tuple(SEEDS))
    of_steps = [part for group in groups for _, part in group.groupby("T", dropna=False, sort=False)]
    kept = map(_at_usual_seeds, of_steps)
    return pd.concat([_merged(group) if _several(group) else _single(group) for group in kept], ignore_index=True)


def at_seeds(rows: pd.DataFrame, seeds: frozenset[Seed]) -> pd.DataFrame:
    """Rows of `average` over these seeds alone; without those that have none of them."""
    records = rows[["members", *(key for key in _GIVEN if key in rows)]].to_dict("records")
    kept = [(row, member) for row in records for member in row.pop("members") if seed_of(member) in seeds]
    return average(pd.DataFrame([member | row for row, member in kept])) if kept else rows[:0]


def at_shared_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of `average`, those of systems that were sampled at different seeds over the seeds that all of them have at
    most of their points of one p_uncond and T, so that they may stand side by side. Systems that have the same, or none
    in common, keep theirs."""
    groups = comparable(rows, without=(*SEEDS, "system"))
    places = [place for group in groups for _, place in group.groupby(list(PLANE[1:]), dropna=False, sort=False)]
    return pd.concat([shared_by(place, "system") for place in places], ignore_index=True)


def shared_by(group: pd.DataFrame, key: str) -> pd.DataFrame:
    """Rows of `average` over the seeds that those of each value of `key` have at most of their points; those of values
    that have none of the usual seeds as they are, and all where the others have the same, or none in common."""
    held = [(alike, usual_of(map(with_numbers, alike["members"]))) for _, alike in group.groupby(key, dropna=False)]
    usual = usual_of(seeds for _, seeds in held)
    meeting = [(alike, seeds) for alike, seeds in held if seeds & usual]
    shared = frozenset.intersection(*(seeds for _, seeds in meeting)) if meeting else frozenset()
    if not shared or all(seeds == shared for _, seeds in meeting):
        return group
    others = [alike for alike, seeds in held if not seeds & usual]
    return pd.concat([at_seeds(pd.concat([alike for alike, _ in meeting]), shared), *others], ignore_index=True)


def _at_usual_seeds(group: pd.DataFrame) -> pd.DataFrame:
    """The rows without those of seeds that most points of their curve lack, where a point has them beside the usual: on
    a curve points are told apart at the same seeds."""
    group = group.assign(unused=0)
    if not _several(group):
        return group
    seeds = [seed_of(row) for row in group.to_dict("records")]
    points = group.groupby(list(POINT), dropna=False, sort=False).ngroup().to_numpy()
    done = (group["status"] == "ok").to_numpy()
    held: dict[int, set[Seed]] = {point: set() for point in points}
    for point, seed, ok in zip(points, seeds, done, strict=True):
        held[point] |= {seed} if ok else set()
    more = np.zeros(len(group), bool)
    for _, places in group.groupby("p_uncond", dropna=False, sort=False).indices.items():
        usual = usual_of(frozenset(held[point]) for point in dict.fromkeys(points[places]))
        more[places] = [bool(usual) and held[points[k]] > usual and seeds[k] not in usual for k in places]
    unused = np.bincount(points, weights=more)[points].astype(int)
    return group.assign(unused=unused)[~more]


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
    varying = {key: listed(sorted(group[key].dropna().unique())) for key in seeds if group[key].nunique() > 1}
    return pd.DataFrame([point_of(members, asked) | varying for members in points])


def point_of(members: Sequence[dict[str, Any]], asked: Sequence[Seed]) -> dict[str, Any]:
    """One row for the rows of one point, which are in order of their seeds; `asked` are all seeds asked for."""
    ok = [member for member in members if member["status"] == "ok"]
    point = dict((ok or members)[0])
    for metric in (*METRICS, INFINITY):
        values, mean = numbers(ok, metric.column), mean_of(ok, metric.column)
        point |= {metric.se: mean.se} | ({metric.column: mean.value} if metric.column in point else {})
        if metric.extreme:
            point[metric.extreme] = getattr(np, metric.best)(values) if len(values) else np.nan
    without = _shortfall(members, asked)
    said = [f"mean over {len(ok)} of {len(asked)} {_pairs(asked)}seeds; {without}"] if ok and without else []
    return point | {
        "seeds": len(ok),
        "asked_seeds": tuple(asked),
        "members": tuple(members),
        "shortfall": "; ".join([*said, *_of_fewer(ok, asked)]) or None,
        "reason": None if len(ok) else without,
    }


def _of_fewer(ok: Sequence[Row], asked: Sequence[Seed]) -> Iterator[str]:
    """The metrics that some of the seeds with numbers lack, and which have them: `IS: mean over 1 of 3 seeds, 0`."""
    for metric in (*METRICS, INFINITY):
        held = [differing(seed_of(row), asked) for row in measured(ok, metric.column)]
        if 0 < len(held) < len(ok):
            yield f"{metric.name}: mean over {len(held)} of {len(asked)} {_pairs(asked)}seeds, {joined(held)}"


def _shortfall(rows: Sequence[Row], asked: Sequence[Seed]) -> str:
    """The seeds that have no numbers, and why: `seeds 1 and 2: out of memory; seed 3: not run`."""
    there = {seed_of(row): row for row in rows}
    seeds_of: dict[str, list[str]] = {}
    for seed in asked:
        row = there.get(seed)
        if row is None or row["status"] != "ok":
            why = "not run" if row is None else why_failed(row)
            seeds_of.setdefault(why, []).append(differing(seed, asked))
    kind = "training/sampling seed" if _pairs(asked) else "seed"
    return "; ".join(f"{kind}{'s' * (len(them) > 1)} {joined(them)}: {why}" for why, them in seeds_of.items())


def _pairs(asked: Sequence[Seed]) -> str:
    """What stands before `seeds` where both kinds vary."""
    return "pairs of " if vary_twice(asked) else ""


def _in_order(seed: Seed) -> tuple[int, ...]:
    return tuple(-1 if part is None else part for part in seed)


def _column(values: Sequence[Any], rows: pd.DataFrame) -> pd.Series:
    """Values that are tuples as a column."""
    return pd.Series(list(values), index=rows.index, dtype=object)
