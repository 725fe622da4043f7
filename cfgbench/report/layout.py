"""The paper's table as data: rows w, columns FID and IS per p_uncond (or T), the best of each column known."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from cfgbench.report.slices import Metric, Slice, known, named


@dataclass(frozen=True)
class Entry:
    """One number of the table. A failed cell has no value and a `note`, the letter of its footnote; a cell that was
    not run has neither. A published number has the digits that its source has, `printed`."""

    value: float = np.nan
    se: float = np.nan
    best: bool = False
    note: str = ""
    printed: str = ""

    def text(self, decimals: int, *, plus_minus: str = " ± ", dash: str = "–") -> str:
        """The number rounded, with its standard error where that is known: `1.80 ± 0.02`."""
        if self.note:
            return f"{dash} ({self.note})"
        if np.isnan(self.value):
            return ""
        error = "" if np.isnan(self.se) else f"{plus_minus}{self.se:.{decimals}f}"
        return f"{self.printed or f'{self.value:.{decimals}f}'}{error}"


@dataclass(frozen=True)
class Layout:
    """A table of the paper's shape. `columns` are (metric, value of p_uncond or T); `body[i][j]` belongs to `ws[i]` and
    `columns[j]`; `notes` are (letter, what failed and why); `decimals` hold per metric."""

    slice: Slice
    ws: tuple[float, ...]
    columns: tuple[tuple[Metric, Any], ...]
    body: tuple[tuple[Entry, ...], ...]
    notes: tuple[tuple[str, str], ...]
    decimals: dict[str, int]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return self.slice.metrics

    @property
    def values(self) -> tuple[Any, ...]:
        """The values of p_uncond (or T), in the order of the columns of one metric."""
        return tuple(value for metric, value in self.columns if metric == self.metrics[0])

    def rows(self, **options: str) -> Iterator[tuple[float, list[tuple[str, bool]]]]:
        """(w, [(text, whether it is its column's best)]) of each row; `options` as in `Entry.text`."""
        for w, entries in zip(self.ws, self.body, strict=True):
            yield (
                w,
                [
                    (entry.text(self.decimals[metric.column], **options), entry.best)
                    for (metric, _), entry in zip(self.columns, entries, strict=True)
                ],
            )


def layout(part: Slice) -> Layout:
    """Arranges a slice's rows as the paper does. Best are a column's lowest FID and its highest IS, with ties."""
    rows = part.rows
    ws = tuple(sorted(rows["w"].unique()))
    values = [known(value) for value in rows[part.columns].sort_values().unique()]  # null stands last
    columns = tuple((metric, value) for metric in part.metrics for value in values)
    notes = _notes(part)
    by_place = {(row["w"], known(row[part.columns])): row for _, row in rows.iterrows()}
    table = [[_entry(by_place.get((w, value)), metric, notes) for metric, value in columns] for w in ws]
    body = tuple(zip(*(_mark_best(column, metric) for (metric, _), column in zip(columns, zip(*table)))))  # noqa: B905
    decimals = {metric.column: _decimals(part, metric) for metric in part.metrics}
    footnotes = tuple((letter, f"{place}: {reason}") for reason, (letter, place) in notes.items())
    return Layout(part, ws, columns, body, footnotes, decimals)


def _notes(part: Slice) -> dict[str, tuple[str, str]]:
    """reason -> (letter, the places where it struck); cells that failed for one reason share a footnote."""
    failed = part.rows[part.rows["status"] != "ok"]
    notes: dict[str, tuple[str, str]] = {}
    for _, row in failed.iterrows():
        place = f"w {row['w']:g}, {named(part.columns, row[part.columns])}"
        letter, places = notes.get(_reason(row), (_letter(len(notes)), ""))
        notes[_reason(row)] = (letter, f"{places}; {place}" if places else place)
    return notes


def _letter(number: int) -> str:
    """a ... z, aa, ab ..."""
    return (_letter(number // 26 - 1) if number >= 26 else "") + chr(ord("a") + number % 26)


def _reason(row: pd.Series) -> str:
    reason = row.get("reason")
    return " ".join(reason.split()) if isinstance(reason, str) and reason.strip() else "failed without a reason"


def _entry(row: pd.Series | None, metric: Metric, notes: dict[str, tuple[str, str]]) -> Entry:
    if row is None:
        return Entry()
    if row["status"] != "ok":
        return Entry(note=notes[_reason(row)][0])
    printed = known(row.get(f"{metric.column}_printed")) or ""
    return Entry(_number(row, metric.column), _number(row, metric.se), printed=printed)


def _number(row: pd.Series, column: str) -> float:
    value = row.get(column)
    return np.nan if value is None else float(value)


def _mark_best(entries: tuple[Entry, ...], metric: Metric) -> list[Entry]:
    values = [entry.value for entry in entries if not np.isnan(entry.value)]
    best = (min if metric.best == "min" else max)(values, default=np.nan)
    return [replace(entry, best=entry.value == best) for entry in entries]


def _decimals(part: Slice, metric: Metric) -> int:
    """Two, as in the paper; more where the smallest number would lose its second digit."""
    values = part.ok[metric.column].dropna().abs() if metric.column in part.ok else pd.Series(dtype=float)
    values = values[values > 0]
    if values.empty:
        return 2
    return int(np.clip(1 - np.floor(np.log10(values.min())), 2, 6))
