"""From the rows of a sweep to tables, figures and a page: files in one folder, each written whole or not at all."""

import io
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console, RenderableType

from cfgbench.errors import UserError
from cfgbench.files import make_folder, write_atomically
from cfgbench.report import plots as figures
from cfgbench.report import protocols
from cfgbench.report import tables as formats
from cfgbench.report.claims import Judged, judge, judge_published, text
from cfgbench.report.page import index
from cfgbench.report.reference import compare, load, pages
from cfgbench.report.samples import samples
from cfgbench.report.slices import Slice, settled, slices
from cfgbench.report.style import png, svg
from cfgbench.report.summary import summary

PLOTS: dict[str, Callable[[Path, Sequence[Slice]], list[Figure]]] = {
    "tradeoff": lambda _, parts: figures.tradeoff(parts),
    "strength": lambda _, parts: figures.strength(parts),
    "steps": lambda _, parts: figures.steps(parts),
    "samples": samples,
}
"""name -> function that draws a figure a slice, from the sweep's folder and its slices; raises NothingToPlot."""

LARGEST_SVG = 400_000
"""Bytes; a sheet of photographs is better off as PNG alone."""


def write(
    folder: Path,
    rows: pd.DataFrame,
    out: Path,
    *,
    plots: Sequence[str] | None = None,
    tables: Sequence[str] | None = None,
    reference: str | None = None,
    mixed: bool = False,
    claims: bool = False,
) -> list[Path]:
    """Writes the report of the sweep in `folder` (its sample images are used) into `out`; returns the files' paths.

    `plots` and `tables` name what is made (see PLOTS and tables.TABLES), `claims` asks for the verdicts on the paper's
    claims. With none of them, all that the rows allow is made, and with it the page index.md and all rows as
    rows.parquet; with some, only what they name. A name that is not known, or for which the rows hold nothing, is a
    UserError; then nothing is written.

    With `reference` (see reference.REFERENCES) the published numbers stand beside the measured, in reference.md,
    reference.csv and on the page, and in the trade-off where they share its axes. With `mixed`, rows of different
    protocols stand together, each with its mark; not beside published numbers.
    """
    parts = slices(rows, where=folder, mixed=mixed)
    if reference and any(part.marks for part in parts):
        raise UserError(f"{folder}: --mixed: published numbers stand beside one protocol; leave out --reference or it")
    drawers = PLOTS
    if reference:
        load(reference)
        drawers = PLOTS | {"tradeoff": lambda _, parts: figures.tradeoff(parts, behind=compare.comparable)}
    if not plots and not tables and not claims:
        files = _tables(parts, list(formats.TABLES)) | _plots(folder, parts, None, drawers)
        against = _against(parts, ("md", "csv")) if reference else {}
        section = _section(against["reference.md"].decode()) if against else ""
        judged = judge(rows, folder)
        files |= against | _claims(judged)
        page = index(
            folder.name,
            rows,
            parts,
            list(files),
            lines=summary(folder, parts),
            against=section,
            verdicts=_verdicts(judged),
        )
        files |= {"rows.parquet": _parquet(rows), "index.md": page.encode()}
    else:
        files = _tables(parts, _known(tables, formats.TABLES, "table"))
        files |= _against(parts, tables or ()) if reference else {}
        files |= _plots(folder, parts, _known(plots, PLOTS, "plot"), drawers)
        files |= _claims(judge(rows, folder)) if claims else {}
    return _save(files, out)


def summarise(folder: Path, rows: pd.DataFrame, *, mixed: bool = False) -> list[str]:
    """The page's lines on the best of each curve, for who sees no page."""
    return summary(folder, slices(rows, where=folder, mixed=mixed))


def kept_apart(folder: Path, rows: pd.DataFrame) -> str:
    """A line on which protocols stand in tables of their own, and in what they differ; "" where all is one."""
    return protocols.kept_apart(settled(rows, where=folder))


