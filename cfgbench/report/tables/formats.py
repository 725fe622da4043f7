"""Tables of a sweep in the paper's layout: Markdown, CSV, LaTeX, and for the terminal."""

import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from cfgbench.report.rows.slice import Slice
from cfgbench.report.tables import markup
from cfgbench.report.tables.captions import caption, notes, reading
from cfgbench.report.tables.layout import Layout, layout, layouts
from cfgbench.report.tables.markup import (
    escape_latex,
    escape_markdown,
    latex_file,
    latex_row,
    latex_table,
    markdown_table,
)
from cfgbench.report.words import INFINITY, NOT_STATED, as_text, known, named

LINE = 345.0
"""Points of a line of LaTeX's article."""
NARROW = 16
"""Characters of a line of a system's name over its column."""


def markdown(parts: Sequence[Slice], *, first: int = 1) -> str:
    """All tables of a sweep, each under its caption, as GitHub's Markdown; best numbers are bold. `first` numbers the
    first of them."""
    blocks = [
        _markdown(table, number, place > 0)
        for number, part in enumerate(parts, first)
        for place, table in enumerate(layouts(part))
    ]
    return "\n\n".join(blocks) + "\n"


def csv(parts: Sequence[Slice]) -> str:
    """The frame as CSV."""
    return markup.csv(frame(parts))


def frame(parts: Sequence[Slice], *, first: int = 1) -> pd.DataFrame:
    """All tables below each other, unrounded. `table` numbers them, the last columns say what the caption says.

    A failed cell is empty and its reason stands under `notes`. Numbers read back to the same float64.
    """
    tables = [(layout(one, one.measured), n) for n, part in enumerate(parts, first) for one in part.by_knob]
    frames = [_frame(table, number) for table, number in tables]
    last = dict.fromkeys(column for _, columns in frames for column in columns)
    whole = pd.concat([frame for frame, _ in frames], ignore_index=True)
    front = [column for column in whole if column not in last]
    return whole[[*front, *last]]


def latex(parts: Sequence[Slice], *, below: Sequence[str] = (), remarks: Sequence[str] = ()) -> str:
    """All tables as LaTeX floats; the document needs the package booktabs. `below` are more rows of each table, as
    LaTeX, under a line of their own; `remarks` are texts that stand under it."""
    return latex_file(_latex(table, below, remarks) for part in parts for table in layouts(part))


def terminal(parts: Sequence[Slice]) -> list[Table]:
    """The same tables for a rich console."""
    return [_terminal(table) for part in parts for table in layouts(part)]


FORMATS: dict[str, Callable[[Sequence[Slice]], str]] = {"md": markdown, "csv": csv, "tex": latex}
"""ending of the file -> function that makes its content."""


def _caption(table: Layout) -> str:
    entries = [entry for line in table.body for entry in line]
    bold = " Best of each column in bold" if any(entry.best for entry in entries) else ""
    left_out = ", but for means over other seeds" if bold and any(entry.other_seeds for entry in entries) else ""
    return caption(table.slice, table.metrics).strip() + bold + left_out + "." * bool(bold)


def _below(table: Layout) -> list[str]:
    """The footnotes, then what holds for the whole table."""
    footnotes = [f"({letter}) {text}" for letter, text in table.notes]
    return footnotes + ([] if table.metrics == (INFINITY,) else notes(table.slice, table.metrics))


def _markdown(table: Layout, number: int, continued: bool) -> str:
    part = table.slice
    heads = [*table.stub, *(f"{metric.name}<br>{named(part.series, value)}" for metric, value in table.columns)]
    rows = []
    for place, entries in table.rows():
        cells = [f"**{escape_markdown(text)}**" if best else escape_markdown(text) for text, best in entries]
        rows.append([*place, *cells])
    head = f"**Table {number}{', continued' * continued}.** {escape_markdown(_caption(table))}"
    return "\n\n".join([head, markdown_table(heads, rows), *map(escape_markdown, _below(table))])


