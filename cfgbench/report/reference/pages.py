"""The published tables and the literature as files and on the terminal."""

from collections.abc import Callable, Mapping, Sequence

import pandas as pd
from rich.console import RenderableType
from rich.text import Text

from cfgbench.report.page import section
from cfgbench.report.reference.tables import TITLE, Published, literature
from cfgbench.report.tables import formats, markup
from cfgbench.report.tables.markup import escape_latex, escape_markdown, latex_row, markdown_table

_HEADS = {"open": "The paper leaves open", "contradiction": "Where the paper's text and its table differ"}
_CONFIDENCE = {
    "verified": "read in the source that is named",
    "secondary": "quoted from another place, or not read in the source itself",
    "user-report": "measured by a user and told on an issue page, not by the authors",
}
_LITERATURE = ["model", "guidance", "metric", "value", "NFE_or_steps", "source_paper", "confidence", "notes"]


def markdown(table: Published) -> str:
    """The table, the models it quotes, and what has to be known to read it."""
    numbers = formats.markdown([table.part], first=table.number).strip()
    quoted = [(escape_markdown(model), *rest) for model, *rest in _quoted(table)]
    others = markdown_table(["quoted by the paper", "citation", "FID", "IS"], quoted, "llrr")
    return "\n\n".join([numbers, others, remarks(table)]) + "\n"


def remarks(table: Published) -> str:
    """What the paper leaves open, and where it contradicts itself, as two lists."""
    return "\n\n".join(_listed(head, table.notes(kind)) for kind, head in _HEADS.items())


def csv(table: Published) -> str:
    """The table's numbers, then a row for each model it quotes (columns model, citation, FID, IS)."""
    quoted = table.baselines.rename(columns={"fid": "FID", "is": "IS"}).assign(table=table.number)
    whole = pd.concat([formats.frame([table.part], first=table.number), quoted], ignore_index=True)
    return markup.csv(whole.drop(columns="notes"))


def latex(table: Published) -> str:
    """The table as a LaTeX float, with the models that it quotes below the line."""
    count = len(table.part.rows[table.key].unique())
    left, span = r"\multicolumn{2}{l}", rf"\multicolumn{{{count}}}{{c}}"
    below = [
        latex_row([f"{left}{{{escape_latex(f'{model} ({citation})')}}}", f"{span}{{{fid}}}", f"{span}{{{score}}}"])
        for model, citation, fid, score in _quoted(table, dash="--")
    ]
    notes = [f"{head}: {' '.join(table.notes(kind))}" for kind, head in _HEADS.items()]
    return formats.latex([table.part], below=below, remarks=notes)


FORMATS: dict[str, Callable[[Published], str]] = {"md": markdown, "csv": csv, "tex": latex}
"""name and ending of the file -> function that makes its content."""


def terminal(table: Published) -> list[RenderableType]:
    """The same for a rich console."""
    (view,) = formats.terminal([table.part])
    view.title = Text(f"Table {table.number}. {view.title}")
    quoted = [f"{model} ({citation}): FID {fid}, IS {score}" for model, citation, fid, score in _quoted(table)]
    return [view, Text(f"{_listed('Quoted by the paper', quoted)}\n\n{remarks(table)}\n")]


def literature_markdown(resolutions: Sequence[int] = ()) -> str:
    """Results of others, a table for each resolution; all of them where none is named."""
    rows = literature()
    sizes = [str(one) for one in resolutions] or list(dict.fromkeys(rows["resolution"]))
    meanings = [f"{name}: {meaning}." for name, meaning in _CONFIDENCE.items()]
    parts = ["# Results of others on ImageNet", _listed("How well a number is known", meanings)]
    parts.append(
        "FIDs of different papers do not share a protocol: reference sets, crops and the number of runs differ."
    )
    for resolution in sizes:
        parts.append(f"## {resolution}x{resolution}\n\n{_literature_table(rows[rows['resolution'] == resolution])}")
    return "\n\n".join(parts) + "\n"


def literature_csv(resolutions: Sequence[int] = ()) -> str:
    """The same rows as CSV."""
    rows = literature()
    kept = rows["resolution"].isin([str(one) for one in resolutions]) if resolutions else rows.index >= 0
    return markup.csv(rows[kept])


LITERATURE: dict[str, Callable[[Sequence[int]], str]] = {"md": literature_markdown, "csv": literature_csv}
"""ending of the file -> function that makes its content for these resolutions, or for all."""


def index(tables: Sequence[Published], files: Mapping[str, bytes]) -> str:
    """The page of the published numbers, with the figures and the verdicts that are among the `files`."""
    parts = [f"# {TITLE}", "The numbers as published; nothing here was measured by cfgbench."]
    for table in tables:
        figure = f"![Figure {table.figure}](figure-{table.figure}.png)"
        parts += [f"## Table {table.number} and Figure {table.figure}", figure, markdown(table).strip()]
    parts.append(section("The paper's claims", files, "claims.md"))
    parts.append("## Results of others\n\nEarlier and later results: [literature.md](literature.md)")
    parts.append("## Files\n\n" + ", ".join(f"[{file}]({file})" for file in files))
    return "\n\n".join(parts) + "\n"


def _quoted(table: Published, dash: str = "–") -> list[tuple[str, ...]]:
    return [tuple(text or dash for text in row) for row in table.baselines.itertuples(index=False)]


def _listed(head: str, texts: Sequence[str]) -> str:
    return "\n".join([f"{head}:", "", *(f"- {text}" for text in texts)])


def _literature_table(rows: pd.DataFrame) -> str:
    heads = ["model", "guidance", "metric", "value", "network calls or steps", "source", "known", "notes"]
    cells = [[*map(escape_markdown, row)] for row in rows[_LITERATURE].itertuples(index=False)]
    return markdown_table(heads, cells, "lllrrlll")
