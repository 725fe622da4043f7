"""What shards, digests, errors, claims and probes cost of a sweep's time; with the metrics, so that it is a bound.

    python tests/studies/overhead.py SWEEP.yaml RESULTS

Runs the sweep into a new results folder with a clock around all of it but training,
sampling and the extractor.
"""

import argparse
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from cfgbench import cli, tensors
from cfgbench.models import checkpoint
from cfgbench.sweep import cell, networks, probes, run
from cfgbench.sweep.results import influences, shards, store
from cfgbench.training import state

spent: Counter[str] = Counter()
inside: list[str] = []


@contextlib.contextmanager
def clock(name: str) -> Iterator[None]:
    """Counts the time in this context, unless another clock is running already."""
    began = time.perf_counter()
    inside.append(name)
    try:
        yield
    finally:
        inside.pop()
        if not inside:
            spent[name] += time.perf_counter() - began


def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def inner(*arguments: Any, **keywords: Any) -> Any:
        with clock(name):
            return function(*arguments, **keywords)

    return inner


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", help="a sweep file")
    parser.add_argument("results", help="a folder that is not there yet")
    arguments = parser.parse_args()
    cell.measure = timed("metrics and their errors", cell.measure)
    for name in ("__init__", "add", "flush", "kept", "clear"):
        setattr(shards.Shards, name, timed("shards", getattr(shards.Shards, name)))
    for name in ("put", "find", "check"):
        setattr(store.Store, name, timed("rows, influences and their digests", getattr(store.Store, name)))
    influences.Influences.put = timed("rows, influences and their digests", influences.Influences.put)
    store.try_lock = timed("claims", store.try_lock)
    for module in (state, checkpoint):
        for name in {"save_tensors", "load_tensors"} & set(vars(module)):
            setattr(module, name, timed("checkpoints and their digests", getattr(tensors, name)))
    networks.check_networks = timed("probes", probes.check_networks)
    run.check_extractor = timed("probes", probes.check_extractor)
    sys.argv = ["cfgbench", "sweep", arguments.sweep, "--results", arguments.results, "--quiet"]
    began = time.perf_counter()
    with contextlib.suppress(SystemExit):
        cli.main()
    total = time.perf_counter() - began
    for name, seconds in spent.most_common():
        print(f"{seconds:7.2f} s  {seconds / total:6.2%}  {name}")
    print(f"{spent.total():7.2f} s  {spent.total() / total:6.2%}  of {total:.1f} s in all")


if __name__ == "__main__":
    main()
