"""Figures as files, drawn by as many processes as there are processors: most of a report's time goes there."""

import gc
from collections.abc import Callable, Mapping
from functools import partial

from matplotlib import textpath
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser

from cfgbench import processes
from cfgbench.errors import UserError
from cfgbench.report.style import png, svg

Draw = Callable[[], Figure]
"""Makes a figure, in whichever process."""
Files = dict[str, bytes]
"""name -> content."""


class NothingToPlot(UserError):
    """There are no rows from which a figure could be drawn."""


LARGEST_SVG = 400_000
"""Bytes; a sheet of photographs is better off as PNG alone."""


def begin(draws: Mapping[str, Draw]) -> Callable[[], Files]:
    """Begins to draw figures, named by the stems of their files; returns what waits for the files of all of them.

    What drawing raises is raised then.
    """
    count = min(processes.forkable_processors(), len(draws))
    if count < 2:
        return lambda: _draw_all(draws)
    stems = list(draws)
    parts = [{stem: draws[stem] for stem in stems[first::count]} for first in range(count)]
    waits = [processes.begin(partial(_draw_apart, part)) for part in parts]

    def wait() -> Files:
        files = {name: content for one in waits for name, content in one().items()}
        return {name: files[name] for stem in stems for name in (f"{stem}.png", f"{stem}.svg") if name in files}

    return wait


def _files_of(stem: str, draw: Draw) -> Files:
    """The figure as stem.png and stem.svg."""
    figure = draw()
    files = {f"{stem}.png": png(figure)}
    vector = svg(figure, LARGEST_SVG)
    return files | ({f"{stem}.svg": vector} if vector else {})


def _draw_apart(draws: Mapping[str, Draw]) -> Files:
    """With fonts of its own: the files of those in what was parsed before the fork are read by one offset for all."""
    textpath.text_to_path.mathtext_parser = MathTextParser("path")  # the other fonts matplotlib drops by itself
    return _draw_all(draws)


def _draw_all(draws: Mapping[str, Draw]) -> Files:
    files: Files = {}
    for stem, draw in draws.items():
        files |= _files_of(stem, draw)
        gc.collect(0)  # a figure is a circle of things that hold each other, all of them young
    return files
