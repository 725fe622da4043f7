"""How far a long piece of work has come: a bar on a terminal, plain lines elsewhere."""

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from cfgbench.errors import printable

Progress = Callable[[str, int, int, str], None]
"""(task, done, total, note): called as often as work likes; what is shown, and when, is decided here."""

SECONDS_BETWEEN_LINES = 10.0
WAITING = "waiting for another process"
"""The task of a process that has nothing to do; shown where none has."""
SECONDS_BETWEEN_LOOKS = 0.5
"""At what other processes do, while there is nothing to do here."""


ERASED = "\r\x1b[K"
"""What erases the line of a terminal, for it to be drawn anew."""


def redraws() -> bool:
    """Whether stderr is a terminal, of those that can redraw a line."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def silent(task: str, done: int, total: int, note: str) -> None:
    """Shows nothing."""


def wait_for_others(progress: Progress, done: int, total: int) -> None:
    """Says that another process has to do something first, and lets it."""
    progress(WAITING, done, total, "")
    time.sleep(SECONDS_BETWEEN_LOOKS)


def remark(progress: Progress, text: str) -> None:
    """A line on how work goes, which is no task: it has a total of 0."""
    progress(text, 0, 0, "")


def clear(progress: Progress) -> None:
    """Makes room for a line that is printed otherwise, where work is shown on a terminal."""
    if isinstance(progress, Lines):
        progress.clear()


def of_worker(progress: Progress, number: int) -> Progress:
    """The progress of one of several processes, whose tasks go on side by side."""
    return partial(progress.show, number) if isinstance(progress, Lines) else progress


def end_worker(progress: Progress, number: int) -> None:
    """Shows its task no more."""
    if isinstance(progress, Lines):
        progress.tasks.pop(number, None)


@dataclass(eq=False)
class _Task:
    """A task, when it was begun and where, and how far it is, in words; `short` is without the note."""

    name: str
    began: float
    first: int
    shown: float
    line: str = ""
    short: str = ""

    def come(self, now: float, done: int, total: int, note: str) -> None:
        where, left = f"{self.name}: {done}/{total}", self._time_left(now, done, total)
        self.line, self.short = printable(f"{where}{', ' + note if note else ''}{left}"), printable(f"{where}{left}")

    def _time_left(self, now: float, done: int, total: int) -> str:
        if done <= self.first or done >= total:
            return f", {now - self.began:.0f} s" if done >= total else ""
        left = (now - self.began) * (total - done) / (done - self.first)
        return f", {left:.0f} s left" if left < 120 else f", {left / 60:.0f} min left"


class Lines:
    """Lines on stderr every ten seconds and when a task ends; on a terminal one line that is redrawn, with the tasks of
    all workers side by side."""

    def __init__(self) -> None:
        self.terminal, self.drawn = redraws(), 0.0
        self.tasks: dict[int, _Task] = {}

    def __call__(self, task: str, done: int, total: int, note: str) -> None:
        self.show(0, task, done, total, note)

    def show(self, worker: int, task: str, done: int, total: int, note: str) -> None:
        """As for one worker of several."""
        now = time.monotonic()
        if total == 0:  # a remark
            self._print(f"{printable(task)}\n")
            return
        known = self.tasks.get(worker)
        if known is None or known.name != task:
            self.tasks[worker] = _Task(task, now, done, now - SECONDS_BETWEEN_LINES * (1 + len(self.tasks)))
            return
        known.come(now, done, total, note)
        if done >= total:
            del self.tasks[worker]
            self._print(f"{known.line}\n")
        elif self.terminal:
            self._draw(now)
        elif known in self._busy() and now - known.shown >= SECONDS_BETWEEN_LINES * len(self.tasks):
            known.shown = now
            self._print(f"{known.line}\n")

    def clear(self) -> None:
        """Makes room on the terminal for a line that is printed otherwise."""
        if self.terminal:
            self._print("")

    def _busy(self) -> list[_Task]:
        """The tasks that are shown."""
        tasks = [task for task in self.tasks.values() if task.line]
        return [task for task in tasks if task.name != WAITING] or tasks[:1]

    def _draw(self, now: float) -> None:
        if now - self.drawn >= 0.2:
            self.drawn = now
            tasks = self._busy()
            line = tasks[0].line if len(tasks) == 1 else " | ".join(task.short for task in tasks)
            self._print(line[: _width() - 1])

    def _print(self, text: str) -> None:
        with suppress(OSError):  # a log that is full stops no work
            print(f"{ERASED}{text}" if self.terminal else text, end="", file=sys.stderr, flush=True)


def _width() -> int:
    """Columns of the terminal: what is longer than a line cannot be redrawn."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80
