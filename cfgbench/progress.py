"""How far a long piece of work has come: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable

from cfgbench.errors import printable

Progress = Callable[[str, int, int, str], None]
"""(task, done, total, note): called as often as work likes; what is shown, and when, is decided here. A total of 0 is
no task but a word on how work goes."""

SECONDS_BETWEEN_LINES = 10.0


def silent(task: str, done: int, total: int, note: str) -> None:
    """Shows nothing."""


class Lines:
    """Lines on stderr every ten seconds and when a task ends; on a terminal one line that is redrawn."""

    def __init__(self) -> None:
        self.terminal = sys.stderr.isatty()
        self.task, self.began, self.first, self.shown = "", 0.0, 0, 0.0

    def __call__(self, task: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if total == 0:
            print(printable(task), file=sys.stderr, flush=True)
            return
        if task != self.task:
            self.task, self.began, self.first, self.shown = task, now, done, now - SECONDS_BETWEEN_LINES
            return
        wait = 0.2 if self.terminal else SECONDS_BETWEEN_LINES
        if done < total and now - self.shown < wait:
            return
        self.shown = now
        line = printable(f"{task}: {done}/{total}{', ' + note if note else ''}{self._time_left(now, done, total)}")
        if self.terminal:
            print(f"\r\x1b[K{line}", end="\n" if done >= total else "", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def _time_left(self, now: float, done: int, total: int) -> str:
        if done <= self.first or done >= total:
            return f", {now - self.began:.0f} s" if done >= total else ""
        left = (now - self.began) * (total - done) / (done - self.first)
        return f", {left:.0f} s left" if left < 120 else f", {left / 60:.0f} min left"
