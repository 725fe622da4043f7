"""From the rows of a sweep to tables, figures and a page: files in one folder, each written whole or not at all."""

import io
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from rich.console import Console, RenderableType

from cfgbench.errors import UserError, counted
from cfgbench.files import make_folder, write_atomically
from cfgbench.report import plots as figures
from cfgbench.report import protocols
from cfgbench.report import tables as formats
from cfgbench.report.claims import Judged, judge, judge_published, text
from cfgbench.report.columns import asked_for
from cfgbench.report.drawing import Draw, begin
from cfgbench.report.page import index
from cfgbench.report.reference import compare, load, models, pages
from cfgbench.report.samples import Choice, samples
from cfgbench.report.slices import Slice, arranged, settled, side_by_side, slices
from cfgbench.report.summary import summary
from cfgbench.report.systems import CFG
from cfgbench.sweep.store import Store


class Shown(NamedTuple):
    """What a report is made of: the sweep's folder, each system's slices, what tables and trade-offs show of them (see
    slices.arranged), and which images are shown."""

    folder: Path
    parts: Sequence[Slice]
    arranged: Sequence[Slice]
    choice: Choice = Choice()


Drawer = Callable[[Shown], list[Draw]]

PLOTS: dict[str, Drawer] = {
    "tradeoff": lambda shown: figures.tradeoff(shown.arranged),
    "strength": lambda shown: figures.strength(shown.arranged),
    "steps": lambda shown: figures.steps(shown.parts),
    "samples": lambda shown: samples(shown.folder, shown.parts, shown.choice),
}
"""name -> function that says how to draw a figure a slice; raises NothingToPlot."""


class Report:
    """What is said of the rows of the sweep in `folder`, where its sample images and influences lie; all is found once.

    With `mixed`, rows of different protocols stand together, each with its mark; not beside published numbers. `choice`
    says which images the plot samples shows. Raises UserError for rows that no sweep wrote.
    """

    def __init__(
        self,
        folder: Path,
        rows: pd.DataFrame,
        *,
        mixed: bool = False,
        choice: Choice = Choice(),  # noqa: B008
    ) -> None:
        self.rows, self.mixed = rows, mixed
        self._store = Store(folder)
        self._asked = self._store.asked()
        self._earlier: list[str] = []
        self.counted = settled(asked_for(rows, self._asked), where=folder)
        parts = slices(self.counted, where=folder, mixed=mixed)
        beside = side_by_side(self.counted, where=folder, mixed=mixed)
        self.shown = Shown(folder, parts, arranged(parts, beside), choice)

    @cached_property
    def judged(self) -> list[Judged]:
        """The verdicts on the paper's claims. Raises UserError for influences that are not finite."""
        return judge(self.counted, self._store)

    @cached_property
    def best(self) -> list[str]:
        """A line a curve: its best FID, what cannot be told from it, what guidance gained."""
        return summary(self._store, self.shown.parts)

    @property
    def notes(self) -> list[str]:
        """Lines on what is not in the report, or stands apart in it; as far as it is written or asked for by then."""
        missing, others = missing_cells(self.rows, self._asked), _not_asked(self.counted)
        lines = ["" if self.mixed else protocols.kept_apart(self.counted)]
        lines += [f"{counted(missing, 'cell')} of the sweep not run yet"] if missing else []
        lines += [f"{counted(others, 'row')} of cells that the sweep no longer has, shown too"] if others else []
        if (lost := self._store.lost) and self._asked is not None:  # before there was such a note, few cells had them
            lines.append(f"{counted(len(lost), 'cell')} without readable influences, compared without pairing")
        lines += [f"of an earlier report, and not of this one: {', '.join(self._earlier)}"] if self._earlier else []
        return [line for line in lines if line]

    def write(
        self,
        out: Path,
        *,
        plots: Sequence[str] | None = None,
        tables: Sequence[str] | None = None,
        reference: str | None = None,
        claims: bool = False,
    ) -> list[Path]:
        """Writes the report into the folder `out`; returns the files' paths.

        `plots` and `tables` name what is made (see PLOTS and tables.TABLES), `claims` asks for the verdicts on the
        paper's claims. With none of them, all that the rows allow is made, and with it the page index.md and all rows
        as rows.parquet; with some, only what they name. A name that is not known, or for which the rows hold nothing,
        is a UserError; then nothing is written. Images that were chosen are written as samples-chosen, beside the whole
        sheet.

        With `reference` (see reference.REFERENCES) the published numbers stand beside the measured: point by point in
        reference.md and .csv, each system among other models in comparison.md, .csv and .tex, both on the page, and in
        the trade-off where they share its axes.
        """
        shown = self.shown
        check_choice(plots, shown.choice)
        if reference and any(part.marks for part in shown.parts):
            raise UserError(
                f"{shown.folder}: --mixed: published numbers stand beside one protocol; leave out --reference or it"
            )
        drawers = PLOTS
        if reference:
            load(reference)
            drawers = PLOTS | {"tradeoff": lambda shown: figures.tradeoff(shown.arranged, behind=compare.comparable)}
        if not plots and not tables and not claims:
            files = self._whole(drawers, against=bool(reference))
            self._earlier = _left_in(out, files)
            return _save(files, out)
        kinds = _known(tables, formats.TABLES, "table")
        drawn = begin(_plots(shown, _known(plots, PLOTS, "plot"), drawers))
        files = _tables(shown.arranged, kinds)
        files |= _against(shown, tables or ()) if reference else {}
        files |= drawn()
        files |= _claims(self.judged) if claims else {}
        return _save(files, out)

    def _whole(self, drawers: Mapping[str, Drawer], *, against: bool) -> dict[str, bytes]:
        """All that the rows allow, and the page; with `against`, beside the published numbers."""
        shown = self.shown
        drawn = begin(_plots(shown, None, drawers))
        judged, lines = self.judged, self.best  # while the figures are drawn
        files = _tables(shown.arranged, list(formats.TABLES))
        published = _against(shown, list(formats.TABLES)) if against else {}
        files |= drawn() | published | _claims(judged)
        page = index(
            shown.folder.name,
            self.rows,
            missing_cells(self.rows, self._asked),
            shown.parts,
            list(files),
            lines=lines,
            tables=files["table.md"].decode(),
            more=[_verdicts(judged), _section(published)],
        )
        return files | {"rows.parquet": _parquet(self.rows), "index.md": page.encode()}


