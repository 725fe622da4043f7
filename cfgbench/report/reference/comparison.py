"""One's own systems among the published models: model, source, FID, IS, conditions, and whether the row compares."""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from cfgbench.report.reference.models import Line, lines
from cfgbench.report.reference.tables import Published
from cfgbench.report.rows.slice import Slice
from cfgbench.report.tables import markup
from cfgbench.report.tables.markup import (
    escape_latex,
    escape_markdown,
    latex_file,
    latex_row,
    latex_table,
    markdown_table,
)


def markdown(parts: Sequence[Slice]) -> str:
    """A table for each of the paper's that is used, published rows first."""
    return "\n\n".join(_markdown(table, there) for table, there in lines(parts).items()) + "\n"


def csv(parts: Sequence[Slice]) -> str:
    """All rows below each other: published numbers digit for digit, measured ones unrounded."""
    rows = [_record(table, line) for table, there in lines(parts).items() for line in there]
    return markup.csv(pd.DataFrame(rows))


def latex(parts: Sequence[Slice]) -> str:
    """The same tables as LaTeX floats; the document needs the package booktabs."""
    return latex_file(_latex(table, there) for table, there in lines(parts).items())


FORMATS: dict[str, Callable[[Sequence[Slice]], str]] = {"md": markdown, "csv": csv, "tex": latex}
"""name and ending of the file -> function that makes its content."""

_HEADS = ("model", "row", "source", "FID", "IS", "conditions", "compares with the published")


def _lead(there: Sequence[Line]) -> str:
    own = [line for line in there if line.measured]
    apart = sum(bool(line.apart) for line in own)
    word = "No measured row compares" if apart == len(own) else f"{apart} of {len(own)} measured rows do not compare"
    warning = f" {word} with the published ones; the last column says why." if apart else ""
    return (
        "Published numbers as printed, each with its source; then the rows of each measured system with the best FID "
        f"and the highest IS, ± one standard error where it is known.{warning} FIDs of different papers do not share "
        "a protocol."
    )


def _texts(line: Line) -> tuple[str, ...]:
    return line.model, line.which, line.source, line.fid or "–", line.score or "–", line.conditions, line.verdict


def _markdown(table: Published, there: Sequence[Line]) -> str:
    head = f"**Systems and published models** (beside the paper's Table {table.number}, {table.dataset})."
    rows = [[*map(escape_markdown, _texts(line))] for line in there]
    return f"{head} {_lead(there)}\n\n{markdown_table(_HEADS, rows, 'lllrrll')}"


def _record(table: Published, line: Line) -> dict[str, Any]:
    fid, fid_se, score, score_se = line.numbers or (line.fid, "", line.score, "")
    record = {"paper_table": table.number, "kind": "measured" if line.measured else "published"}
    record |= {"model": line.model, "row": line.which, "source": line.source}
    record |= {"FID": fid, "FID se": fid_se, "IS": score, "IS se": score_se, "conditions": line.conditions}
    return record | {"compares": "" if not line.measured else "no" if line.apart else "yes", "why_not": line.apart}


def _latex(table: Published, there: Sequence[Line]) -> str:
    body = [latex_row(map(escape_latex, _texts(line))) for line in there]
    published = sum(not line.measured for line in there)
    caption = f"Systems and published models, {table.dataset} in the paper's Table {table.number}. {_lead(there)}"
    blocks = [[latex_row(_HEADS)], body[:published], body[published:]]
    return latex_table(caption, "p{2.2cm}p{1.1cm}p{2.2cm}rrp{3.4cm}p{2.4cm}", blocks, narrow=True)
