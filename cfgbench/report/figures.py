"""The figures of a report by their names, and by the stems of their files."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from cfgbench.errors import UserError
from cfgbench.report.drawing.figure_files import Draw, NothingToPlot
from cfgbench.report.drawing.plots import steps, strength, tradeoff
from cfgbench.report.drawing.samples import samples
from cfgbench.report.request import ALL_IMAGES, ImageChoice
from cfgbench.report.rows.slice import Slice


class Shown(NamedTuple):
    """What a report is made of: the sweep's folder, each system's slices, and what tables and trade-offs show of them
    (see slices.arranged). `behind` gives the published slice whose curves stand behind those of a slice, or None."""

    folder: Path
    parts: Sequence[Slice]
    arranged: Sequence[Slice]
    behind: Callable[[Slice], Slice | None] = lambda _: None


PLOTS: dict[str, Callable[[Shown, ImageChoice], list[Draw]]] = {
    "tradeoff": lambda shown, _: tradeoff(shown.arranged, behind=shown.behind),
    "strength": lambda shown, _: strength(shown.arranged),
    "steps": lambda shown, _: steps(shown.parts),
    "samples": lambda shown, choice: samples(shown.folder, shown.parts, choice),
}
"""name -> function that says how to draw a figure a slice, of the images that are chosen; raises NothingToPlot."""


def draws(shown: Shown, names: Iterable[str], choice: ImageChoice = ALL_IMAGES) -> dict[str, Draw]:
    """The figures of these names by the stems of their files: tradeoff, and tradeoff-2 ... where there are several
    slices; samples-chosen where images are chosen. Raises UserError where the rows have nothing for one."""
    found: dict[str, Draw] = {}
    for name in names:
        try:
            found |= _of_slices(shown, name, choice)
        except NothingToPlot as error:
            raise UserError(f"{shown.folder}: --plot {error}") from None
    return found


def all_draws(shown: Shown) -> dict[str, Draw]:
    """All figures that the rows allow, likewise."""
    found: dict[str, Draw] = {}
    for name in PLOTS:
        with suppress(NothingToPlot):
            found |= _of_slices(shown, name, ALL_IMAGES)
    return found


def _of_slices(shown: Shown, name: str, choice: ImageChoice) -> dict[str, Draw]:
    stem = f"{name}-chosen" if name == "samples" and any(choice) else name
    return {stem if n == 1 else f"{stem}-{n}": draw for n, draw in enumerate(PLOTS[name](shown, choice), 1)}
