"""Texts and tables as GitHub's Markdown, as LaTeX and as CSV, whatever they say."""

import re
from collections.abc import Iterable, Sequence

import pandas as pd

_RULES = {"l": ":--", "r": "--:"}
_MARKDOWN = re.compile(
    r"[\\`*\[\]<>|~$]"
    r"|&(?=#?\w+;)"  # an entity
    r"|(?<![^\W_])_|_(?![^\W_])"  # emphasis; between two letters it is itself
)
_SYMBOLS = re.compile(r"(?<![\w.-])(?:p\\_uncond|[wTv])(?![\w-]|\.\w)")
"""In LaTeX, standing for themselves."""
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{
        "∞": r"$\infty$",
        "−": r"$-$",
        "–": "--",
        "±": r"$\pm$",
        "×": r"$\times$",
        "→": r"$\to$",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "≤": r"$\le$",
        "≥": r"$\ge$",
    },
}


def escape_markdown(text: str) -> str:
    """Text that may hold anything, fit for a table or a paragraph of GitHub's Markdown."""
    return " ".join(_MARKDOWN.sub(r"\\\g<0>", text).split())


def escape_latex(text: str) -> str:
    """Text that may hold anything, fit for LaTeX's text mode."""
    return "".join(_LATEX.get(character, character) for character in text)


def _symbol(found: re.Match[str]) -> str:
    return r"$p_\mathrm{uncond}$" if found[0].startswith("p") else f"${found[0]}$"


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]], sides: str = "") -> str:
    """A table of heads and cells that are Markdown. `sides` has an l or r a column; without it all stand right, as
    numbers do."""
    rule = "|".join(_RULES[side] for side in sides or "r" * len(heads))
    return "\n".join([_line(heads), f"|{rule}|", *map(_line, rows)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def latex_row(cells: Iterable[str]) -> str:
    """A row of a LaTeX table, of cells that are LaTeX."""
    return rf"{' & '.join(cells)} \\"


def latex_table(
    caption: str,
    columns: str,
    blocks: Iterable[Sequence[str]],
    *,
    narrow: bool = False,
    notes: Iterable[str] = (),
) -> str:
    """A float with a table of these `columns` (as tabular has them): blocks of rows, the heads first, with rules
    between them. `narrow` saves room; `caption`, in which the paper's symbols become mathematics, and the `notes` below
    are plain text."""
    ruled = "\n\\midrule\n".join("\n".join(block) for block in blocks if block)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_SYMBOLS.sub(_symbol, escape_latex(caption))}}}",
        *([r"\footnotesize\setlength{\tabcolsep}{3pt}"] if narrow else []),
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        ruled,
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\footnotesize {escape_latex(note)}" for note in notes),
        r"\end{table}",
    ]
    return "\n".join(lines)


def latex_file(tables: Iterable[str]) -> str:
    """Floats as a file, which says what the document needs."""
    return "% needs \\usepackage{booktabs}\n" + "\n\n".join(tables) + "\n"


def csv(frame: pd.DataFrame) -> str:
    """The frame's columns; numbers read back to the same float64."""
    return frame.to_csv(index=False, lineterminator="\n")
