"""Tables and verdicts on the terminal; elsewhere as plain text that is as wide as it needs."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Console, RenderableType
from rich.measure import Measurement

from cfgbench.report.claims import Judged, judge_published, text
from cfgbench.report.reference import load, pages
from cfgbench.report.rows.columns import asked_for
from cfgbench.report.rows.slices import arranged, settled, side_by_side, slices
from cfgbench.report.tables import formats

MOST_COLUMNS = 10_000
"""Characters of a line that a table may need."""


def print_tables(rows: pd.DataFrame, cells: Sequence[Mapping[str, Any]] | None = None) -> None:
    """The sweep's tables; its `cells` (see results.asked) say what its axes are, where they are known."""
    rows = settled(asked_for(rows, cells))
    _print(formats.terminal(arranged(slices(rows), side_by_side(rows))))


def print_claims(judged: Sequence[Judged]) -> None:
    """The verdicts on the paper's claims, with their numbers."""
    print(text.plain(judged), end="\n\n")


def print_reference(name: str) -> None:
    """The published tables, with the models that they quote and what they leave open."""
    for one in load(name):
        _print(pages.terminal(one))


def print_reference_claims(name: str) -> None:
    """The verdicts on the paper's claims by the published tables."""
    print_claims([judge_published(one) for one in load(name)])


def _print(views: Sequence[RenderableType]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    wide, endless = console.width, console.options.update(width=MOST_COLUMNS)
    with console.capture() as drawn:  # by itself it ends the program where nobody reads what it prints
        for view in views:
            # a terminal that is narrower than the numbers wraps the lines; they would be cut off
            console.width = max(wide, Measurement.get(console, endless, view).minimum)
            console.print(view)
    print(drawn.get(), end="")
