"""The paper's table as data: rows w, columns FID and IS per p_uncond (or T, or system), the best of each column known.

Where a system turns another knob than w (the temperature), the rows are the values of that.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from cfgbench.report.rows.seeds import measured
from cfgbench.report.rows.slice import Slice
from cfgbench.report.rows.systems import scaled
from cfgbench.report.tables.entry import Entry
from cfgbench.report.words import INFINITY, Metric, decimals_for, digits, known, letter, named, number, why_failed
from cfgbench.sweep.results.row import Row

WIDEST = 6
"""Columns of numbers that are read at a glance; with more, the extrapolated FID has a table of its own, and beside each
other so have the metrics of systems, whose names are long."""


@dataclass(frozen=True)
class Layout:
    """A table of the paper's shape. `columns` are (metric, value of p_uncond, T or system); `body[i][j]` belongs to
    `ws[i]`, values of w or of the slice's other knob, and `columns[j]`; `scales` are the same as others call them, NaN
    on a line of classifiers alone, whose weight is no scale; `notes` are (letter, what failed and why); `decimals` hold
    per metric. A `w` stands there several times where the protocols differ."""

    slice: Slice
    ws: tuple[float, ...]
    scales: tuple[float, ...]
    columns: tuple[tuple[Metric, Any], ...]
    body: tuple[tuple[Entry, ...], ...]
    notes: tuple[tuple[str, str], ...]
    decimals: dict[str, int]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return tuple(dict.fromkeys(metric for metric, _ in self.columns))

    @property
    def stub(self) -> tuple[str, ...]:
        """The heads of the columns before the numbers: w and scale where that means something, or the other knob."""
        return (self.slice.knob, *(["scale"] if self.slice.scaled else []))

    def rows(self, **options: str) -> Iterator[tuple[list[str], list[tuple[str, bool]]]]:
        """(what stands in the stub, [(text, whether it is its column's best)]) of each row; `options` as in
        `Entry.text`."""
        for w, scale, entries in zip(self.ws, self.scales, self.body, strict=True):
            yield (
                [f"{w:g}", "" if np.isnan(scale) else f"{scale:g}"][: len(self.stub)],
                [
                    (entry.text(self.decimals[metric.column], **options), entry.best)
                    for (metric, _), entry in zip(self.columns, entries, strict=True)
                ],
            )


def layouts(part: Slice) -> list[Layout]:
    """The slice's tables for a reader: one a knob, or where that would be too wide a second one with the extrapolated
    FID; of systems then one a metric."""
    return [table for one in part.by_knob for table in _layouts(one)]


def _layouts(part: Slice) -> list[Layout]:
    whole = layout(part, part.measured)
    narrow = len(whole.columns) <= WIDEST
    if part.series == "system" and not narrow:
        return [layout(part, (metric,)) for metric in part.measured]
    if INFINITY not in part.measured or (narrow and not part.seeds):
        return [whole]
    return [layout(part), layout(part, (INFINITY,))]


def layout(part: Slice, metrics: tuple[Metric, ...] = ()) -> Layout:
    """Arranges a slice's rows as the paper does. Best are a column's lowest FID and its highest IS, with all that are
    printed alike; a column whose entries were measured by different protocols has no best."""
    metrics = metrics or part.metrics
    columns = tuple((metric, value) for metric in metrics for value in part.values)
    notes = _notes(part)
    ws, scales, table = [], [], []
    for w, there in _lines(part):
        at_place = {known(row[part.series]): row for row in there}
        ws.append(w)
        scales.append(round(1 + w, 12) if any(scaled(row["system"]) for row in there) else np.nan)
        table.append([_entry(at_place.get(value), metric, notes) for metric, value in columns])
    decimals = {metric.column: decimals_of(part, metric) for metric in metrics}
    by_column = [
        _mark_best(column, metric, decimals[metric.column])
        for (metric, _), column in zip(columns, zip(*table, strict=True), strict=True)
    ]
    body = tuple(zip(*by_column, strict=True))
    footnotes = tuple((mark, f"{place}: {reason}") for reason, (mark, place) in notes.items())
    return Layout(part, tuple(ws), tuple(scales), columns, body, footnotes, decimals)


def _lines(part: Slice) -> Iterator[tuple[float, list[Row]]]:
    """(value of the knob, the rows of one line), as the knob is turned; a line a mark where they meet at one place."""
    lines: dict[float, list[Row]] = {}
    for row in part.records.values():
        lines.setdefault(row["at"], []).append(row)
    for at in sorted(lines, reverse=part.knob == "temperature"):
        rows = lines[at]
        if not part.marks or len({known(row[part.series]) for row in rows}) == len(rows):
            yield at, rows
            continue
        for mark in dict.fromkeys(row["mark"] for row in rows):
            yield at, [row for row in rows if row["mark"] == mark]


def _notes(part: Slice) -> dict[str, tuple[str, str]]:
    """reason -> (letter, the places where it struck); cells that failed for one reason share a footnote, and so do
    means that lack the same seeds."""
    notes: dict[str, tuple[str, str]] = {}
    for row in part.records.values():
        if reason := _reason(row):
            place = f"{row['knob']} {row['at']:g}, {named(part.series, row[part.series])}"
            mark, places = notes.get(reason, (letter(len(notes)), ""))
            notes[reason] = (mark, f"{places}; {place}" if places else place)
    return notes


def _reason(row: Row) -> str:
    """Why the row has no number, or none of some seeds; nothing where it has all."""
    return " ".join((known(row.get("shortfall")) or "").split()) if row["status"] == "ok" else why_failed(row)


def _entry(row: Row | None, metric: Metric, notes: dict[str, tuple[str, str]]) -> Entry:
    if row is None:
        return Entry()
    mark, (note, _) = known(row.get("mark")) or "", notes.get(_reason(row), ("", ""))
    if row["status"] != "ok":
        return Entry(note=note, mark=mark)
    extreme = number(row, metric.extreme) if metric.extreme else np.nan
    return Entry(
        number(row, metric.column),
        number(row, metric.se),
        note=note,
        printed=known(row.get(f"{metric.column}_printed")) or "",
        seeds=len(measured(row["members"], metric.column)),
        extreme=extreme,
        word=metric.best,
        mark=mark,
        other_seeds=row["other_seeds"],
    )


def _mark_best(entries: tuple[Entry, ...], metric: Metric, decimals: int) -> list[Entry]:
    there = [entry for entry in entries if not np.isnan(entry.value)]
    if len({entry.mark for entry in there}) > 1:
        return list(entries)
    alike = [entry for entry in there if not entry.other_seeds] or there
    best = (min if metric.best == "min" else max)(alike, key=lambda entry: entry.value, default=Entry())
    printed = {id(entry) for entry in alike if entry.number(decimals) == best.number(decimals)}
    return [replace(entry, best=id(entry) in printed) for entry in entries]


def decimals_of(part: Slice, metric: Metric) -> int:
    """Two, as in the paper; more where the typical error (the median) would lose its second digit, and without errors
    where the smallest number would."""
    errors = part.ok[metric.se].dropna() if metric.se in part.ok else pd.Series(dtype=float)
    if len(errors := errors[errors > 0]):
        return digits(float(errors.median()))
    values = part.ok[metric.column].dropna().abs() if metric.column in part.ok else pd.Series(dtype=float)
    values = values[values > 0]
    if values.empty:
        return 2
    return decimals_for(values.min())
