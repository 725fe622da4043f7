"""Figures as files, drawn by as many processes as there are processors: most of a report's time goes there."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection

from matplotlib.figure import Figure

from cfgbench.report.style import png, svg

Draw = Callable[[], Figure]
"""Makes a figure, in whichever process."""
Files = dict[str, bytes]
"""name -> content."""

LARGEST_SVG = 400_000
"""Bytes; a sheet of photographs is better off as PNG alone."""


def begin(draws: Mapping[str, Draw]) -> Callable[[], Files]:
    """Begins to draw figures, named by the stems of their files; returns what waits for the files of all of them.

    What drawing raises is raised then.
    """
    count = min(_processors(), len(draws))
    if count < 2:
        return lambda: _draw_all(draws)
    stems = list(draws)
    parts = [{stem: draws[stem] for stem in stems[first::count]} for first in range(count)]
    waits = [_begin(part) for part in parts]

    def wait() -> Files:
        files = {name: content for one in waits for name, content in one().items()}
        return {name: files[name] for stem in stems for name in (f"{stem}.png", f"{stem}.svg") if name in files}

    return wait


def _files_of(stem: str, draw: Draw) -> Files:
    """The figure as stem.png and stem.svg."""
    figure = draw()
    files = {f"{stem}.png": png(figure)}
    vector = svg(figure)
    return files | ({f"{stem}.svg": vector} if len(vector) <= LARGEST_SVG else {})


def _draw_all(draws: Mapping[str, Draw]) -> Files:
    return {name: content for stem, draw in draws.items() for name, content in _files_of(stem, draw).items()}


def _processors() -> int:
    """How many this process may use; 1 where processes cannot share what is in memory."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1


def _begin(draws: Mapping[str, Draw]) -> Callable[[], Files]:
    """The same in another process. One that cannot begin, or that dies, as where memory runs out, leaves its figures to
    this one."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_send, args=(draws, sender), daemon=True)
    with sender:
        try:
            process.start()
        except OSError:
            return lambda: _draw_all(draws)

    def wait() -> Files:
        try:
            found = receiver.recv()
        except (EOFError, OSError):  # the end came before the message, or within it
            found = _draw_all(draws)
        process.join()
        if isinstance(found, Exception):
            raise found
        return found

    return wait


def _send(draws: Mapping[str, Draw], to: Connection) -> None:
    try:
        to.send(_draw_all(draws))
    except Exception as error:
        to.send(error)
