"""The page of a sweep: index.md, which GitHub shows with its figures and tables."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath

import pandas as pd

from cfgbench.errors import counted
from cfgbench.report.figures import Shown
from cfgbench.report.rows.slice import Slice
from cfgbench.report.rows.systems import TEMPERATURES
from cfgbench.report.rows.tally import Tally
from cfgbench.report.tables.captions import bias
from cfgbench.report.tables.markup import escape_markdown, markdown_table
from cfgbench.report.words import known, why_failed
from cfgbench.sweep.results.row import differing, place_of

SETTINGS = "settings.yaml"
"""The sweep as it was run."""
_FIGURES = {
    "tradeoff": (
        "Trade-off",
        "FID against Inception Score as guidance grows; points are labelled with w where there is room.",
    ),
    "strength": ("Over guidance strength", "The w axis is nearly linear up to 0.5 and logarithmic beyond."),
    "steps": ("Over sampling steps", "Each metric over T at a few values of w."),
    "samples": (
        "Samples",
        "Rows are classes, columns are w; along a row all images begin with the same noise. Of the "
        "p_uncond (or T) of a table only the one with the best FID is shown.",
    ),
}


def index(shown: Shown, rows: pd.DataFrame, tally: Tally, files: Mapping[str, bytes], lines: Sequence[str]) -> str:
    """The page in Markdown. `rows` are all rows, and `tally` says what became of them; `files` are the other files, of
    which it shows figures, tables, verdicts and published numbers; `lines` are the summary (see summary.py)."""
    sections = [f"# {escape_markdown(shown.folder.name)}", _summary(tally, shown, lines)]
    done = pd.concat([part.ok for part in shown.parts])
    figures = {kind: _figures(kind, files, done) for kind in _FIGURES}
    sections.append(figures.pop("tradeoff"))
    sections += [section("Tables", files, "table.md"), section("The paper's claims", files, "claims.md")]
    sections.append(section("Beside the published numbers", files, "comparison.md", "reference.md"))
    sections += figures.values()
    sections += [_protocol(rows, shown.parts), _settings(files), _failed(tally), _files(files)]
    return "\n\n".join(section for section in sections if section) + "\n"


def section(title: str, files: Mapping[str, bytes], *names: str) -> str:
    """A section with what stands in these files; nothing where none of them is there."""
    texts = [files[name].decode().strip() for name in names if name in files]
    return "\n\n".join([f"## {title}", *texts]) if texts else ""


def _summary(tally: Tally, shown: Shown, summary: Sequence[str]) -> str:
    lines = [f"{_counts(tally)}{_beside(tally.others)}.", ""]
    lines += [f"- {escape_markdown(line)}" for line in summary]
    tables = [table for part in shown.arranged for table in part.by_knob]
    counts = dict.fromkeys(table.setting["samples"] for table in tables)
    alike = [[table for table in tables if table.setting["samples"] == count] for count in counts]
    if notes := [note for group in alike if (note := bias(*group))]:
        lines += ["", *notes]
    left_out = {
        "of an earlier version of the sweep": tally.earlier,
        "of seeds that most of their curve lack": tally.unused,
    }
    for whose, count in left_out.items():
        are = "is" if count == 1 else "are"
        where = "in `rows.parquet` but in no table or figure"
        lines += ["", f"{counted(count, 'row')} {whose} {are} {where}."] if count else []
    return "\n".join(lines)


def _counts(tally: Tally) -> str:
    """`4 cells: 2 done, 1 failed, 1 not run yet`."""
    to_do = f", {tally.missing} not run yet" if tally.missing else ""
    total = counted(len(tally.own) + tally.missing, "cell")
    return f"{total}: {tally.done} done, {len(tally.failed)} failed{to_do}"


def _beside(others: int) -> str:
    """What a sentence ends with where so many rows are of other cells."""
    shown = f"{'is' if others == 1 else 'are'} shown too"
    return f"; {counted(others, 'row')} of cells that the sweep no longer has {shown}" if others else ""


def _figures(kind: str, files: Iterable[str], rows: pd.DataFrame) -> str:
    """The figures of a kind with their caption; it says what stands for w in systems that turn the temperature. `rows`
    are those with numbers."""
    title, caption = _FIGURES[kind]
    turned = [system for system in TEMPERATURES if _shows(kind, rows, system)]
    caption += f" At {' and '.join(turned)} w gives way to the temperature, τ." if turned else ""
    images = [file for file in files if PurePath(file).suffix == ".png" and PurePath(file).stem.split("-")[0] == kind]
    if not images:
        return ""
    return "\n\n".join([f"## {title}", *(f"![{title}]({image})" for image in images), caption])


def _shows(kind: str, rows: pd.DataFrame, system: str) -> bool:
    """Whether figures of that kind show the system: those over T where it has several."""
    own = rows[rows["system"] == system]
    return own["T"].nunique() > 1 if kind == "steps" else len(own) > 0


def _protocol(rows: pd.DataFrame, parts: Sequence[Slice]) -> str:
    """What the numbers mean and where they were made, each thing once."""
    facts: dict[str, list[str]] = {}
    for part in parts:
        for key, value in part.provenance.items():
            facts.setdefault(key, []).append(value)
        for mark, meaning in part.marks.items():
            facts.setdefault(f"[{mark}]", []).append(meaning)
        if (digest := known(part.setting.get("protocol_id"))) is not None:
            facts.setdefault("protocol id", []).append(str(digest))
    for key in ("device", "precision", "cfgbench_version"):
        if key in rows:
            facts[key.replace("_", " ")] = [str(value) for value in rows[key].dropna()]
    lines = [
        (escape_markdown(key), "; ".join(map(escape_markdown, dict.fromkeys(values))))
        for key, values in facts.items()
        if values
    ]
    return f"## Protocol\n\n{markdown_table(['', ''], lines, 'll')}"


def _settings(files: Iterable[str]) -> str:
    words = "Data set, network, training and all other settings, as the sweep was last run"
    return f"{words}: [{SETTINGS}]({SETTINGS})." if SETTINGS in files else ""


def _failed(tally: Tally) -> str:
    if tally.failed.empty:
        return ""
    rows, failed = (
        [{str(key): known(value) for key, value in row.items()} for row in part.to_dict("records")]
        for part in (tally.own, tally.failed)
    )
    axes = [key for key in differing(rows) if not key.endswith("_id")]
    lines = [(f"`{row['cell_id']}`", place_of(row, axes), escape_markdown(why_failed(row))) for row in failed]
    return f"## Failed cells\n\n{markdown_table(['cell', 'place', 'reason'], lines, 'lll')}"


def _files(files: Iterable[str]) -> str:
    listed = ", ".join(f"[{file}]({file})" for file in ["rows.parquet", *files])
    return f"## Files\n\n{listed}"
