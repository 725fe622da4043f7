"""Which rows may stand together: a slice is what one table, or one set of axes, shows.

Inside a slice only w and one other quantity vary (p_uncond, T, or the system); data set, features, reference, number of
images, protocol and every further axis are one and the same, so that its numbers compare. Seeds are averaged over.
Features, reference and protocol may differ where that was asked for; then every row has a mark. Where the system turns
another knob than w, that takes the place of w.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import pandas as pd

from cfgbench.errors import UserError
from cfgbench.report.averages import at_shared_seeds, average
from cfgbench.report.columns import NEEDED, ORDER, PLANE, PROVENANCE, comparable, conditions, current
from cfgbench.report.protocols import marked, meanings, shared
from cfgbench.report.seeds import Seed, other_seeds
from cfgbench.report.systems import LOW_TEMPERATURE, origins, plain, rank, scaled, with_systems
from cfgbench.report.words import FID, INFINITY, METRICS, Metric, extractor_name, known, named
from cfgbench.sweep.row import Row

SeriesKey = Literal["p_uncond", "T", "system"]


@dataclass(frozen=True)
class Slice:
    """Rows that compare. `series` is the key by which they are in series: a table's columns, a figure's curves."""

    rows: pd.DataFrame
    """In order of `series`, then of how far the knob is turned (`at`: w up, low temperature down)."""
    series: SeriesKey
    setting: dict[str, Any] = field(default_factory=dict)
    """What all rows share, in the order in which a caption tells it."""
    apart: tuple[str, ...] = ()
    """The keys of `setting` in which the slices of this sweep differ."""
    marks: Mapping[str, str] = field(default_factory=dict)
    """mark -> what it means, where rows of different protocols stand together: then they do not compare."""

    @cached_property
    def ok(self) -> pd.DataFrame:
        """The rows that have numbers."""
        return self.rows[self.rows["status"] == "ok"]

    @cached_property
    def records(self) -> dict[int, Row]:
        """index of `rows` -> that row; pandas takes long to pick rows one by one."""
        return dict(zip(self.rows.index, self.rows.to_dict("records"), strict=True))

    @property
    def seeds(self) -> tuple[Seed, ...]:
        """The seeds that the numbers are means over (see `seeds.seeds_phrase`); none where there is one only."""
        return self.rows["asked_seeds"].iloc[0]

    @property
    def knob(self) -> Literal["w", "temperature"]:
        """What is turned along a curve and down a table; one thing, but where systems stand together (see by_knob)."""
        return self.rows["knob"].iloc[0]

    @property
    def scaled(self) -> bool:
        """Whether others call 1 + w a scale, at least for one of the systems."""
        return any(map(scaled, self.rows["system"].unique()))

    @property
    def values(self) -> list[Any]:
        """The values of `series`, in order; one that is not stated is None and comes last."""
        return [known(value) for value in self.rows[self.series].unique()]

    @cached_property
    def by_knob(self) -> tuple["Slice", ...]:
        """The slice in parts in which all systems turn the same knob."""
        if self.rows["knob"].nunique() == 1:
            return (self,)
        knobs = self.rows.groupby("knob", sort=False)
        return tuple(replace(self, rows=rows.reset_index(drop=True)) for _, rows in knobs)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics that were measured; both where no cell has a number yet."""
        return tuple(metric for metric in METRICS if self.has(metric.column)) or METRICS

    @property
    def measured(self) -> tuple[Metric, ...]:
        """`metrics` and, beside FID, the extrapolated FID where it was measured."""
        every = [(metric, INFINITY) if metric == FID else (metric,) for metric in self.metrics]
        return tuple(metric for pair in every for metric in pair if metric != INFINITY or self.has(INFINITY.column))

    def has(self, column: str) -> bool:
        """Whether any row has a number in this column."""
        return column in self.rows and bool(self.ok[column].notna().any())

    def curves(self, *metrics: Metric) -> Iterator[tuple[Any, pd.DataFrame]]:
        """(value of `series`, its rows in order of the knob), only rows where all of `metrics` are known.

        A value that is not stated is None and comes last.
        """
        columns = [metric.column for metric in metrics]
        if any(column not in self.ok for column in columns):
            return
        for value, rows in self.ok.dropna(subset=columns).groupby(self.series, dropna=False, sort=False):
            yield known(value), rows

    @property
    def extractor(self) -> str:
        """The extractor's name without digest and resize rule, for the axes of a figure; all where they differ."""
        ids = self.rows["features_id"].map(str) if self.marks else [str(self.setting["features_id"])]
        return " and ".join(dict.fromkeys(map(extractor_name, ids)))

    @property
    def differs(self) -> str:
        """What tells this slice from the others of its sweep, in a line, or nothing: `T 8, seed 1`."""
        hidden = (*PROVENANCE, *(["guidance"] if "system" in self.apart else []))
        keys = [key for key in self.apart if key not in hidden]
        if {"features_id", "reference_id"} & {*self.apart} or not keys:  # what else is apart follows from the first
            keys += [key for key in PROVENANCE if key in self.apart][:1]
        words = [named(key, self.setting[key]) for key in keys]
        return ", ".join(word if len(word) <= 50 else f"{word[:9]}…{word[-40:]}" for word in words)

    @property
    def conditions(self) -> list[str]:
        """How the numbers came about, shortly: `1,000 images`, `T 32`, `sampler ancestral` ..."""
        hidden = ("dataset", *PROVENANCE, *(["guidance"] if "system" in self.setting else []))
        shown = {key: value for key, value in self.setting.items() if key not in hidden}
        return [named(key, value) for key, value in shown.items() if key in PLANE or known(value) is not None]

    @property
    def provenance(self) -> dict[str, str]:
        """What the numbers are measured with and against: features, reference, protocol."""
        names = {"features_id": "features", "reference_id": "reference", "protocol": "protocol"}
        return {name: str(value) for key, name in names.items() if known(value := self.setting.get(key)) is not None}


