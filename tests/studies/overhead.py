"""What shards, digests, errors, claims and probes cost of a sweep's time; with the metrics, so that it is a bound.

    python tests/studies/overhead.py SWEEP.yaml RESULTS

Runs the sweep in one process, into a new results folder, with a clock around what CLOCKED names. No clock runs while
the program is loaded, the sweep planned, its data, reference and extractor made, networks built, trained and sampled,
sheets drawn and lines printed.
"""

import argparse
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from cfgbench import cli
from cfgbench.models import checkpoint
from cfgbench.sweep import cell, networks, run
from cfgbench.sweep.results.influences import Influences
from cfgbench.sweep.results.shards import Shards
from cfgbench.sweep.results.store import Store
from cfgbench.training import diffusion

CLOCKED: list[tuple[str, Any, tuple[str, ...]]] = [
    ("metrics and their errors", cell, ("measure",)),
    ("shards", Shards, ("__init__", "take_over", "add", "flush", "pixels", "clear")),
    ("rows, influences and their digests", Store, ("put", "find", "check")),
    ("rows, influences and their digests", Influences, ("put",)),
    ("checkpoints and their digests", diffusion, ("load", "save", "finish")),
    ("checkpoints and their digests", checkpoint, ("load_tensors",)),
    ("checkpoints and their digests", networks, ("load_tensors",)),
    ("probes", networks, ("check_networks",)),
    ("probes", run, ("check_extractor",)),
]
"""What is told, and which functions are that; claims are clocked beside them. Shards are read within the metrics."""


@contextlib.contextmanager
def clocks() -> Iterator[Counter[str]]:
    """Counts the seconds of what is clocked, until the context ends; what one clocked function calls is its own."""
    spent: Counter[str] = Counter()
    running: list[str] = []

    @contextlib.contextmanager
    def clock(name: str) -> Iterator[None]:
        began = time.perf_counter()
        running.append(name)
        try:
            yield
        finally:
            running.pop()
            if not running:
                spent[name] += time.perf_counter() - began

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*arguments: Any, **keywords: Any) -> Any:
            with clock(name):
                return function(*arguments, **keywords)

        return inner

    @contextlib.contextmanager
    def claim(store: Store, key: str) -> Iterator[bool]:
        with contextlib.ExitStack() as until:
            with clock("claims"):
                held = until.enter_context(honest(store, key))
            yield held  # what is made meanwhile is no part of it
            with clock("claims"):
                until.close()

    honest = Store.claim
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(Store, "claim", claim))
        for name, place, functions in CLOCKED:
            for function in functions:
                stack.enter_context(mock.patch.object(place, function, timed(name, getattr(place, function))))
        yield spent


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", help="a sweep file")
    parser.add_argument("results", type=Path, help="a folder that is not there yet")
    asked = parser.parse_args(words)
    if asked.results.exists():
        parser.exit(2, f"{asked.results}: is there already, and what it holds would not be made again; name another\n")
    command = ["cfgbench", "sweep", asked.sweep, "--results", str(asked.results), "--quiet"]
    command += ["--workers", "1"]  # others would not have the clocks
    began = time.perf_counter()
    with clocks() as spent, mock.patch.object(sys, "argv", command):
        try:
            cli.main()
        except SystemExit as end:
            if end.code:  # what it took would be that of a part
                raise
    total = time.perf_counter() - began
    for name, seconds in spent.most_common():
        print(f"{seconds:7.2f} s  {seconds / total:6.2%}  {name}")
    print(f"{spent.total():7.2f} s  {spent.total() / total:6.2%}  of {total:.1f} s in all")


if __name__ == "__main__":
    main()
