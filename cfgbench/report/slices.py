"""Which rows may stand together: a slice is what one table, or one set of axes, shows.

Inside a slice only w and one other quantity vary (p_uncond, or T); data set, features, reference, number of images,
protocol and every further axis are one and the same, so that its numbers compare. Seeds are averaged over. Features,
reference and protocol may differ where that was asked for; then every row has a mark.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

from cfgbench.errors import UserError
from cfgbench.report.columns import NEEDED, ORDER, PLANE, PROVENANCE, comparable, conditions, current
from cfgbench.report.protocols import marked, meanings, shared
from cfgbench.report.seeds import average
from cfgbench.report.words import INFINITY, METRICS, Metric, extractor_name, known, named


@dataclass(frozen=True)
class Slice:
    """Rows that compare. `columns` names what the table's columns, or the figure's curves, stand for."""

    rows: pd.DataFrame
    """In order of `columns`, then w."""
    columns: Literal["p_uncond", "T"]
    setting: dict[str, Any] = field(default_factory=dict)
    """What all rows share, in the order in which a caption tells it."""
    apart: tuple[str, ...] = ()
    """The keys of `setting` in which the slices of this sweep differ."""
    marks: Mapping[str, str] = field(default_factory=dict)
    """mark -> what it means, where rows of different protocols stand together: then they do not compare."""

    @property
    def ok(self) -> pd.DataFrame:
        """The rows that have numbers."""
        return self.rows[self.rows["status"] == "ok"]

    @property
    def seeds(self) -> tuple[tuple[str, str], ...]:
        """The seeds that the numbers are means over (see `seeds.seeds_phrase`); none where there is one only."""
        return self.rows["seed_names"].iloc[0]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics that were measured; both where no cell has a number yet."""
        return tuple(metric for metric in METRICS if self.has(metric.column)) or METRICS

    @property
    def measured(self) -> tuple[Metric, ...]:
        """`metrics` and, beside FID, the extrapolated FID where it was measured."""
        every = [(metric, INFINITY) if metric == METRICS[0] else (metric,) for metric in self.metrics]
        return tuple(metric for pair in every for metric in pair if metric != INFINITY or self.has(INFINITY.column))

    def has(self, column: str) -> bool:
        """Whether any row has a number in this column."""
        return column in self.rows and bool(self.ok[column].notna().any())

    def curves(self, *metrics: Metric) -> Iterator[tuple[Any, pd.DataFrame]]:
        """(value of `columns`, its rows in order of w), only rows where all of `metrics` are known.

        A value that is not stated is None and comes last.
        """
        wanted = [metric.column for metric in metrics]
        if any(column not in self.ok for column in wanted):
            return
        for value, rows in self.ok.dropna(subset=wanted).groupby(self.columns, dropna=False):
            yield known(value), rows

    @property
    def extractor(self) -> str:
        """The extractor's name without digest and resize rule, for the axes of a figure; all where they differ."""
        ids = self.rows["features_id"].map(str) if self.marks else [str(self.setting["features_id"])]
        return " and ".join(dict.fromkeys(map(extractor_name, ids)))

    @property
    def differs(self) -> str:
        """What tells this slice from the others of its sweep, in a line, or nothing: `T 8, seed 1`."""
        keys = [key for key in self.apart if key not in PROVENANCE]
        if "features_id" in self.apart or not keys:  # reference and protocol follow from other features
            keys += [key for key in PROVENANCE if key in self.apart][:1]
        words = [named(key, self.setting[key]) for key in keys]
        return ", ".join(word if len(word) <= 50 else f"{word[:9]}…{word[-40:]}" for word in words)

    @property
    def conditions(self) -> list[str]:
        """How the numbers came about, shortly: `1,000 images`, `T 32`, `sampler ancestral` ..."""
        hidden = ("dataset", *PROVENANCE)
        shown = {key: value for key, value in self.setting.items() if key not in hidden}
        return [named(key, value) for key, value in shown.items() if key in PLANE or known(value) is not None]

    @property
    def provenance(self) -> dict[str, str]:
        """What the numbers are measured with and against: features, reference, protocol."""
        names = {"features_id": "features", "reference_id": "reference", "protocol": "protocol"}
        return {name: str(value) for key, name in names.items() if known(value := self.setting.get(key)) is not None}