def missing_cells(rows: pd.DataFrame, asked: Sequence[Mapping[str, Any]] | None) -> int:
    """How many of the sweep's cells (see Store.asked) have no row; 0 where they are not known."""
    return len({cell["cell_id"] for cell in asked or ()} - {*rows["cell_id"]})


def _not_asked(counted: pd.DataFrame) -> int:
    """How many of the rows that are shown the sweep no longer asks for."""
    return sum(not member.get("asked", True) for members in counted["members"] for member in members)


def check_choice(plots: Sequence[str] | None, choice: Choice) -> None:
    """Raises UserError where images are chosen for a report that shows none."""
    if any(choice) and "samples" not in (plots or ()):
        raise UserError("--classes and --w choose images: they need --plot samples and a sweep")


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
    draws: dict[str, Draw] = {}
    for kind in ["tradeoff"] if whole else _known(plots, from_numbers, "plot"):
        if kind == "tradeoff":
            draws |= {f"figure-{one.figure}": figures.tradeoff([one.part])[0] for one in published}
        else:
            parts = [one.part for one in published]
            draws |= _plots(Shown(Path(name), parts, parts), [kind], PLOTS)
    files |= begin(draws)()
    files |= _claims(judged) if judged else {}
    if whole:
        files |= {
            "literature.md": pages.literature_markdown().encode(),
            "literature.csv": pages.literature_csv().encode(),
        }
        files["index.md"] = pages.index(published, list(files), _verdicts(judged)).encode()
    return _save(files, out)


def print_reference(name: str, *, claims: bool = False) -> None:
    """The published tables on the terminal, with the models that they quote and what they leave open; or the verdicts
    on the paper's `claims` by them."""
    if claims:
        print_claims([judge_published(one) for one in load(name)])
        return
    for one in load(name):
        _print(pages.terminal(one))


