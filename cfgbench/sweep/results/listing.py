"""What the results folder holds, in a line each; quick, for it loads no data and no network."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cfgbench.errors import UserError, counted
from cfgbench.sweep.results.asked import cells_asked_for
from cfgbench.sweep.results.row import differing, numbers_of, place_of, unusual
from cfgbench.sweep.results.store import Store, find_sweeps
from cfgbench.wording import no_sweeps


def overview(results: Path) -> list[str]:
    """A line a sweep, the newest first: `digits: 41 of 42 cells done, 1 failed, 0 missing, 3 networks trained`, with
    rows that are damaged, and those of cells that the sweep has no more."""
    lines = [f"{folder.name}: {_count_or_why_not(Store(folder))}" for folder in find_sweeps(results)]
    return lines or [no_sweeps(results)]


def cells_of(folder: Path) -> list[str]:
    """A line a row of the cells that the sweep has, and one a missing cell; then the rows of other cells that were left
    in the folder, and the count."""
    store = Store(folder)
    rows, damaged = store.read()
    asked = cells_asked_for(folder)
    wanted = {row["cell_id"] for row in rows} if asked is None else {cell["cell_id"] for cell in asked}
    there = {row["cell_id"] for row in rows} | {path.stem for path in damaged}
    missing = [cell for cell in asked or () if cell["cell_id"] not in there]
    place = {cell["cell_id"]: number for number, cell in enumerate(asked or ())}
    rows.sort(key=lambda row: place.get(row["cell_id"], len(place)))  # what `_order` does not tell apart
    axes = _axes(asked or ())
    lines = [_line(row, axes) for row in sorted(rows, key=_order) if row["cell_id"] in wanted]
    lines += [f"{path.stem}  damaged: {reason}" for path, reason in damaged.items()]
    lines += [f"{cell['cell_id']}  missing  {_where(cell, axes)}" for cell in sorted(missing, key=_order)]
    others = [row for row in sorted(rows, key=_order) if row["cell_id"] not in wanted]
    if others:
        telling = differing(rows)
        lines += ["rows of other cells:", *(_line(row, telling) for row in others)]
    return [*lines, f"{folder.name}: {_count(store, rows, damaged, asked)}"]


def _axes(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings in which the cells differ (`sampling.clip`), beside those that have words of their own."""
    settings = [cell.get("settings", {}) for cell in cells]
    first = settings[0] if settings else {}
    return [name for name in first if any(other.get(name) != first[name] for other in settings)]


def _order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["p_uncond"], row["T"], unusual(row), row["w"]


def _line(row: Mapping[str, Any], axes: Sequence[str]) -> str:
    where = f"{row['cell_id']}  {row['status']:6}  {_where(row, axes)}"
    if row["status"] != "ok":
        return f"{where}: {row['reason']}"
    return f"{where}: {', '.join(numbers_of(row, errors=False))} ({row['features_id']})"


def _where(row: Mapping[str, Any], axes: Sequence[str]) -> str:
    return place_of(row | row.get("settings", {}), axes)


def _count_or_why_not(store: Store) -> str:
    try:
        return _count(store, *store.read(), cells_asked_for(store.folder))
    except UserError as error:  # of one sweep, which is not to hide the others
        return str(error)


def _count(
    store: Store, rows: list[dict[str, Any]], damaged: dict[Path, str], asked: list[dict[str, Any]] | None
) -> str:
    status_of = {row["cell_id"]: row["status"] for row in rows}
    if asked is None:  # by an earlier version: how many cells there are is known, and not which
        from cfgbench.spec import load_sweep, points  # a tenth of the time that `ls` takes

        spec = load_sweep(store.sweep_file)
        points_there = {repr((training.decisive, sampling.decisive)) for _, training, sampling in points(spec)}
        total, states, broken = len(points_there), Counter(status_of.values()), len(damaged)
    else:
        ids = {cell["cell_id"] for cell in asked}
        total, states = len(ids), Counter(status for cell, status in status_of.items() if cell in ids)
        broken = sum(path.stem in ids for path in damaged)
    others = len(status_of) - states.total()
    parts = [f"{states['ok']} of {counted(total, 'cell')} done"]
    parts += [f"{states['failed']} failed"] if states["failed"] else []
    parts += [f"{len(damaged)} damaged"] if damaged else []
    missing = max(0, total - states["ok"] - states["failed"] - broken)
    parts += [f"{missing} missing", f"{counted(store.trained(), 'network')} trained"]
    parts += [f"{counted(store.stopped(), 'training')} not at its end"] if store.stopped() else []
    parts += [f"{counted(others, 'row')} of other cells"] if others else []
    return ", ".join(parts)