def _frame(table: Layout, number: int) -> tuple[pd.DataFrame, list[str]]:
    """The table's numbers, and the columns that say under which conditions they hold."""
    part = table.slice
    found: dict[str, Any] = {"table": number, part.knob: table.ws}
    found |= {"scale": table.scales} if part.scaled else {}
    texts = _told_apart(part.values)
    for j, (metric, value) in enumerate(table.columns):
        entries = [row[j] for row in table.body]
        place = f"{part.series}={texts[value]}"
        found[f"{metric.name}{' mean' * bool(part.seeds)} {place}"] = [entry.value for entry in entries]
        if any(entry.se == entry.se for entry in entries):
            found[f"{metric.name} se {place}"] = [entry.se for entry in entries]
        if part.seeds and metric.extreme:
            found[f"{metric.name} {metric.best} {place}"] = [entry.extreme for entry in entries]
        if part.seeds:
            found[f"{metric.name} seeds {place}"] = [entry.seeds for entry in entries]
        if part.marks:
            found[f"{metric.name} mark {place}"] = [entry.mark for entry in entries]
    conditions = {key: "" if known(value) is None else as_text(value) for key, value in part.setting.items()}
    conditions["notes"] = "; ".join(_below(table))
    return pd.DataFrame(found | conditions), list(conditions)


def _told_apart(values: Sequence[Any]) -> dict[Any, str]:
    """Each value as a person writes it; with all of its digits where another is written alike."""
    written = Counter(map(as_text, values))
    return {value: as_text(value) if written[as_text(value)] == 1 else str(value) for value in values}


def _latex(table: Layout, below: Sequence[str], more: Sequence[str]) -> str:
    part, count, before = table.slice, len(table.slice.values), len(table.stub)
    groups = [rf"\multicolumn{{{count}}}{{c}}{{{escape_latex(metric.name)}}}" for metric in table.metrics]
    rules = [rf"\cmidrule(lr){{{before + 1 + k * count}-{before + (k + 1) * count}}}" for k in range(len(groups))]
    stub = ["$w$" if head == "w" else head for head in table.stub]
    heads = [*stub, *(_head(part.series, value) for _, value in table.columns)]
    body = []
    for place, entries in table.rows(plus_minus=r" $\pm$ ", dash="--", join=r"\\"):  # the best of several seeds below
        stacked = [(rf"\shortstack[r]{{{text}}}" if r"\\" in text else text, best) for text, best in entries]
        cells = [rf"\textbf{{{text}}}" if best else text for text, best in stacked]
        body.append(latex_row([*(f"${text}$" if text.startswith("-") else text for text in place), *cells]))
    top = [latex_row([*[""] * before, *groups]), "".join(rules), latex_row(heads)]
    notes = [*_below(table), *more]
    narrow = bool(part.seeds) or _width(table) > LINE
    return latex_table(_caption(table), "r" * len(heads), [top, body, below], narrow=narrow, notes=notes)


def _width(table: Layout) -> float:
    """Points of the table in LaTeX, about: a digit has 5, a point and a space less, and 12 lie between columns."""
    series = table.slice.series
    rows = [[*place, *(text for text, _ in entries)] for place, entries in table.rows()]
    heads = [textwrap.wrap(v, NARROW) if series == "system" else [f"{series} = {as_text(v)}"] for _, v in table.columns]
    rows.append([*table.stub, *(max(lines, key=len) for lines in heads)])
    widest = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return sum(4.6 * characters + 12.0 for characters in widest)


def _head(series: str, value: Any) -> str:
    """The head of a column of numbers in LaTeX."""
    if series == "system":
        lines = r"\\".join(map(escape_latex, textwrap.wrap(value, NARROW)))
        return rf"\shortstack[r]{{{lines}}}"
    symbol = {"p_uncond": r"p_\mathrm{uncond}", "T": "T"}[series]
    return f"${symbol}$ {NOT_STATED}" if value is None else f"${symbol} = {as_text(value)}$"


def _terminal(table: Layout) -> Table:
    part = table.slice
    title = f"{part.setting['dataset']}, {part.extractor} features" + (f", {part.differs}" if part.differs else "")
    below = [", ".join(part.conditions), reading(part, table.metrics), *_below(table)]
    view = Table(
        title=Text(title),
        caption=Text("\n".join(line for line in below if line)),
        box=box.SIMPLE_HEAD,
        title_justify="left",
        caption_justify="left",
    )
    for head in table.stub:
        view.add_column(head, justify="right")
    for metric, value in table.columns:
        below_name = textwrap.wrap(value, NARROW) if part.series == "system" else [part.series, as_text(value)]
        view.add_column("\n".join([metric.name, *below_name]), justify="right")
    for place, entries in table.rows(join="\n"):  # the best of several seeds below
        cells = [Text(text, style="bold green" if best else "") for text, best in entries]
        view.add_row(*place, *cells)
    return view
