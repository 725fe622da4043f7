"""What is asked of a report: figures, tables and verdicts, by their names."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cfgbench.errors import UserError


class ImageChoice(NamedTuple):
    """Which images are shown: of these classes (names or ids), at these w; all that there are where none is named."""

    classes: Sequence[str] = ()
    ws: Sequence[float] = ()


ALL_IMAGES = ImageChoice()


class Request(NamedTuple):
    """Names of figures and tables, whether there are verdicts on the paper's claims, which images are shown, and
    whether there is a PDF of each figure. With no name and no verdicts the report is whole: all that the rows allow."""

    plots: Sequence[str] = ()
    tables: Sequence[str] = ()
    claims: bool = False
    choice: ImageChoice = ALL_IMAGES
    pdf: bool = False

    @property
    def whole(self) -> bool:
        return not self.plots and not self.tables and not self.claims


WHOLE = Request()


def refuse_choice(request: Request) -> None:
    """Raises UserError if images are chosen: for a report that shows none."""
    if any(request.choice):
        raise UserError("--classes and --w choose images: add --plot samples, of a sweep")


def checked_names(names: Iterable[str], there: Iterable[str], option: str) -> list[str]:
    """The names, each once. Raises UserError for one that is not `there`."""
    for name in names:
        if name not in there:
            raise UserError(f"--{option} {name}: not known; there are {', '.join(there)}")
    return list(dict.fromkeys(names))