def slices(rows: pd.DataFrame, *, where: object = "the sweep", mixed: bool = False) -> list[Slice]:
    """Splits a sweep's rows so that each part compares. `where` names the sweep in errors.

    Columns are p_uncond where it varies, else T; where both vary there is a slice per T. Cells that an earlier version
    of the sweep left behind (same point, or same p_uncond from another checkpoint) give way to the newest. Several
    seeds become one row (see `seeds.average`). With `mixed`, rows that were measured with different features,
    references or protocols stand together, each with its mark.
    """
    rows = settled(rows, where=where)
    rows = marked(rows) if mixed else rows
    groups = comparable(rows, without=PROVENANCE if mixed else ())
    parts = [part for group in groups for part in _planes(_with_marks_or_none(group))]
    settings = [_setting(part, columns) for part, columns in parts]
    apart = tuple(key for key in settings[0] if len({repr(setting.get(key)) for setting in settings}) > 1)
    marks = meanings(rows)
    return [
        Slice(
            part.sort_values([columns, "w", *(["mark"] if "mark" in part else [])], ignore_index=True),
            columns,
            setting,
            tuple(k for k in apart if k in setting),
            {mark: meaning for mark, meaning in marks.items() if "mark" in part and (part["mark"] == mark).any()},
        )
        for (part, columns), setting in zip(parts, settings, strict=True)
    ]


def settled(rows: pd.DataFrame, *, where: object = "the sweep") -> pd.DataFrame:
    """The rows that count: numbers as floats, nothing of an earlier version of the sweep, seeds averaged over."""
    if rows.empty:
        raise UserError(f"{where}: no cells yet; run the sweep first (cfgbench sweep SWEEP.yaml)")
    if missing := [column for column in NEEDED if column not in rows]:
        raise UserError(f"{where}: rows without the column {missing[0]}; they were not written by cfgbench sweep")
    metrics = (*METRICS, INFINITY)
    numbers = {key: rows[key].astype(float) for m in metrics for key in (m.column, m.se) if key in rows}  # None is NaN
    nulls = {key: rows[key].astype("Float64").astype(float) for key in PLANE[1:] if rows[key].isna().any()}
    return average(current(rows.assign(**numbers, **nulls)))


def _with_marks_or_none(group: pd.DataFrame) -> pd.DataFrame:
    """The group without the column of marks where it needs none."""
    return group.drop(columns="mark") if "mark" in group and group["mark"].isna().all() else group


def _planes(rows: pd.DataFrame) -> list[tuple[pd.DataFrame, Literal["p_uncond", "T"]]]:
    if rows["p_uncond"].nunique(dropna=False) == 1 and rows["T"].nunique(dropna=False) > 1:
        return [(rows, "T")]
    return [(part, "p_uncond") for _, part in rows.groupby("T", dropna=False)]


def _setting(rows: pd.DataFrame, columns: str) -> dict[str, Any]:
    fixed = [key for key in PLANE[1:] if key != columns]
    first = rows.iloc[0]
    usual = [key for key in ORDER if key in rows and (key not in PLANE or key in fixed)]
    own = [key for key in conditions(rows) if key not in usual]
    setting = {key: known(first[key]) if key in PLANE else first[key] for key in [*usual, *own]}
    if "mark" in rows:
        return setting | {key: shared(list(rows[key])) for key in PROVENANCE if key in rows}
    ids = [digest for digest in rows.get("protocol_id", ()) if known(digest) is not None]  # rows from before have none
    return setting | ({"protocol_id": ids[0]} if ids else {})
