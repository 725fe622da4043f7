"""The published numbers: as a report of their own, which needs no run, and beside what was measured."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from cfgbench.report.claims import Judged, judge_published, text
from cfgbench.report.drawing.figure_files import Draw, begin
from cfgbench.report.drawing.plots import tradeoff
from cfgbench.report.figures import PLOTS, Shown, draws
from cfgbench.report.output import save, texts
from cfgbench.report.reference import TABLES, beside, comparison, pages
from cfgbench.report.reference.agreement import counterpart
from cfgbench.report.request import WHOLE, Request, checked_names, refuse_choice
from cfgbench.report.rows.slice import Slice
from cfgbench.report.rows.systems import CFG

_FROM_NUMBERS = [name for name in PLOTS if name != "samples"]


def write_paper(out: Path, request: Request = WHOLE) -> list[Path]:
    """Writes the paper's tables and figures; returns the files' paths.

    The whole is table-1 and table-2 in every format, figure-4 and figure-5 (the trade-offs), the verdicts on the
    paper's claims, literature.md and .csv, and the page index.md; else there is only what the request names, other
    figures too (strength, steps). What published numbers cannot give is a UserError; then nothing is written.
    """
    refuse_choice(request)
    kinds = list(pages.FORMATS) if request.whole else checked_names(request.tables, pages.FORMATS, "table")
    files: dict[str, bytes] = {}
    for one in TABLES:
        files |= texts(f"table-{one.number}", pages.FORMATS, one, kinds)
    figures: dict[str, Draw] = {}
    for plot in ["tradeoff"] if request.whole else checked_names(request.plots, _FROM_NUMBERS, "plot"):
        if plot == "tradeoff":
            figures |= {f"figure-{one.figure}": tradeoff([one.part])[0] for one in TABLES}
        else:
            parts = [one.part for one in TABLES]
            figures |= draws(Shown(Path("paper"), parts, parts), [plot])
    files |= begin(figures, with_pdf=request.pdf)()
    if request.whole or request.claims:
        files |= texts("claims", text.FORMATS, judge_paper())
    if request.whole:
        files |= texts("literature", pages.LITERATURE, ())
        files["index.md"] = pages.index(TABLES, files).encode()
    return save(files, out)


@cache
def judge_paper() -> tuple[Judged, ...]:
    """The verdicts on the paper's claims by its own tables."""
    return tuple(judge_published(one) for one in TABLES)


def beside_published(shown: Shown, kinds: Iterable[str]) -> dict[str, bytes]:
    """Published beside measured in those of the formats that there are: every system among the published models, the
    paper's guidance point by point, and the literature on the same data sets."""
    files = texts("comparison", comparison.FORMATS, shown.parts, kinds)
    guided = [part for part in shown.parts if part.knob == "w" and part.rows["system"].iloc[0] == CFG]
    if guided:
        laid = [beside.lay_beside(part, _number(part, shown)) for part in guided]
        files |= texts("reference", beside.FORMATS, laid, kinds)
    if sizes := sorted({table.resolution for part in shown.parts if (table := counterpart(part))}):
        files |= texts("literature", pages.LITERATURE, sizes, kinds)
    return files


def _number(part: Slice, shown: Shown) -> int:
    """The number of the table that shows the slice: its own, or that of the systems side by side."""
    cell = part.rows["cell_id"].iloc[0]
    own = [number for number, other in enumerate(shown.arranged, 1) if other is part]
    return (own or [n for n, other in enumerate(shown.arranged, 1) if (other.rows["cell_id"] == cell).any()])[0]