def write_reference(
    name: str,
    out: Path,
    *,
    plots: Sequence[str] | None = None,
    tables: Sequence[str] | None = None,
    claims: bool = False,
) -> list[Path]:
    """Writes the published tables and figures of the reference `name`, which need no run; returns the files' paths.

    With none of `plots`, `tables` and `claims`: table-1 and table-2 in every format, figure-4 and figure-5 (the
    trade-offs), the verdicts on the paper's claims, literature.md and .csv, and the page index.md. With some of them
    only what they name, other figures too (strength, steps). A name that is not known, or that published numbers cannot
    give, is a UserError; then nothing is written.
    """
    published = load(name)
    whole = not plots and not tables and not claims
    judged = [judge_published(one) for one in published] if whole or claims else []
    from_numbers = [kind for kind in PLOTS if kind != "samples"]
    files: dict[str, bytes] = {}
    for kind in pages.FORMATS if whole else _known(tables, pages.FORMATS, "table"):
        files |= {f"table-{one.number}.{kind}": pages.FORMATS[kind](one).encode() for one in published}
    for kind in ["tradeoff"] if whole else _known(plots, from_numbers, "plot"):
        if kind == "tradeoff":
            for one in published:
                files |= _figure(f"figure-{one.figure}", figures.tradeoff([one.part])[0])
        else:
            files |= _plots(Path(name), [one.part for one in published], [kind], PLOTS)
    files |= _claims(judged) if judged else {}
    if whole:
        files |= {
            "literature.md": pages.literature_markdown().encode(),
            "literature.csv": pages.literature_csv().encode(),
        }
        files["index.md"] = pages.index(published, list(files), _verdicts(judged)).encode()
    return _save(files, out)


def print_reference(name: str) -> None:
    """The published tables on the terminal, with the models that they quote and what they leave open."""
    for one in load(name):
        _print(pages.terminal(one))


def print_claims(folder: Path, rows: pd.DataFrame) -> None:
    """The verdicts on the paper's claims, with their numbers."""
    print(text.plain(judge(rows, folder)), end="\n\n")


def print_published_claims(name: str) -> None:
    """The same of the published tables of the reference `name`."""
    print(text.plain([judge_published(one) for one in load(name)]), end="\n\n")


def print_tables(rows: pd.DataFrame) -> None:
    """The sweep's tables on the terminal; elsewhere as plain text that is as wide as it needs."""
    _print(formats.terminal(slices(rows)))


def _print(views: Sequence[RenderableType]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    for view in views:
        console.print(view)


def _save(files: Mapping[str, bytes], out: Path) -> list[Path]:
    make_folder(out)
    for name, content in files.items():
        write_atomically(out / name, content)
    return [out / name for name in files]


def _known(names: Sequence[str] | None, known: Iterable[str], option: str) -> list[str]:
    for name in names or []:
        if name not in known:
            raise UserError(f"--{option} {name}: not known; there are {', '.join(known)}")
    return list(dict.fromkeys(names or []))


def _tables(parts: Sequence[Slice], names: Sequence[str]) -> dict[str, bytes]:
    return {file: make(parts).encode() for file, make in (formats.TABLES[name] for name in names)}


def _against(parts: Sequence[Slice], kinds: Sequence[str]) -> dict[str, bytes]:
    """Published beside measured in those of the formats that there are, and the literature on the same data sets."""
    comparisons = [compare.compare(part) for part in parts]
    sizes = sorted({one.published.resolution for one in comparisons if compare.counterpart(one.measured)})
    files: dict[str, bytes] = {}
    if "md" in kinds:
        files["reference.md"] = compare.markdown(comparisons).encode()
        files |= {"literature.md": pages.literature_markdown(sizes).encode()} if sizes else {}
    if "csv" in kinds:
        files["reference.csv"] = compare.csv(comparisons).encode()
        files |= {"literature.csv": pages.literature_csv(sizes).encode()} if sizes else {}
    return files


def _section(against: str) -> str:
    return f"## Beside the published numbers\n\n{against.strip()}"


def _claims(judged: Sequence[Judged]) -> dict[str, bytes]:
    return {"claims.md": text.markdown(judged).encode(), "claims.csv": text.csv(judged).encode()}


def _verdicts(judged: Sequence[Judged]) -> str:
    return f"## The paper's claims\n\n{text.markdown(judged).strip()}"


Drawers = Mapping[str, Callable[[Path, Sequence[Slice]], list[Figure]]]


def _plots(folder: Path, parts: Sequence[Slice], names: Sequence[str] | None, drawers: Drawers) -> dict[str, bytes]:
    """The figures' files: tradeoff.png, tradeoff.svg, and tradeoff-2.png ... where there are several slices."""
    files: dict[str, bytes] = {}
    for name in drawers if names is None else names:
        try:
            drawn = drawers[name](folder, parts)
        except figures.NothingToPlot as error:
            if names is None:
                continue
            raise UserError(f"{folder}: --plot {error}") from None
        for number, figure in enumerate(drawn, 1):
            files |= _figure(name if number == 1 else f"{name}-{number}", figure)
    return files


def _figure(stem: str, figure: Figure) -> dict[str, bytes]:
    files = {f"{stem}.png": png(figure)}
    vector = svg(figure)
    return files | ({f"{stem}.svg": vector} if len(vector) <= LARGEST_SVG else {})


def _parquet(rows: pd.DataFrame) -> bytes:
    file = io.BytesIO()
    rows.to_parquet(file, index=False)
    return file.getvalue()
