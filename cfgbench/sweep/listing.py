"""What the results folder holds, in a line each; quick, for it loads no data and no network."""

from collections import Counter
from pathlib import Path
from typing import Any

from cfgbench.spec import load_sweep, points
from cfgbench.sweep.row import fid_of, how
from cfgbench.sweep.store import Store, find_sweeps


def overview(results: Path) -> list[str]:
    """A line a sweep, the newest first: `digits: 42 of 42 cells done`, with failed and other cells."""
    return [f"{folder.name}: {_count(folder, *Store(folder).read())}" for folder in find_sweeps(results)]


def cells_of(folder: Path) -> list[str]:
    """A line a row of this sweep, then the count."""
    rows, damaged = Store(folder).read()
    rows.sort(key=lambda row: (row["p_uncond"], row["T"], how(row), row["w"]))
    lines = [_line(row) for row in rows] + [f"{path.stem}  damaged: {reason}" for path, reason in damaged.items()]
    return [*lines, f"{folder.name}: {_count(folder, rows, damaged)}"]


def _line(row: dict) -> str:
    where = f"{row['cell_id']}  {row['status']:6}  p_uncond {row['p_uncond']:g}, T {row['T']}, w {row['w']:g}{how(row)}"
    if row["status"] != "ok":
        return f"{where}: {row['reason']}"
    numbers = [f"FID {fid_of(row)}"] if row["fid"] is not None else []
    numbers += [f"IS {row['is_mean']:.3f}"] if row["is_mean"] is not None else []
    return f"{where}: {', '.join(numbers)} ({row['features_id']})"


def _count(folder: Path, rows: list[dict[str, Any]], damaged: dict[Path, str]) -> str:
    states = Counter(row["status"] for row in rows)
    spec = load_sweep(folder / "sweep.yaml")
    asked = len({repr((training.decisive, sampling.decisive)) for _, training, sampling in points(spec)})
    trained = len(list((folder / "checkpoints").glob("*.safetensors")))
    parts = [f"{states['ok']} of {asked} cells done"]
    parts += [f"{states['failed']} failed"] if states["failed"] else []
    parts += [f"{len(damaged)} damaged"] if damaged else []
    parts += [f"{max(0, asked - states['ok'] - states['failed'])} missing", f"{trained} networks trained"]
    return ", ".join(parts)
