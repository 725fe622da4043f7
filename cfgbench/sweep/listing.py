"""What the results folder holds, in a line each; quick, for it loads no data and no network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cfgbench.spec import Pretrained, Sampling, SweepSpec, load_sweep, owner, points
from cfgbench.sweep.row import fid_of, how
from cfgbench.sweep.store import Store, find_sweeps

_COLUMNS = ("samples", "seed", "v", "sampler", "temperature", "guidance", "on", "w", "T")
"""Keys of sampling that every row has."""


def overview(results: Path) -> list[str]:
    """A line a sweep, the newest first: `digits: 41 of 42 cells done, 1 failed, 0 missing, 3 networks trained`, with
    rows that are damaged, and those of cells that the sweep has no more."""
    return [f"{folder.name}: {_count(folder, *Store(folder).read())}" for folder in find_sweeps(results)]


def cells_of(folder: Path) -> list[str]:
    """A line a row of this sweep, and one a missing cell, then the count."""
    rows, damaged = Store(folder).read()
    grid = Grid(load_sweep(folder / "sweep.yaml"))
    made = {grid.place(row) for row in rows}
    lines = [_line(row) for row in sorted(rows, key=_order)]
    lines += [f"{path.stem}  damaged: {reason}" for path, reason in damaged.items()]
    missing = [cell for place, cell in grid.cells.items() if place not in made]
    lines += [f"missing  {_where(cell)}" for cell in sorted(missing, key=_order)]
    return [*lines, f"{folder.name}: {_count(folder, rows, damaged)}"]


class Grid:
    """The cells that a sweep asks for, known from its file alone: neither data nor networks are looked at."""

    def __init__(self, spec: SweepSpec) -> None:
        sections = {"training": spec.training, "sampling": spec.sampling}
        owners = {axis: owner(axis) for grid in spec.grids.values() for axis in grid}
        self._usual = {axis: getattr(sections[section], key) for axis, (section, key) in owners.items()}
        trained = not isinstance(spec.model, Pretrained)
        cells = [
            sampling.model_dump()
            | {"p_uncond": training.p_uncond, "training.seed": training.seed if trained else None}
            | axes
            for axes, training, sampling in points(spec)
        ]
        self.cells = {self.place(cell): cell for cell in cells}
        """As rows would tell of them, by their places."""

    def place(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        """Where in the grid a row stands. One that lacks an axis is from before the axis was there."""
        known = {key: row[key] for key in _COLUMNS if row.get(key) is not None}
        decisive = Sampling.model_construct(**known).decisive
        axes = (row.get(axis, usual) for axis, usual in self._usual.items() if axis not in _COLUMNS)
        return row["p_uncond"], row.get("training.seed") or 0, *(decisive.get(key) for key in _COLUMNS), *axes


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


def _count(folder: Path, rows: list[dict[str, Any]], damaged: dict[Path, str]) -> str:
    grid = Grid(load_sweep(folder / "sweep.yaml"))
    places = [(row["status"], grid.place(row)) for row in rows]
    done = {place for status, place in places if status == "ok"} & grid.cells.keys()
    failed = {place for status, place in places if status != "ok"} & grid.cells.keys() - done
    others = sum(place not in grid.cells for _, place in places)
    trained = len(list((folder / "checkpoints").glob("*.safetensors")))
    parts = [f"{len(done)} of {len(grid.cells)} cells done"]
    parts += [f"{len(failed)} failed"] if failed else []
    parts += [f"{len(damaged)} damaged"] if damaged else []
    parts += [f"{len(grid.cells) - len(done | failed)} missing", f"{trained} networks trained"]
    parts += [f"{others} rows of other cells"] if others else []
    return ", ".join(parts)