def print_claims(judged: Sequence[Judged]) -> None:
    """The verdicts on the paper's claims, with their numbers."""
    print(text.plain(judged), end="\n\n")


def print_tables(rows: pd.DataFrame) -> None:
    """The sweep's tables on the terminal; elsewhere as plain text that is as wide as it needs."""
    _print(formats.terminal(arranged(slices(rows), side_by_side(rows))))


def _print(views: Sequence[RenderableType]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    for view in views:
        console.print(view)


def _left_in(out: Path, files: Mapping[str, bytes]) -> list[str]:
    """What a whole report would write into the folder, and did once, but for images that were chosen."""
    kinds = {
        *PLOTS,
        *(name.partition(".")[0].partition("-")[0] for name in files),
        "comparison",
        "literature",
        "reference",
    }
    there = (path.name for path in out.glob("*.*") if path.stem.partition("-")[0] in kinds)
    return sorted(name for name in there if name not in files and "-chosen" not in name)


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


def _against(shown: Shown, kinds: Sequence[str]) -> dict[str, bytes]:
    """Published beside measured in those of the formats that there are: the paper's guidance point by point, every
    system among the published models, and the literature on the same data sets."""
    files = {f"comparison.{kind}": models.FORMATS[kind](shown.parts).encode() for kind in kinds}
    guided = [part for part in shown.parts if part.knob == "w"]
    guided = [part for part in guided if part.rows["system"].iloc[0] == CFG] or guided  # else the rule that there is
    sizes = sorted({table.resolution for part in shown.parts if (table := compare.counterpart(part))})
    if guided:
        beside, numbers = [compare.compare(part) for part in guided], [_number(part, shown) for part in guided]
        points = {"md": ("reference.md", compare.markdown), "csv": ("reference.csv", compare.csv)}
        files |= {name: make(beside, numbers).encode() for kind, (name, make) in points.items() if kind in kinds}
    if sizes:
        literature = {"md": pages.literature_markdown, "csv": pages.literature_csv}
        files |= {f"literature.{kind}": make(sizes).encode() for kind, make in literature.items() if kind in kinds}
    return files


def _claims(judged: Sequence[Judged]) -> dict[str, bytes]:
    return {"claims.md": text.markdown(judged).encode(), "claims.csv": text.csv(judged).encode()}


def _verdicts(judged: Sequence[Judged]) -> str:
    return f"## The paper's claims\n\n{text.markdown(judged).strip()}"


def _number(part: Slice, shown: Shown) -> int:
    """The number of the table that shows the slice: its own, or that of the systems side by side."""
    cell = part.rows["cell_id"].iloc[0]
    own = [number for number, other in enumerate(shown.arranged, 1) if other is part]
    return (own or [n for n, other in enumerate(shown.arranged, 1) if (other.rows["cell_id"] == cell).any()])[0]


def _section(against: Mapping[str, bytes]) -> str:
    texts = [against[name].decode().strip() for name in ("comparison.md", "reference.md") if name in against]
    return "\n\n".join(["## Beside the published numbers", *texts]) if texts else ""


def _plots(shown: Shown, names: Sequence[str] | None, drawers: Mapping[str, Drawer]) -> dict[str, Draw]:
    """The figures by the stems of their files: tradeoff, and tradeoff-2 ... where there are several slices."""
    draws: dict[str, Draw] = {}
    for name in drawers if names is None else names:
        try:
            of_slices = drawers[name](shown)
        except figures.NothingToPlot as error:
            if names is None:
                continue
            raise UserError(f"{shown.folder}: --plot {error}") from None
        stem = f"{name}-chosen" if name == "samples" and any(shown.choice) else name
        draws |= {stem if number == 1 else f"{stem}-{number}": draw for number, draw in enumerate(of_slices, 1)}
    return draws


def _parquet(rows: pd.DataFrame) -> bytes:
    file = io.BytesIO()
    rows.to_parquet(file, index=False)
    return file.getvalue()
