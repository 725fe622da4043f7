"""Which rows may stand together: a slice is what one table, or one set of axes, shows.

Inside a slice only w and one other quantity vary (p_uncond, T, or the system); data set, features, reference, number of
images, protocol and every further axis are one and the same, so that its numbers compare. Seeds are averaged over.
Features, reference and protocol may differ where that was asked for; then every row has a mark. Where the system turns
another knob than w, that takes the place of w.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from cfgbench.errors import UserError
from cfgbench.report.rows.averages import at_seeds, at_shared_seeds, average, point_of
from cfgbench.report.rows.columns import NEEDED, ORDER, PLANE, PROVENANCE, SEEDS, comparable, conditions
from cfgbench.report.rows.current import current
from cfgbench.report.rows.protocols import marked, meanings, of_rows, own_phrases, shared
from cfgbench.report.rows.seeds import other_seeds, usual_of, with_numbers
from cfgbench.report.rows.slice import SeriesKey, Slice
from cfgbench.report.rows.systems import LOW_TEMPERATURE, origins, plain, rank, with_systems
from cfgbench.report.words import INFINITY, METRICS, known
from cfgbench.sweep.results.row import Row
from cfgbench.wording import UNUSED


def slices(rows: pd.DataFrame, *, mixed: bool = False) -> list[Slice]:
    """Splits a sweep's rows so that each part compares.

    The series are of p_uncond where it varies, else T; where both vary there is a slice per T. Cells that an earlier
    version of the sweep left behind (same point, or same p_uncond from another checkpoint) give way to the newest.
    Several seeds become one row (see `averages`). With `mixed`, rows that were measured with different features,
    references or protocols stand together, each with its mark. Each system has slices of its own; where it has no
    unguided cell it begins with that of the others (see `systems.origins`).
    """
    rows, without = _ready(settled(rows), mixed)
    groups = comparable(rows, without=without)
    return _slices(rows, [part for group in groups for part in _planes(_with_marks_or_none(group))])


def side_by_side(rows: pd.DataFrame, *, mixed: bool = False) -> list[Slice]:
    """The systems of a sweep beside each other: a slice for each p_uncond and T at which there are two or more, with a
    column a system; none where there is one system. Systems stand together that differ in nothing else; at the seeds
    that all of them have."""
    rows, without = _ready(at_shared_seeds(settled(rows)), mixed)
    groups = map(_with_marks_or_none, comparable(rows, without=(*without, "system")))
    places = [place for group in groups for _, place in group.groupby(["T", "p_uncond"], dropna=False)]
    return _slices(rows, [(place, "system") for place in places if place["system"].nunique() > 1])


def arranged(parts: Sequence[Slice], together: Sequence[Slice]) -> list[Slice]:
    """What tables and trade-offs show: the systems side by side, then each system's slices that hold more than a column
    of that."""
    shown = {number for part in together for number in _numbers(part)}
    return [*together, *(part for part in parts if len(part.values) > 1 or not shown.issuperset(_numbers(part)))]


def _numbers(part: Slice) -> list[tuple[str, int]]:
    """What tells the slice's numbers from others: the cell, and over how many seeds."""
    return list(zip(part.rows["cell_id"], part.rows["seeds"], strict=True))


def _ready(rows: pd.DataFrame, mixed: bool) -> tuple[pd.DataFrame, Collection[str]]:
    """(the rows that count, with those from which systems begin; the conditions that may differ in a slice)."""
    rows, without = (marked(rows), PROVENANCE) if mixed else (rows, ())
    groups = comparable(rows, without=(*without, "system", *SEEDS))
    begun = [row for group in groups if group["system"].nunique() > 1 for row in _begun(group)]
    rows = rows.assign(shared=False)
    return (pd.concat([rows, pd.DataFrame(begun)], ignore_index=True) if begun else rows), without


def _begun(group: pd.DataFrame) -> Iterator[Row]:
    """The rows from which the systems begin (see `systems.origins`), each at the seeds of most points of its curve, of
    which it says what those say; none where it has no number of them."""
    for row, curve in origins(group):
        held, lent = list(map(with_numbers, curve["members"])), with_numbers(row["members"])
        if not (usual := usual_of(held)) & lent:
            continue
        like = curve.iloc[held.index(usual)]
        asked = [seed for seed in like["asked_seeds"] if seed in usual or seed not in lent]
        told = {key: like[key] for key in (*SEEDS, "asked_seeds") if key in like}
        (at_usual,) = at_seeds(pd.DataFrame([row]), usual.union(asked)).to_dict("records")
        yield at_usual | (point_of(at_usual["members"], asked) if asked else {}) | told


