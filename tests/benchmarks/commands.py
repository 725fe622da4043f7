"""What a person waits for: help, the list of sweeps, a report of 2,000 rows; whole processes."""

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from programs import cfgbench, tiny, write_sweep
from timing import Contestant, Setup, in_turn, markdown

from cfgbench.files import make_folder
from cfgbench.sweep.results.store import Store

TARGETS = {
    "--help": 0.3,
    "ls": 0.5,
    "ls, a sweep of many rows": None,
    "report of many rows": 5.0,
    "report of many rows, six seeds": 5.0,
    "report of many rows, 100 w": 5.0,
}
"""Seconds, of the issue; None where it says nothing."""
ROWS = 2000
IMAGES = 1000
_SQUARE = {
    "p_uncond": [round(0.05 * (i + 1), 2) for i in range(10)],
    "T": [2 ** (i + 1) for i in range(10)],
    "w": [round(0.2 * i, 1) for i in range(20)],
    "sampling.seed": [0],
}
_SEEDS = {
    "p_uncond": [0.1, 0.2, 0.5],
    "T": [2 ** (i + 4) for i in range(8)],
    "w": [*(round(0.1 * i, 1) for i in range(11)), 2.0, 3.0, 4.0],
    "sampling.seed": list(range(6)),
}
_STRENGTHS = {
    "p_uncond": [round(0.04 * (i + 1), 2) for i in range(20)],
    "T": [32],
    "w": [round(0.04 * i, 2) for i in range(100)],
    "sampling.seed": [0],
}
"""Two thousand rows as 30 figures of ten curves, as 19 of the paper's three, and as two of twenty long ones; and
sheets."""


def run(setup: Setup) -> Iterator[str]:
    """No peers: no other program does this. Median of the rounds, each command in turn."""
    rows = 60 if setup.quick else ROWS
    with tempfile.TemporaryDirectory() as folder:
        few = _few(Path(folder))
        many = _many(few, Path(folder) / "many", _SQUARE, rows)
        seeds = _many(few, Path(folder) / "seeds", _SEEDS, rows)
        strengths = _many(few, Path(folder) / "strengths", _STRENGTHS, rows)
        works = {
            "--help": lambda: cfgbench("--help"),
            "ls": lambda: cfgbench("ls", "--results", few),
            "ls, a sweep of many rows": lambda: cfgbench("ls", "many", "--results", many),
            "report of many rows": lambda: _report(many),
            "report of many rows, six seeds": lambda: _report(seeds),
            "report of many rows, 100 w": lambda: _report(strengths),
        }
        found = in_turn([Contestant(name, lambda work=work: work) for name, work in works.items()], setup)
    yield markdown(
        "Commands, whole processes",
        ["command", "median, s", "min .. max, s", "to reach, s", "peak MB"],
        [_row(one) for one in found],
        [
            f"`ls` in a results folder of one sweep with two rows; many is {rows:,} rows or a few more, copies of one "
            f"real row with other FID and IS, its sheet of samples, and influences of {IMAGES:,} images: "
            f"{'; '.join(map(_grid, (_SQUARE, _SEEDS, _STRENGTHS)))}."
        ],
    )


def _row(one: Any) -> list[str]:
    target = TARGETS[one.name]
    if one.error:
        return [one.name, one.error, "", "", ""]
    seconds = sorted(one.seconds)
    spread = f"{seconds[0]:.2f} .. {seconds[-1]:.2f}"
    peak = f"{one.result.peak / 1e6:.0f}"
    return [one.name, f"{seconds[len(seconds) // 2]:.2f}", spread, "" if target is None else f"{target:g}", peak]


def _report(results: Path) -> Any:
    return cfgbench("report", "many", "--results", results, "--out", results / "report", "--quiet")


def _grid(axes: dict[str, list[Any]]) -> str:
    return ", ".join(f"{len(values)} {axis}" for axis, values in axes.items())


def _few(folder: Path) -> Path:
    """A results folder with one small sweep, run here."""
    grid = {"w": [0, 1], "p_uncond": [0.1]}
    cfgbench(
        "sweep", write_sweep(folder / "few.yaml", **tiny(20, 2), grid=grid), "--results", folder / "few", "--quiet"
    )
    return folder / "few"


def _many(few: Path, results: Path, axes: dict[str, list[Any]], rows: int) -> Path:
    """A results folder with a sweep of so many rows, made from one of those."""
    target = Store(results / "many")
    make_folder(target.folder)
    write_sweep(target.folder / "sweep.yaml", **tiny(20, 2) | {"name": "many"}, grid=axes)
    source = Store(few / "few")
    template = source.read()[0][0]
    points = list(itertools.product(*axes.values()))[: rows + rows // 10]
    draws, labels = np.random.default_rng(0), np.arange(IMAGES) % 10
    shared = draws.normal(size=(2, IMAGES))
    for name in ("influence", "samples"):
        make_folder(target.folder / name)
    for number, (p, t, w, seed) in enumerate(points):
        row = template | _numbers(number, p, t, w, seed)
        fid, score = 0.3 * shared + 0.1 * draws.normal(size=shared.shape)
        target.influences.put(row["cell_id"], {"label": labels, "fid": fid, "is_mean": score})
        shutil.copy(source.samples(template["cell_id"]), target.samples(row["cell_id"]))
        target.put(row)
    return results


def _numbers(number: int, p: float, t: int, w: float, seed: int) -> dict[str, Any]:
    """What is another row's own, with a trade-off as guidance has it: FID falls, then rises; IS rises."""
    fid, score = 1 + (w - 0.4) ** 2 + 4 / t + p + 0.01 * seed, 3 + 2 * w / (1 + w)
    name = {"sweep": "many", "cell_id": f"{number:012x}", "checkpoint_id": f"{int(100 * p):012x}", "seed": seed}
    errors = {"fid_se": 0.01, "is_se": 0.01}
    return name | {"p_uncond": p, "T": t, "w": w, "fid": fid, "is_mean": score} | errors
