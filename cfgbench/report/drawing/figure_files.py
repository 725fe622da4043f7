"""Figures as files, drawn by as many processes as there are processors: most of a report's time goes there."""

import contextlib
import gc
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import matplotlib
from matplotlib import textpath
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser

from cfgbench import processes
from cfgbench.errors import UserError

Draw = Callable[[], Figure]
"""Makes a figure, in whichever process."""
Files = dict[str, bytes]
"""name -> content."""


class NothingToPlot(UserError):
    """There are no rows from which a figure could be drawn."""


PACKED = {"compress_level": 3}
"""Two thirds of the time that Pillow's 6 takes, for a twentieth more bytes."""
LARGEST_SVG = 400_000
"""Bytes; a sheet of photographs is better off as PNG alone."""


def begin(draws: Mapping[str, Draw], *, with_pdf: bool = False) -> Callable[[], Files]:
    """Begins to draw figures, named by the stems of their files: PNG, SVG (see LARGEST_SVG) and, `with_pdf`, PDF.
    Returns what waits for the files of all of them.

    What drawing raises is raised then.
    """
    count = min(processes.forkable_processors(), len(draws))
    if count < 2:
        return lambda: _draw_all(draws.items(), with_pdf=with_pdf)
    each, numbers = list(draws.items()), _numbers_below(len(draws))
    left = (each[int.from_bytes(number, "big")] for number in iter(partial(numbers.read, 2), b""))
    waits = [processes.begin(partial(_draw_apart, left, with_pdf=with_pdf)) for _ in range(count)]

    def wait() -> Files:
        with numbers:
            files = {name: content for one in waits for name, content in one().items()}
        lost = [(stem, draw) for stem, draw in each if f"{stem}.png" not in files]  # where one has died
        files |= _draw_all(lost, with_pdf=with_pdf)
        return {name: files[name] for stem in draws for name in _names(stem) if name in files}

    return wait


def _numbers_below(count: int) -> io.FileIO:
    """A pipe that holds them, of two bytes each: of the processes that have a copy whoever is done with a figure takes
    the next. What one has read is gone for the others, and one that dies leaves no lock behind."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as file:
        file.write(b"".join(number.to_bytes(2, "big") for number in range(count)))
    return os.fdopen(reader, "rb", buffering=0)


def _names(stem: str) -> list[str]:
    return [f"{stem}.{kind}" for kind in ("png", "svg", "pdf")]


def _files_of(stem: str, figure: Figure, *, with_pdf: bool) -> Files:
    contents = png(figure), svg(figure, LARGEST_SVG), pdf(figure) if with_pdf else b""
    return {name: content for name, content in zip(_names(stem), contents, strict=True) if content}


def _draw_apart(draws: Iterable[tuple[str, Draw]], *, with_pdf: bool) -> Files:
    """With fonts of its own: the files of those in what was parsed before the fork are read by one offset for all."""
    textpath.text_to_path.mathtext_parser = MathTextParser("path")  # the other fonts matplotlib drops by itself
    return _draw_all(draws, with_pdf=with_pdf)


def _draw_all(draws: Iterable[tuple[str, Draw]], *, with_pdf: bool) -> Files:
    files: Files = {}
    with plainly():
        for stem, draw in draws:
            if files:  # the figure before is a circle of things that hold each other, all of them young
                gc.collect(0)
            files |= _files_of(stem, draw(), with_pdf=with_pdf)
    return files


@contextlib.contextmanager
def plainly() -> Iterator[None]:
    """Figures are the same everywhere, whatever a matplotlibrc or a notebook has set."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield


def png(figure: Figure) -> bytes:
    """The figure as PNG, without the date and the version of the program that made it."""
    with io.BytesIO() as file:
        figure.savefig(file, format="png", dpi=figure.dpi, metadata={"Software": None}, pil_kwargs=PACKED)
        return file.getvalue()


def svg(figure: Figure, most: int | None = None) -> bytes:
    """The figure as SVG: the same bytes for the same numbers, text as outlines that look the same everywhere. Nothing
    where it would have more than `most` bytes."""
    with matplotlib.rc_context({"svg.hashsalt": "cfgbench", "svg.fonttype": "path"}), _Bounded(most) as file:
        try:
            figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        except _TooLarge:
            return b""
        return file.getvalue()


def pdf(figure: Figure) -> bytes:
    """The figure as PDF, which LaTeX includes: the same bytes for the same numbers, text as text, in TrueType fonts (of
    Type 3, matplotlib's default, journals want none)."""
    undated = dict.fromkeys(["CreationDate", "Creator", "Producer"])
    with matplotlib.rc_context({"pdf.fonttype": 42}), io.BytesIO() as file:
        figure.savefig(file, format="pdf", metadata=undated)
        return file.getvalue()


class _TooLarge(Exception):
    """What was written is larger than it may be; drawing the rest would be for nothing."""


class _Bounded(io.BytesIO):
    def __init__(self, most: int | None) -> None:
        super().__init__()
        self._most = most

    def write(self, content: Any) -> int:
        if self._most is not None and self.tell() + len(content) > self._most:
            raise _TooLarge
        return super().write(content)
