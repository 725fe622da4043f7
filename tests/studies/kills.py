"""Kills a sweep at random instants, again and again, and holds its rows against those of an undisturbed run.

    python tests/studies/kills.py --kills 100

Training is saved every fifth of a second and features are written with every batch, instead of every 30 s, so that the
kills fall on all of it; what a program takes to be loaded is no part of the time until it is killed. When a disturbed
sweep is finished it begins anew in another folder, until the kills are used up. Says how many kills fell on what, and
fails where a row, an influence, a sheet of samples or a weight differs in one bit, or where a finished row was ever
made again.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

PROGRAM = """
import sys
import torch._dynamo  # which optimizers load
from cfgbench import cli
from cfgbench.sweep.results import shards
from cfgbench.training import diffusion
shards.SECONDS, diffusion.SECONDS_BETWEEN_SAVES, diffusion.SHARE_OF_SAVING = 0.0, 0.2, 1.0
print("begun", flush=True)
cli.main()
"""
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
    command = [sys.executable, "-c", PROGRAM, "sweep", str(sweep), "--results", str(results), "--quiet"]
    command += ["--workers", "1"]  # others would not have what PROGRAM changes
    while True:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process.stdout.readline()
        more = fell_on.total() < kills
        try:
            _, said = process.communicate(timeout=delays.uniform(*seconds) if more else None)
        except subprocess.TimeoutExpired:
            fell_on[_doing(results)] += 1
            process.send_signal(signal.SIGKILL)
            process.communicate()
        found = rows(results)
        for cell, row in seen.items():
            if found.get(cell) != row:
                raise MadeTwice(cell)
        seen = found
        if process.returncode == 0:
            return fell_on
        if process.returncode != -signal.SIGKILL:
            raise RuntimeError(f"exit code {process.returncode}: {said}")


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
