"""Tables and verdicts on the terminal; elsewhere as plain text that is as wide as it needs."""

import sys
from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.measure import Measurement

from cfgbench.report.claims import Judged, text
from cfgbench.report.measured import Report
from cfgbench.report.reference import TABLES, pages
from cfgbench.report.tables import formats

MOST_COLUMNS = 10_000
"""Characters of a line that a table may need."""


def print_tables(report: Report) -> None:
    """The report's tables."""
    _print(formats.terminal(report.shown.arranged))


def print_claims(judged: Sequence[Judged]) -> None:
    """The verdicts on the paper's claims, with their numbers."""
    print(text.plain(judged), end="\n\n")


def print_paper() -> None:
    """The paper's tables, with the models that they quote and what they leave open."""
    for one in TABLES:
        _print(pages.terminal(one))


def _print(views: Sequence[RenderableType]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    wide, endless = console.width, console.options.update(width=MOST_COLUMNS)
    with console.capture() as drawn:  # by itself it ends the program where nobody reads what it prints
        for view in views:
            # a terminal that is narrower than the numbers wraps the lines; they would be cut off
            console.width = max(wide, Measurement.get(console, endless, view).minimum)
            console.print(view)
    print(drawn.get(), end="")
