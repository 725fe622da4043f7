"""From the rows of a sweep to tables, figures and a page: files in one folder, each written whole or not at all."""

import io
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console

from cfgbench.errors import UserError
from cfgbench.files import write_atomically
from cfgbench.report import plots as figures
from cfgbench.report import tables as formats
from cfgbench.report.page import index
from cfgbench.report.samples import samples
from cfgbench.report.slices import Slice, slices
from cfgbench.report.style import png, svg

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
) -> list[Path]:
    """Writes the report of the sweep in `folder` (its sample images are used) into `out`; returns the files' paths.

    `plots` and `tables` name what is made (see PLOTS and tables.TABLES). With neither, all that the rows allow is made,
    and with it the page index.md and all rows as rows.parquet; with one of them, only what it names. A name that is not
    known, or for which the rows hold nothing, is a UserError; then nothing is written.
    """
    parts = slices(rows, where=folder)
    if not plots and not tables:
        files = _tables(parts, list(formats.TABLES)) | _plots(folder, parts, None)
        files |= {"rows.parquet": _parquet(rows), "index.md": index(folder.name, rows, parts, list(files)).encode()}
    else:
        files = _tables(parts, _known(tables, formats.TABLES, "table"))
        files |= _plots(folder, parts, _known(plots, PLOTS, "plot"))
    for name, content in files.items():
        write_atomically(out / name, content)
    return [out / name for name in files]


def print_tables(rows: pd.DataFrame) -> None:
    """The sweep's tables on the terminal; elsewhere as plain text that is as wide as it needs."""
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    for table in formats.terminal(slices(rows)):
        console.print(table)


def _known(names: Sequence[str] | None, known: Mapping[str, Any], option: str) -> list[str]:
    for name in names or []:
        if name not in known:
            raise UserError(f"--{option} {name}: not known; there are {', '.join(known)}")
    return list(dict.fromkeys(names or []))


def _tables(parts: Sequence[Slice], names: Sequence[str]) -> dict[str, bytes]:
    return {file: make(parts).encode() for file, make in (formats.TABLES[name] for name in names)}


def _plots(folder: Path, parts: Sequence[Slice], names: Sequence[str] | None) -> dict[str, bytes]:
    """The figures' files: tradeoff.png, tradeoff.svg, and tradeoff-2.png ... where there are several slices."""
    files: dict[str, bytes] = {}
    for name in PLOTS if names is None else names:
        try:
            drawn = PLOTS[name](folder, parts)
        except figures.NothingToPlot as error:
            if names is None:
                continue
            raise UserError(f"{folder}: --plot {error}") from None
        for number, figure in enumerate(drawn, 1):
            stem = name if number == 1 else f"{name}-{number}"
            files[f"{stem}.png"] = png(figure)
            vector = svg(figure)
            if len(vector) <= LARGEST_SVG:
                files[f"{stem}.svg"] = vector
    return files


def _parquet(rows: pd.DataFrame) -> bytes:
    file = io.BytesIO()
    rows.to_parquet(file, index=False)
    return file.getvalue()