def _slices(rows: pd.DataFrame, parts: Sequence[tuple[pd.DataFrame, SeriesKey]]) -> list[Slice]:
    """Slices of these parts of the rows."""
    several = not plain(rows)
    settings = [_setting(part, series, several) for part, series in parts]
    keys = dict.fromkeys(key for setting in settings for key in setting)
    apart = tuple(key for key in keys if len({repr(setting.get(key)) for setting in settings}) > 1)
    marks = meanings(rows)
    found = [
        Slice(
            _in_order(part, series),
            series,
            setting,
            apart=tuple(k for k in apart if k in setting),
            marks=of_rows(marks, part),
            every=_values(rows, series),
        )
        for (part, series), setting in zip(parts, settings, strict=True)
    ]
    return _with_own(found)


def _values(rows: pd.DataFrame, series: SeriesKey) -> tuple[Any, ...]:
    """All that stand there, in the order of curves and columns."""
    values = [known(value) for value in rows[series].unique()]
    return tuple(sorted(values, key=rank if series == "system" else lambda value: (value is None, value or 0)))


def _with_own(parts: Sequence[Slice]) -> list[Slice]:
    """The slices, each with the words of its protocol that not all have that are told alike."""
    alike: dict[tuple[str, ...], list[Any]] = {}
    for part in parts:
        alike.setdefault(part.told_apart_by, []).append(part.setting.get("protocol"))
    own = {told: iter(own_phrases(protocols)) for told, protocols in alike.items()}
    return [replace(part, own=tuple(next(own[part.told_apart_by]))) for part in parts]


def settled(rows: pd.DataFrame, *, where: object = "the sweep") -> pd.DataFrame:
    """The rows that count: numbers as floats, nothing of an earlier version of the sweep, seeds averaged over. Rows
    that are settled stay as they are."""
    if rows.empty:
        raise UserError(f"{where}: no cells yet; run the sweep first (cfgbench sweep SWEEP.yaml)")
    if "members" in rows and isinstance(rows["members"].iloc[0], tuple):  # of a file it would be no tuple
        return rows
    if missing := [column for column in NEEDED if column not in rows]:
        raise UserError(f"{where}: rows without the column {missing[0]}; they were not written by cfgbench sweep")
    metrics = (*METRICS, INFINITY)
    numbers = {key: rows[key].astype(float) for m in metrics for key in (m.column, m.se) if key in rows}  # None is NaN
    nulls = {key: rows[key].astype("Float64").astype(float) for key in PLANE[1:] if rows[key].isna().any()}
    if {"v", "sampler"} <= {*rows}:
        nulls["v"] = rows["v"].where(~rows["sampler"].isin(UNUSED))
    return average(current(with_systems(rows.assign(**numbers, **nulls))))


def _with_marks_or_none(group: pd.DataFrame) -> pd.DataFrame:
    """The group without the column of marks where it needs none."""
    return group.drop(columns="mark") if "mark" in group and group["mark"].isna().all() else group


def _in_order(rows: pd.DataFrame, series: SeriesKey) -> pd.DataFrame:
    first = rows[series].map(rank) if series == "system" else rows[series]
    along = rows["at"].where(rows["system"] != LOW_TEMPERATURE, -rows["at"])  # the lower, the further it is turned
    ordered = rows.assign(_first=first, _along=along)
    keys = ["_first", "_along", *(["mark"] if "mark" in rows else [])]
    ordered = ordered.sort_values(keys, ignore_index=True).drop(columns=["_first", "_along"])
    return with_other_seeds(ordered, series)


def with_other_seeds(rows: pd.DataFrame, curves: str) -> pd.DataFrame:
    """The rows with `hollow`, whether they are means over other seeds than most of them, and `other_seeds`, whether
    than most of their curve: where a whole curve is hollow, one of its points is its best all the same."""
    return rows.assign(hollow=other_seeds(rows["members"]), other_seeds=_other_seeds(rows, curves))


def _other_seeds(rows: pd.DataFrame, curves: str) -> pd.Series:
    found = pd.Series(False, index=rows.index)
    for _, members in rows.groupby(curves, dropna=False)["members"]:
        found[members.index] = other_seeds(members)
    return found


def _planes(rows: pd.DataFrame) -> list[tuple[pd.DataFrame, SeriesKey]]:
    if rows["p_uncond"].nunique(dropna=False) == 1 and rows["T"].nunique(dropna=False) > 1:
        return [(rows, "T")]
    return [(part, "p_uncond") for _, part in rows.groupby("T", dropna=False)]


def _setting(rows: pd.DataFrame, series: SeriesKey, several: bool) -> dict[str, Any]:
    fixed = [key for key in PLANE[1:] if key != series]
    first = rows.iloc[0]
    hidden = ["guidance"] if series == "system" else []
    usual = [key for key in ORDER if key in rows and (key not in PLANE or key in fixed) and key not in hidden]
    own = [key for key in conditions(rows) if key not in (*usual, *hidden)]
    setting = {key: known(first[key]) if key in PLANE else first[key] for key in [*usual, *own]}
    if known(setting.get("v")) is None:
        setting.pop("v", None)
    if several and series != "system":
        setting["system"] = first["system"]
    return setting | {key: shared(list(rows[key])) for key in PROVENANCE if key in rows}
