"""What a person waits for: help, the list of sweeps, a report of 2,000 rows; whole processes."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from programs import cfgbench, tiny, write_sweep
from timing import Contestant, Setup, in_turn, markdown

from cfgbench.files import make_folder
from cfgbench.sweep.store import Store

TARGETS = {"--help": 0.3, "ls": 0.5, "ls, a sweep of many rows": None, "report of many rows": 5.0}
"""Seconds, of the issue; None where it says nothing."""
ROWS = 2000
STRENGTHS, STEPS = 20, 10


def run(setup: Setup) -> Iterator[str]:
    """No peers: no other program does this. Median of the rounds, each command in turn."""
    rows = 60 if setup.quick else ROWS
    with tempfile.TemporaryDirectory() as folder:
        results, many = _results(Path(folder), rows)
        works = {
            "--help": lambda: cfgbench("--help"),
            "ls": lambda: cfgbench("ls", "--results", results),
            "ls, a sweep of many rows": lambda: cfgbench("ls", "many", "--results", many),
            "report of many rows": lambda: cfgbench(
                "report", "many", "--results", many, "--out", f"{folder}/report", "--quiet"
            ),
        }
        found = in_turn([Contestant(name, lambda work=work: work) for name, work in works.items()], setup)
    yield markdown(
        "Commands, whole processes",
        ["command", "median, s", "min .. max, s", "to reach, s", "peak MB"],
        [_row(one) for one in found],
        [
            f"`ls` in a results folder of one sweep with two rows; many is {rows:,} rows, copies of one real row with "
            f"other w ({STRENGTHS}), T ({STEPS}) and p_uncond, FID and IS, without influences and sample sheets."
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


def _results(folder: Path, rows: int) -> tuple[Path, Path]:
    """A results folder with one small sweep, run here; and one with a sweep of so many rows made from it."""
    few, many = folder / "few", folder / "many"
    grid = {"w": [0, 1], "p_uncond": [0.1]}
    cfgbench("sweep", write_sweep(folder / "few.yaml", **tiny(20, 2), grid=grid), "--results", few, "--quiet")
    source, target = Store(few / "few"), Store(many / "many")
    make_folder(target.folder)
    columns = [round(0.05 * (i + 1), 2) for i in range(-(-rows // (STRENGTHS * STEPS)))]
    axes = {
        "p_uncond": columns,
        "T": [2 ** (i + 1) for i in range(STEPS)],
        "w": [round(0.2 * i, 1) for i in range(STRENGTHS)],
    }
    write_sweep(target.folder / "sweep.yaml", **tiny(20, 2) | {"name": "many"}, grid=axes)
    template = source.read()[0][0]
    points = [(p, t, w) for p in axes["p_uncond"] for t in axes["T"] for w in axes["w"]]
    for number, (p, t, w) in enumerate(points[:rows]):
        target.put(template | _numbers(number, p, t, w))
    return few, many


def _numbers(number: int, p: float, t: int, w: float) -> dict[str, Any]:
    """What is another row's own, with a trade-off as guidance has it: FID falls, then rises; IS rises."""
    fid, score = 1 + (w - 0.4) ** 2 + 4 / t + p, 3 + 2 * w / (1 + w)
    name = {"sweep": "many", "cell_id": f"{number:012x}", "checkpoint_id": f"{int(100 * p):012x}"}
    errors = {"fid_se": 0.01, "is_se": 0.01}
    return name | {"p_uncond": p, "T": t, "w": w, "fid": fid, "is_mean": score} | errors