def slices(rows: pd.DataFrame, *, where: object = "the sweep", mixed: bool = False) -> list[Slice]:
    """Splits a sweep's rows so that each part compares. `where` names the sweep in errors.

    The series are of p_uncond where it varies, else T; where both vary there is a slice per T. Cells that an earlier
    version of the sweep left behind (same point, or same p_uncond from another checkpoint) give way to the newest.
    Several seeds become one row (see `averages`). With `mixed`, rows that were measured with different features,
    references or protocols stand together, each with its mark. Each system has slices of its own; where it has no
    unguided cell it begins with that of the others (see `systems.origins`).
    """
    rows, without = _ready(rows, where, mixed)
    groups = comparable(rows, without=without)
    return _slices(rows, [part for group in groups for part in _planes(_with_marks_or_none(group))])


def side_by_side(rows: pd.DataFrame, *, where: object = "the sweep", mixed: bool = False) -> list[Slice]:
    """The systems of a sweep beside each other: a slice for each p_uncond and T at which there are two or more, with a
    column a system; none where there is one system. Systems stand together that differ in nothing else; at the seeds
    that all of them have."""
    rows, without = _ready(at_shared_seeds(settled(rows, where=where)), where, mixed)
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


def _ready(rows: pd.DataFrame, where: object, mixed: bool) -> tuple[pd.DataFrame, Collection[str]]:
    """(the rows that count, with those from which systems begin; the conditions that may differ in a slice)."""
    rows = settled(rows, where=where)
    rows, without = (marked(rows), PROVENANCE) if mixed else (rows, ())
    groups = comparable(rows, without=(*without, "system"))
    begun = [row for group in groups if group["system"].nunique() > 1 for row in origins(group)]
    rows = rows.assign(shared=False)
    return (pd.concat([rows, pd.DataFrame(begun)], ignore_index=True) if begun else rows), without


def _slices(rows: pd.DataFrame, parts: Sequence[tuple[pd.DataFrame, SeriesKey]]) -> list[Slice]:
    """Slices of these parts of the rows."""
    several = not plain(rows)
    settings = [_setting(part, series, several) for part, series in parts]
    keys = dict.fromkeys(key for setting in settings for key in setting)
    apart = tuple(key for key in keys if len({repr(setting.get(key)) for setting in settings}) > 1)
    marks = meanings(rows)
    return [
        Slice(
            _in_order(part, series),
            series,
            setting,
            tuple(k for k in apart if k in setting),
            {mark: meaning for mark, meaning in marks.items() if "mark" in part and (part["mark"] == mark).any()},
        )
        for (part, series), setting in zip(parts, settings, strict=True)
    ]


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
        nulls["v"] = rows["v"].where(rows["sampler"] != "ddim")  # which has no variance
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
    return ordered.assign(other_seeds=_other_seeds(ordered, series))


def _other_seeds(rows: pd.DataFrame, series: SeriesKey) -> pd.Series:
    """See seeds.other_seeds; of each curve by itself."""
    found = pd.Series(False, index=rows.index)
    if rows["asked_seeds"].iloc[0]:
        for _, curve in rows.groupby(series, dropna=False):
            found[curve.index] = other_seeds(curve.to_dict("records"))
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
    if "mark" in rows:
        return setting | {key: shared(list(rows[key])) for key in PROVENANCE if key in rows}
    ids = [digest for digest in rows.get("protocol_id", ()) if known(digest) is not None]  # rows from before have none
    return setting | ({"protocol_id": ids[0]} if ids else {})
