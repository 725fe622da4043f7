"""Tables of a sweep in the paper's layout: Markdown, CSV, LaTeX, and for the terminal."""

from collections.abc import Callable, Sequence

import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from cfgbench.report.layout import Layout, layout
from cfgbench.report.slices import NOT_STATED, Slice, as_text


def markdown(parts: Sequence[Slice], *, first: int = 1) -> str:
    """All tables of a sweep, each under its caption, as GitHub's Markdown; best numbers are bold. `first` numbers the
    first of them."""
    return "\n\n".join(_markdown(layout(part), number) for number, part in enumerate(parts, first)) + "\n"


def csv(parts: Sequence[Slice], *, first: int = 1) -> str:
    """All tables below each other, unrounded. `table` numbers them, the last columns say what the caption says.

    A failed cell is empty and its reason stands under `notes`. Numbers read back to the same float64.
    """
    frames = [_frame(layout(part), number) for number, part in enumerate(parts, first)]
    last = dict.fromkeys(column for _, columns in frames for column in columns)
    whole = pd.concat([frame for frame, _ in frames], ignore_index=True)
    front = [column for column in whole if column not in last]
    return whole[[*front, *last]].to_csv(index=False, lineterminator="\n")


def latex(parts: Sequence[Slice], *, below: Sequence[str] = (), notes: Sequence[str] = ()) -> str:
    """All tables as LaTeX floats; the document needs the package booktabs. `below` are more rows of each table, as
    LaTeX, under a line of their own; `notes` are texts that stand under it."""
    tables = (_latex(layout(part), below, notes) for part in parts)
    return "% needs \\usepackage{booktabs}\n" + "\n\n".join(tables) + "\n"


def terminal(parts: Sequence[Slice]) -> list[Table]:
    """The same tables for a rich console."""
    return [_terminal(layout(part)) for part in parts]


TABLES: dict[str, tuple[str, Callable[[Sequence[Slice]], str]]] = {
    "md": ("table.md", markdown),
    "csv": ("table.csv", csv),
    "tex": ("table.tex", latex),
}
"""name -> (file, function that makes its content)."""


def escape_markdown(text: str) -> str:
    """Text that may hold anything, fit for a table or a paragraph of GitHub's Markdown."""
    for character in "\\`*[]<>|":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())


_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"–": "--", "±": r"$\pm$", "×": r"$\times$", "→": r"$\to$", "<": r"\textless{}", ">": r"\textgreater{}"},
}


def escape_latex(text: str) -> str:
    """Text that may hold anything, fit for LaTeX's text mode."""
    return "".join(_LATEX.get(character, character) for character in text)


def _markdown(table: Layout, number: int) -> str:
    part = table.slice
    heads = [f"{metric.name}<br>{part.columns} {as_text(value)}" for metric, value in table.columns]
    lines = [f"| w | scale | {' | '.join(heads)} |", "|" + "--:|" * (2 + len(heads))]
    for w, entries in table.rows():
        cells = [f"**{text}**" if best else text for text, best in entries]
        lines.append(f"| {w:g} | {1 + w:g} | {' | '.join(cells)} |")
    caption = f"**Table {number}.** {escape_markdown(part.caption)} Best of each column in bold."
    notes = [f"({letter}) {escape_markdown(text)}" for letter, text in table.notes]
    return "\n\n".join([caption, "\n".join(lines), *notes])


def _frame(table: Layout, number: int) -> tuple[pd.DataFrame, list[str]]:
    """The table's numbers, and the columns that say under which conditions they hold."""
    part = table.slice
    frame = pd.DataFrame({"table": number, "w": table.ws, "scale": [round(1 + w, 12) for w in table.ws]})
    for j, (metric, value) in enumerate(table.columns):
        column = [row[j] for row in table.body]
        place = f"{part.columns}={as_text(value)}"
        frame[f"{metric.name} {place}"] = [entry.value for entry in column]
        if any(entry.se == entry.se for entry in column):
            frame[f"{metric.name} se {place}"] = [entry.se for entry in column]
    conditions = {key: as_text(value) for key, value in part.setting.items()}
    conditions["notes"] = "; ".join(text for _, text in table.notes)
    return frame.assign(**conditions), list(conditions)


def _latex(table: Layout, below: Sequence[str], more: Sequence[str]) -> str:
    part, count = table.slice, len(table.values)
    groups = [rf"\multicolumn{{{count}}}{{c}}{{{metric.name}}}" for metric in table.metrics]
    rules = [rf"\cmidrule(lr){{{3 + k * count}-{2 + (k + 1) * count}}}" for k in range(len(groups))]
    symbol = {"p_uncond": r"p_\mathrm{uncond}", "T": "T"}[part.columns]
    heads = [
        f"${symbol}$ {NOT_STATED}" if value is None else f"${symbol} = {as_text(value)}$" for _, value in table.columns
    ]
    body = []
    for w, entries in table.rows(plus_minus=r" $\pm$ ", dash="--"):
        cells = [rf"\textbf{{{text}}}" if best else text for text, best in entries]
        body.append(rf"{w:g} & {1 + w:g} & {' & '.join(cells)} \\")
    notes = [rf"\par\footnotesize ({letter}) {escape_latex(text)}" for letter, text in table.notes]
    notes += [rf"\par\footnotesize {escape_latex(text)}" for text in more]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape_latex(part.caption)} Best of each column in bold.}}",
        rf"\begin{{tabular}}{{{'r' * (2 + len(heads))}}}",
        r"\toprule",
        rf" & & {' & '.join(groups)} \\",
        "".join(rules),
        rf"$w$ & scale & {' & '.join(heads)} \\",
        r"\midrule",
        *body,
        *([r"\midrule", *below] if below else []),
        r"\bottomrule",
        r"\end{tabular}",
        *notes,
        r"\end{table}",
    ]
    return "\n".join(lines)


def _terminal(table: Layout) -> Table:
    part = table.slice
    title = f"{part.setting['dataset']}, {part.extractor} features" + (f", {part.differs}" if part.differs else "")
    notes = [f"({letter}) {text}" for letter, text in table.notes]
    view = Table(
        title=Text(title),
        caption=Text("\n".join([", ".join(part.conditions), *notes])),
        box=box.SIMPLE_HEAD,
        title_justify="left",
        caption_justify="left",
    )
    view.add_column("w", justify="right")
    view.add_column("scale", justify="right")
    for metric, value in table.columns:
        view.add_column(f"{metric.name}\n{part.columns}\n{as_text(value)}", justify="right")
    for w, entries in table.rows():
        cells = [Text(text, style="bold green" if best else "") for text, best in entries]
        view.add_row(f"{w:g}", f"{1 + w:g}", *cells)
    return view
