"""Verdicts as they are printed, and as files."""

import textwrap
from collections.abc import Callable, Sequence

import pandas as pd

from cfgbench.errors import printable
from cfgbench.report.claims.judging import Judged
from cfgbench.report.claims.verdict import Finding, Verdict
from cfgbench.report.tables import markup
from cfgbench.report.tables.markup import escape_markdown, markdown_table

WIDTH = 110
"""Columns of a line for a terminal."""


def plain(judged: Sequence[Judged]) -> str:
    """A block for each claim: number, verdict, claim, then a line or more for each curve."""
    blocks = [block for one in judged for block in (_head(one), *map(_block, one.verdicts))]
    return "\n\n".join(blocks)


def markdown(judged: Sequence[Judged]) -> str:
    """For each group of rows a table of claims and verdicts, and below it the numbers."""
    return "\n\n".join(_markdown(one) for one in judged) + "\n"


def csv(judged: Sequence[Judged]) -> str:
    """A row for each finding: its claim and the verdict on it, what it is of, its own outcome, and of its comparisons
    the one that is the fewest standard errors from zero (difference, se, paired)."""
    rows = [
        {"rows": one.name, "number": verdict.number, "claim": verdict.claim, "verdict": verdict.outcome}
        | _fields(finding)
        for one in judged
        for verdict in one.verdicts
        for finding in verdict.findings
    ]
    return markup.csv(pd.DataFrame(rows))


FORMATS: dict[str, Callable[[Sequence[Judged]], str]] = {"md": markdown, "csv": csv}
"""ending of the file -> function that makes its content."""


def _fields(finding: Finding) -> dict[str, object]:
    difference = finding.difference
    return {
        "of": finding.of,
        "finding": finding.outcome,
        "difference": difference and difference.value,
        "se": difference and difference.se,
        "paired": difference and difference.paired,
        "text": finding.words,
    }


def _head(one: Judged) -> str:
    return "\n".join(_wrapped(text, "") for text in (one.name, one.note) if text)


def _block(verdict: Verdict) -> str:
    lines = [_wrapped(f"{verdict.number}. {verdict.claim}: {verdict.words}", "")]
    lines += [_wrapped(_line(verdict, finding), "   ") for finding in verdict.findings]
    return "\n".join([*lines, *([_wrapped(f"Note: {verdict.note}", "   ")] if verdict.note else [])])


def _line(verdict: Verdict, finding: Finding) -> str:
    """The finding's own outcome is said where it is not the verdict's."""
    own = "" if finding.outcome == verdict.outcome else f"{finding.outcome}: "
    return f"{finding.of}: {own}{finding.words}"


def _wrapped(text: str, indent: str) -> str:
    return textwrap.fill(printable(text), WIDTH, initial_indent=indent, subsequent_indent=indent + "  " * bool(indent))


def _markdown(one: Judged) -> str:
    rows = [(str(v.number), escape_markdown(v.claim), v.words) for v in one.verdicts]
    table = markdown_table(["", "claim", "verdict"], rows, "rll")
    head = [f"**{escape_markdown(one.name)}**", escape_markdown(one.note)]
    return "\n\n".join(part for part in (*head, table, *map(_numbers, one.verdicts)) if part)


def _numbers(verdict: Verdict) -> str:
    lines = [f"{verdict.number}. {escape_markdown(verdict.claim)}: **{verdict.words}**."]
    lines += [f"   - {escape_markdown(_line(verdict, finding))}" for finding in verdict.findings]
    return "\n".join([*lines, *([f"   - {escape_markdown(verdict.note)}"] if verdict.note else [])])
