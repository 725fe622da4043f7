"""Contestants measured in turn, A B A B, so that a machine that slows down slows all of them; and their table."""

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import torch


@dataclass(frozen=True)
class Setup:
    """How the parts are to measure: `quick` is a smoke test, whose numbers mean nothing."""

    device: torch.device
    rounds: int
    quick: bool
    images: int = 2000
    """Of a cell of the whole sweep."""

    def at_most(self, rounds: int) -> "Setup":
        """The same with no more rounds than that, for works of minutes."""
        return replace(self, rounds=min(self.rounds, rounds))

    def synchronise(self) -> None:
        """Waits until the device has done what it was told."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@dataclass(frozen=True)
class Contestant:
    """`make()` imports and builds, untimed, and gives the work; where that is long it does a shorter one itself to warm
    up, and says `warmed`."""

    name: str
    make: Callable[[], Callable[[], Any]]
    ours: bool = False
    warmed: bool = False


@dataclass
class Timed:
    """Seconds of each round, what the work gave, and why there are none."""

    name: str
    ours: bool
    seconds: list[float] = field(default_factory=list)
    result: Any = None
    error: str = ""


def in_turn(contestants: Sequence[Contestant], setup: Setup) -> list[Timed]:
    """Builds all, lets each do its work once uncounted, then round by round in turn.

    A contestant that raises, or is not installed, is out; its error stands in the table.
    """
    works: dict[str, Callable[[], Any]] = {}
    found = [Timed(one.name, one.ours) for one in contestants]
    for one, timed in zip(contestants, found, strict=True):
        _attempt(timed, lambda one=one: _prepare(one, works, setup))
    for _ in range(setup.rounds):
        for timed in found:
            if not timed.error:
                _attempt(timed, lambda timed=timed: _round(timed, works[timed.name], setup))
    return found


def _attempt(timed: Timed, step: Callable[[], None]) -> None:
    try:
        step()
    except Exception as error:  # peers fail in many ways, and each is a finding
        timed.error = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def _prepare(one: Contestant, works: dict[str, Callable[[], Any]], setup: Setup) -> None:
    works[one.name] = work = one.make()
    if not one.warmed:
        work()
    setup.synchronise()


def _round(timed: Timed, work: Callable[[], Any], setup: Setup) -> None:
    gc.collect()
    setup.synchronise()
    began = time.perf_counter()
    timed.result = work()
    setup.synchronise()
    timed.seconds.append(time.perf_counter() - began)


def seconds_of(work: Callable[[], Any], setup: Setup) -> float:
    """The median of the rounds, after a first that is not counted."""
    alone = Timed("", ours=True)
    work()
    for _ in range(setup.rounds):
        _round(alone, work, setup)
    return median(alone.seconds)


def ratio(theirs: Timed, ours: Timed) -> float:
    """How many times as long theirs takes: the median over rounds, for both saw the same machine in a round."""
    return median(a / b for a, b in zip(theirs.seconds, ours.seconds, strict=True))


def table(
    title: str,
    found: Sequence[Timed],
    *,
    rates: Mapping[str, Mapping[str, float] | float] | None = None,
    agreed: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> str:
    """Markdown: a row a contestant. `rates` has for each unit (images/s) how many of it a work is, by name where works
    differ. A column for each of ours says how many times as long each takes; the fastest peer's is bold."""
    ours = [one for one in found if one.ours and not one.error]
    peers = [one for one in found if not one.ours and not one.error]
    best = min(peers, key=lambda one: median(one.seconds), default=None)
    head = ["contestant", "median, s", "min .. max, s", *(rates or {}), *(f"times {one.name}" for one in ours)]
    rows = [_row(one, ours, rates or {}, bold=one is best) for one in found]
    if agreed is not None:
        head.append("agreed")
        rows = [[*row, agreed.get(one.name, "")] for row, one in zip(rows, found, strict=True)]
    return markdown(title, head, rows, notes)


def _row(one: Timed, ours: Sequence[Timed], rates: Mapping[str, Any], *, bold: bool) -> list[str]:
    if one.error:
        return [one.name, one.error, *[""] * (1 + len(rates) + len(ours))]
    middle = median(one.seconds)
    speeds = [_number((work[one.name] if isinstance(work, Mapping) else work) / middle) for work in rates.values()]
    ratios = [f"{ratio(one, own):.2f}" for own in ours]
    ratios = [f"**{value}**" if bold else value for value in ratios]
    return [one.name, _number(middle), f"{_number(min(one.seconds))} .. {_number(max(one.seconds))}", *speeds, *ratios]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def markdown(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> str:
    """A section with a table, its notes below it."""
    lines = [f"## {title}", "", _line(head), _line([":--", *["--:"] * (len(head) - 1)]), *map(_line, rows)]
    return "\n".join([*lines, *(f"\n{note}" for note in notes), ""])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"


def relative(value: Any, reference: float) -> str:
    """`3.1e-09 relative`; what is no finite real number is shown as it is."""
    try:
        number = complex(value)
    except (TypeError, ValueError):
        return str(value)
    if number.imag or number != number or abs(number) == float("inf"):
        return f"{value}"
    difference = abs(number.real - reference) / abs(reference) if reference else float("nan")
    return f"{number.real:.7g}, {difference:.1e} relative"
