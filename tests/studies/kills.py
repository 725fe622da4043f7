"""Kills a sweep at random instants, again and again, and holds its rows against those of an undisturbed run.

    python tests/studies/kills.py --kills 100

Training is saved every fifth of a second and features are written with every batch, instead of every 30 s, so that the
kills fall on all of it; what a program takes to be loaded is no part of the time until it is killed. When a disturbed
sweep is finished it begins anew in another folder, until the kills are used up. Says how many kills fell on what, and
fails where a row, an influence, a sheet of samples or a weight differs in one bit, or where a finished row was ever
made again.
"""

import argparse
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from cfgbench import cli
from cfgbench.sweep.results import shards
from cfgbench.training import diffusion

LOADED = ["torch._dynamo", "cfgbench.commands.sweep", "cfgbench.sweep.run", "cfgbench.report.measured"]
"""What is loaded once, before the sweeps begin as forks; optimizers load the first."""
PASSING = "sweep", "seconds", "images_per_second", "created", "digest"
"""Columns that no two runs share."""


class MadeTwice(AssertionError):
    """A finished row was made again."""


def storm(sweep: Path, results: Path, kills: int, seconds: tuple[float, float], seed: int) -> Counter[str]:
    """Runs the sweep to its end and kills it on the way, at most so often; returns what the kills fell on.

    Each kill comes a time between the two `seconds` after the program has begun. Raises MadeTwice, and RuntimeError for
    a run that ends otherwise than by the kill or well.
    """
    delays, fell_on = random.Random(seed), Counter[str]()
    seen: dict[str, Any] = {}
    results.mkdir(parents=True, exist_ok=True)
    said = results / "said"
    programs = multiprocessing.get_context("forkserver")
    programs.set_forkserver_preload(LOADED)
    while True:
        process = programs.Process(target=_sweep, args=(sweep, results, said))
        process.start()
        more = fell_on.total() < kills
        process.join(delays.uniform(*seconds) if more else None)
        if process.exitcode is None:
            fell_on[_doing(results)] += 1
            process.kill()
            process.join()
        found = rows(results)
        for cell, row in seen.items():
            if found.get(cell) != row:
                raise MadeTwice(cell)
        seen = found
        if process.exitcode == 0:
            return fell_on
        if process.exitcode != -signal.SIGKILL:
            raise RuntimeError(f"exit code {process.exitcode}: {said.read_text()}")


def _sweep(sweep: Path, results: Path, said: Path) -> None:
    """The command, in this process; the other workers of several would not have what is changed here."""
    with said.open("w") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    shards.SECONDS, diffusion.SECONDS_BETWEEN_SAVES, diffusion.SHARE_OF_SAVING = 0.0, 0.2, 1.0
    sys.argv = ["cfgbench", "sweep", str(sweep), "--results", str(results), "--quiet", "--workers", "1"]
    cli.main()


def _doing(results: Path) -> str:
    """What is being made now, by the locks that are held."""
    held = [path.name for path in results.glob("*/locks/*")]
    if not held:
        return "start and end"
    partial = [path for path in results.glob("*/checkpoints/*.partial") if path.stem in held]
    shards = [path for name in held for path in results.glob(f"*/features/{name}/*")]
    if partial:
        return "training, once saved"
    return "cell, some shards there" if shards else "cell or training, nothing there yet"


def rows(results: Path) -> dict[str, dict[str, Any]]:
    """The finished rows of all sweeps below, by cell."""
    paths = results.glob("*/cells/[!.]*.parquet")
    return {path.stem: pq.read_table(path, partitioning=None).to_pylist()[0] for path in paths}


def differences(one: Path, other: Path) -> list[str]:
    """Files and columns in which two results folders of the same sweep differ, bit by bit."""
    found = []
    mine, theirs = rows(one), rows(other)
    if mine.keys() != theirs.keys():
        found.append(f"cells: {len(mine)} and {len(theirs)}")
    for cell in mine.keys() & theirs.keys():
        columns = mine[cell].keys() | theirs[cell].keys()
        found += [
            f"{cell} {column}"
            for column in columns - set(PASSING)
            if repr(mine[cell].get(column)) != repr(theirs[cell].get(column))
        ]
    for pattern in ("*/influence/[!.]*.parquet", "*/samples/[!.]*.png", "*/checkpoints/[!.]*.safetensors"):
        files, others = ({path.name: path.read_bytes() for path in folder.glob(pattern)} for folder in (one, other))
        found += [f"{pattern}: other files"] if files.keys() != others.keys() else []
        found += [name for name in files.keys() & others.keys() if files[name] != others[name]]
    return found


def left_behind(results: Path) -> list[str]:
    """What should not be there when all is done: parts of files, shards, locks."""
    return [
        str(path)
        for pattern in ("*/*/.*.part", "*/*/*.part", "*/features/*", "*/locks/*", "*/*/*.partial")
        for path in results.glob(pattern)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--sweep", type=Path, default=Path("sweeps/digits.yaml"))
    parser.add_argument("--seconds", type=float, nargs=2, default=(2.0, 12.0), help="between its beginning and a kill")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        calm = Path(folder) / "calm"
        storm(options.sweep, calm, 0, (0.0, 0.0), 0)
        took = time.monotonic() - began
        print(f"undisturbed: {len(rows(calm))} rows in {took:.0f} s", flush=True)
        fell_on, found, number = Counter[str](), [], 0
        while fell_on.total() < options.kills:
            stormy = Path(folder) / f"stormy{number}"
            fell_on += storm(options.sweep, stormy, options.kills - fell_on.total(), tuple(options.seconds), number)
            found += differences(calm, stormy) + left_behind(stormy)
            number += 1
            print(f"{fell_on.total()} kills, {number} sweeps finished, {len(found)} differences", flush=True)
    for what, count in fell_on.most_common():
        print(f"{count:4} kills: {what}")
    took = time.monotonic() - began
    print(f"{fell_on.total()} kills, {number} sweeps of {options.sweep}, {len(found)} differences, {took:.0f} s in all")
    sys.exit("\n".join(found) if found else 0)


if __name__ == "__main__":
    main()
