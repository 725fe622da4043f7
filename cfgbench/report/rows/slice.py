"""A slice: rows whose numbers compare, and what is said of all of them; one table, or one set of axes, shows it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import pandas as pd

from cfgbench.report.rows.columns import PLANE, PROVENANCE
from cfgbench.report.rows.seeds import Seed
from cfgbench.report.rows.systems import scaled
from cfgbench.report.words import FID, INFINITY, METRICS, Metric, extractor_name, known, named
from cfgbench.sweep.results.row import Row

LONGEST = 50
"""Characters of a condition by which a slice is told from others."""
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
    own: tuple[str, ...] = ()
    """What its protocol has of its own, where all else would be told alike of another slice."""
    marks: Mapping[str, str] = field(default_factory=dict)
    """mark -> what it means, where rows of different protocols stand together: then they do not compare."""
    every: tuple[Any, ...] = ()
    """The values that `series` has in all slices of the report, in order."""

    @cached_property
    def ok(self) -> pd.DataFrame:
        """The rows that have numbers; `lent` are those that another curve here has too, as its own or before."""
        ok = self.rows[self.rows["status"] == "ok"]
        again = ok["cell_id"].isin(ok.loc[~ok["shared"], "cell_id"]) | ok["cell_id"].where(ok["shared"]).duplicated()
        return ok.assign(lent=ok["shared"] & again)

    @cached_property
    def records(self) -> dict[int, Row]:
        """index of `rows` -> that row; pandas takes long to pick rows one by one."""
        return self.rows.to_dict("index")

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

    def place(self, value: Any) -> tuple[int, int]:
        """(number, count) of a value of `series` among all of the report, by which it looks alike in all figures."""
        return self.every.index(value), len(self.every)

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
        return " and ".join(dict.fromkeys(map(extractor_name, self.rows["features_id"].map(str))))

    @property
    def differs(self) -> str:
        """What tells this slice from the others of its sweep, in a line, or nothing: `T 8, seed 1`."""
        protocol = "protocol" in self._apart
        words = self.told_apart_by
        if not words and protocol:
            return _shortened(f"protocol {'; '.join(self.own) or self.setting['protocol']}")
        return ", ".join(map(_shortened, (*words, *self.own)))

    @property
    def told_apart_by(self) -> tuple[str, ...]:
        """The same but for what protocols have of their own."""
        return tuple(named(key, self.setting[key]) for key in self._apart if key != "protocol")

    @property
    def _apart(self) -> list[str]:
        hidden = (*PROVENANCE, *(["guidance"] if "system" in self.apart else []))
        keys = [key for key in self.apart if key not in hidden]
        if {"features_id", "reference_id"} & {*self.apart} or not keys:  # what else is apart follows from the first
            keys += [key for key in PROVENANCE if key in self.apart][:1]
        return keys

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


def _shortened(text: str) -> str:
    """The text without words in its middle where it is long."""
    if len(text) <= LONGEST:
        return text
    first, _, rest = text.partition(" ")
    end = rest[-(LONGEST - 12) :]
    return f"{first[:9]} …{end.partition(' ')[2] or end}"
