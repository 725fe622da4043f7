"""Published and measured numbers side by side, with their difference and in what their protocols differ."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cfgbench.errors import counted
from cfgbench.report.reference.agreement import Note, agreement, counterpart
from cfgbench.report.reference.pages import remarks
from cfgbench.report.reference.tables import TABLES, Published
from cfgbench.report.rows.slice import Slice
from cfgbench.report.tables import markup
from cfgbench.report.tables.entry import Entry
from cfgbench.report.tables.layout import decimals_of
from cfgbench.report.tables.markup import escape_markdown, markdown_table
from cfgbench.report.words import METRICS, Metric, as_text, number


@dataclass(frozen=True)
class Beside:
    """A measured slice, which table `number` shows, beside a published table.

    `rows` are the points that both have: w, p_uncond, T, and for each metric its column, `..._published`,
    `..._difference` (measured - published, none where the features differ) and `..._printed`, the paper's digits.
    """

    number: int
    measured: Slice
    published: Published
    rows: pd.DataFrame
    alone: int
    """Measured points that the published table does not have."""
    notes: tuple[Note, ...]

    @property
    def one_scale(self) -> bool:
        """Whether numbers may be subtracted: the features are the same."""
        return all(note.what != "features" for note in self.of_kind("differs"))

    def of_kind(self, kind: str) -> list[Note]:
        """Those that say `same`, `differs` or `not stated`."""
        return [note for note in self.notes if note.kind == kind]


def lay_beside(part: Slice, number: int = 1) -> Beside:
    """Lays a slice, which table `number` shows, beside the paper's table of its data set (Table 1 where it has none),
    on w and p_uncond or T."""
    published = counterpart(part) or TABLES[0]
    place = ["w", published.key]
    theirs = published.rows.assign(**_rounded(published.rows, place))
    ours = part.ok.assign(**_rounded(part.ok, place)).dropna(subset=place)
    numbers = [column for m in METRICS for column in (m.column, f"{m.column}_printed")]
    rows = ours.drop(columns=numbers[1::2], errors="ignore").merge(
        theirs[[*place, *numbers]].rename(columns={m.column: f"{m.column}_published" for m in METRICS}), on=place
    )
    rows = rows.sort_values([published.key, published.unstated, "w"], ignore_index=True)
    laid = Beside(number, part, published, rows, len(part.ok) - len(rows), tuple(agreement(part, published)))
    for metric in _metrics(part):
        difference = rows[metric.column] - rows[f"{metric.column}_published"]
        rows[f"{metric.column}_difference"] = difference if laid.one_scale else np.nan
    return laid


def markdown(laid: Sequence[Beside]) -> str:
    """For each slice: in what the protocols differ, then the numbers; at the end what the paper leaves open."""
    parts = [_markdown(one) for one in laid]
    used = [table for table in TABLES if any(one.published == table for one in laid)]
    parts += [f"**About the paper's Table {table.number}.**\n\n{remarks(table)}" for table in used]
    return "\n\n".join(parts) + "\n"


def csv(laid: Sequence[Beside]) -> str:
    """All points below each other, unrounded; `table` is the measured table's number, `published` the paper's table."""
    return markup.csv(pd.concat(map(_frame, laid), ignore_index=True))


FORMATS: dict[str, Callable[[Sequence[Beside]], str]] = {"md": markdown, "csv": csv}
"""ending of the file -> function that makes its content."""


def _metrics(part: Slice) -> list[Metric]:
    return [metric for metric in part.metrics if metric.column in part.rows]


def _rounded(rows: pd.DataFrame, columns: Sequence[str]) -> dict[str, pd.Series]:
    """Values as they are written: 0.1 + 0.2 meets 0.3."""
    return {column: rows[column].astype(float).round(9) for column in columns}


def _markdown(one: Beside) -> str:
    table = one.published
    head = f"**Measured Table {one.number} beside the paper's Table {table.number}** ({table.part.setting['dataset']})."
    parts = [head, _protocols(one)]
    if len(one.rows):
        parts.append(_numbers(one))
    if one.alone:
        points = f"{counted(one.alone, 'measured point')} {'has' if one.alone == 1 else 'have'}"
        parts.append(f"{points} no counterpart: the paper's table has no such w and {table.key}.")
    return "\n\n".join(parts)


def _protocols(one: Beside) -> str:
    different = [f"- {escape_markdown(note.text)}" for note in one.of_kind("differs")]
    which = ", so a difference below is not a gain or a loss" if one.one_scale else ""
    head = f"The protocols differ{which}:"
    same = ", ".join(note.text for note in one.of_kind("same"))
    unstated = "; ".join(note.text for note in one.of_kind("not stated"))
    parts = [
        "\n".join([head, "", *different]) if different else "The protocols agree in all that the paper states.",
        f"The same: {escape_markdown(same)}." if same else "",
        f"Not stated by the paper: {escape_markdown(unstated)}.",
    ]
    return "\n\n".join(part for part in parts if part)


def _numbers(one: Beside) -> str:
    metrics, keys = _metrics(one.measured), [one.published.key, one.published.unstated]
    words = ("measured", "published", "difference")[: 3 if one.one_scale else 2]
    heads = [f"{m.name}<br>{word}" for m in metrics for word in words]
    rows = []
    for _, row in one.rows.iterrows():
        place = [*(as_text(row[key]) for key in keys), f"{row['w']:g}", f"{1 + row['w']:g}"]
        cells = [text for m in metrics for text in _cells(row, m, decimals_of(one.measured, m))[: len(words)]]
        rows.append([*place, *cells])
    return markdown_table([*keys, "w", "scale", *heads], rows)


def _cells(row: pd.Series, metric: Metric, decimals: int) -> tuple[str, str, str]:
    """Measured with its error, published as printed, difference with its sign."""
    if np.isnan(row[metric.column]):
        return "", row[f"{metric.column}_printed"], ""
    measured = Entry(row[metric.column], number(row, metric.se)).text(decimals)
    return measured, row[f"{metric.column}_printed"], f"{row[f'{metric.column}_difference']:+.{decimals}f}"


def _frame(one: Beside) -> pd.DataFrame:
    numbers = [
        column
        for m in _metrics(one.measured)
        for column in (m.column, m.se, f"{m.column}_published", f"{m.column}_difference")
        if column in one.rows and (column != m.se or one.rows[column].notna().any())
    ]
    frame = one.rows[["w", "p_uncond", "T", *numbers]].copy()
    frame.insert(0, "published", one.published.name)
    frame.insert(0, "table", one.number)
    frame.insert(3, "scale", (1 + frame["w"]).round(12))
    words = {kind: "; ".join(note.text for note in one.of_kind(kind)) for kind in ("differs", "same", "not stated")}
    setting = {key: one.measured.setting.get(key) for key in ("dataset", "samples", "features_id", "protocol")}
    return frame.assign(**setting, **{kind.replace(" ", "_"): text for kind, text in words.items()})
