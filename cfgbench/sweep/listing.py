"""What the results folder holds, in a line each; quick, for it loads no data and no network."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cfgbench.errors import UserError
from cfgbench.spec import load_sweep, points
from cfgbench.sweep.row import fid_of, how
from cfgbench.sweep.store import Store, find_sweeps


def overview(results: Path) -> list[str]:
    """A line a sweep, the newest first: `digits: 41 of 42 cells done, 1 failed, 0 missing, 3 networks trained`, with
    rows that are damaged, and those of cells that the sweep has no more."""
    return [f"{folder.name}: {_count_or_why_not(Store(folder))}" for folder in find_sweeps(results)]


def cells_of(folder: Path) -> list[str]:
    """A line a row of this sweep, and one a missing cell, then the count."""
    store = Store(folder)
    rows, damaged = store.read()
    made = {row["cell_id"] for row in rows}
    lines = [_line(row) for row in sorted(rows, key=_order)]
    lines += [f"{path.stem}  damaged: {reason}" for path, reason in damaged.items()]
    asked = store.asked()
    missing = [cell for cell in asked or () if cell["cell_id"] not in made | {path.stem for path in damaged}]
    lines += [f"{cell['cell_id']}  missing  {_where(cell)}" for cell in sorted(missing, key=_order)]
    return [*lines, f"{folder.name}: {_count(store, rows, damaged, asked)}"]


def _order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["p_uncond"], row["T"], how(row), row["w"]


def _line(row: Mapping[str, Any]) -> str:
    where = f"{row['cell_id']}  {row['status']:6}  {_where(row)}"
    if row["status"] != "ok":
        return f"{where}: {row['reason']}"
    numbers = [f"FID {fid_of(row)}"] if row["fid"] is not None else []
    numbers += [f"IS {row['is_mean']:.3f}"] if row["is_mean"] is not None else []
    return f"{where}: {', '.join(numbers)} ({row['features_id']})"


def _where(row: Mapping[str, Any]) -> str:
    return f"p_uncond {row['p_uncond']:g}, T {row['T']}, w {row['w']:g}{how(row)}"


def _count_or_why_not(store: Store) -> str:
    try:
        return _count(store, *store.read(), store.asked())
    except UserError as error:  # of one sweep, which is not to hide the others
        return str(error)


def _count(
    store: Store, rows: list[dict[str, Any]], damaged: dict[Path, str], asked: list[dict[str, Any]] | None
) -> str:
    states = {row["cell_id"]: row["status"] for row in rows}
    if asked is None:  # by an earlier version: how many cells there are is known, and not which
        spec = load_sweep(store.folder / "sweep.yaml")
        points_there = {repr((training.decisive, sampling.decisive)) for _, training, sampling in points(spec)}
        total, counted = len(points_there), Counter(states.values())
    else:
        ids = {cell["cell_id"] for cell in asked}
        total, counted = len(ids), Counter(status for cell, status in states.items() if cell in ids)
    trained = len(list((store.folder / "checkpoints").glob("*.safetensors")))
    others = len(states) - counted.total()
    parts = [f"{counted['ok']} of {total} cells done"]
    parts += [f"{counted['failed']} failed"] if counted["failed"] else []
    parts += [f"{len(damaged)} damaged"] if damaged else []
    parts += [f"{max(0, total - counted['ok'] - counted['failed'])} missing", f"{trained} networks trained"]
    parts += [f"{others} rows of other cells"] if others else []
    return ", ".join(parts)
