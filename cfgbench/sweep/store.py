"""The results of a sweep on disk: one parquet file a cell, so that the folder of them reads as one table."""

import contextlib
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cfgbench.errors import UserError
from cfgbench.files import identity, remove_parts, try_lock, write_atomically

if TYPE_CHECKING:
    import pandas as pd

COLUMNS: dict[str, pa.DataType] = {
    "sweep": pa.string(),
    "cell_id": pa.string(),
    "status": pa.string(),
    "reason": pa.string(),
    "dataset": pa.string(),
    "p_uncond": pa.float64(),
    "w": pa.float64(),
    "T": pa.int64(),
    "v": pa.float64(),
    "sampler": pa.string(),
    "guidance": pa.string(),
    "seed": pa.int64(),
    "samples": pa.int64(),
    "fid": pa.float64(),
    "fid_se": pa.float64(),
    "fid_infinity": pa.float64(),
    "fid_infinity_se": pa.float64(),
    "is_mean": pa.float64(),
    "is_std": pa.float64(),
    "is_se": pa.float64(),
    "nfe": pa.int64(),
    "seconds": pa.float64(),
    "images_per_second": pa.float64(),
    "protocol": pa.string(),
    "protocol_id": pa.string(),
    "features_id": pa.string(),
    "reference_id": pa.string(),
    "checkpoint_id": pa.string(),
    "device": pa.string(),
    "precision": pa.string(),
    "cfgbench_version": pa.string(),
    "created": pa.string(),
    "digest": pa.string(),
}
"""The columns that every row has; what is not known is null. Other axes of a sweep stand behind them."""


LARGEST_ROW = 10 << 20
"""Bytes; a row takes some twenty thousand."""


class Store:
    """The folder results/<name> of one sweep.

    cells/<id>.parquet (rows), checkpoints/<id>.safetensors with .losses.csv, samples/<id>.png, references/<id>.npz,
    influence/<id>.parquet, sweep.yaml (the sweep with every default filled in); features/<id>/ (shards of a cell that
    is not finished, or is to keep them) and locks/ while a process works. Each row carries the digest of its values.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._newest = ""

    def checkpoint(self, checkpoint_id: str) -> Path:
        return self.folder / "checkpoints" / f"{checkpoint_id}.safetensors"

    def samples(self, cell_id: str) -> Path:
        return self.folder / "samples" / f"{cell_id}.png"

    def reference(self, reference_id: str) -> Path:
        return self.folder / "references" / f"{reference_id}.npz"

    def influence(self, cell_id: str) -> Path:
        """The file of how far each image of a cell pulls each of its metrics."""
        return self.folder / "influence" / f"{cell_id}.parquet"

    def put_influences(self, cell_id: str, influences: Mapping[str, np.ndarray]) -> None:
        """Writes the columns `label` (class) and one per metric's column (fid, is_mean), a row an image."""
        table = pa.table(dict(influences))
        write_atomically(self.influence(cell_id), lambda path: pq.write_table(table, path, write_page_checksum=True))

    def influences(self, cell_id: str) -> dict[str, np.ndarray]:
        """What `put_influences` wrote; nothing where it is not there or damaged."""
        try:
            table = pq.read_table(self.influence(cell_id), partitioning=None, page_checksum_verification=True)
        except (pa.ArrowException, OSError, ValueError):
            return {}
        return {name: table[name].to_numpy() for name in table.column_names}

    def features(self, cell_id: str) -> Path:
        return self.folder / "features" / cell_id

    @contextlib.contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Whether the cell or checkpoint of this id is this process's alone to make, until the context ends.

        What a killed process has left half written of it is then removed.
        """
        self.check()
        with try_lock(self.folder / "locks" / key) as held:
            if held:
                for path in (self.row(key), self.samples(key), self.influence(key), self.checkpoint(key)):
                    remove_parts(path)
                    remove_parts(path.with_suffix(".partial"))
            yield held

    def check(self) -> None:
        """Raises UserError where the results folder has vanished: numbers are not to end in another in its place."""
        if not (self.folder / "sweep.yaml").exists():
            raise UserError(
                f"{self.folder}: vanished, or its sweep.yaml; bring it back, and the same command goes on from there"
            )

    def row(self, cell_id: str) -> Path:
        return self.folder / "cells" / f"{cell_id}.parquet"

    def put(self, row: Mapping[str, Any]) -> None:
        """Writes a row, in place of an earlier one of the same cell."""
        self.check()
        # what is made later counts as newer, wherever the clock has jumped to
        self._newest = _after(row["created"], self._newest)
        row = dict(row) | {"created": self._newest}
        row["digest"] = _digest(row)
        extra = sorted(set(row) - set(COLUMNS))
        schema = pa.schema([*COLUMNS.items(), *((name, pa.array([row[name]]).type) for name in extra)])
        table = pa.Table.from_pylist([{name: row.get(name) for name in schema.names}], schema=schema)
        write_atomically(self.row(row["cell_id"]), lambda temporary: pq.write_table(table, temporary))

    def rows(self) -> "pd.DataFrame":
        """All rows, in the order in which they were made. Raises UserError naming a file that is no row."""
        import pandas as pd  # slow, and `ls` does without it

        whole, damaged = self.read()
        if damaged:
            path, reason = next(iter(damaged.items()))
            raise UserError(f"{path}: not a row of results ({reason}); run its sweep again, or delete it")
        rows = pd.DataFrame(whole)
        return rows.sort_values("created", kind="stable", ignore_index=True) if len(rows) else rows

    def read(self) -> tuple[list[dict[str, Any]], dict[Path, str]]:
        """The rows as dictionaries, and the files that are no rows, or no more, with the reasons."""
        rows: list[dict[str, Any]] = []
        damaged: dict[Path, str] = {}
        for path in sorted((self.folder / "cells").glob("[!.]*.parquet")):
            try:
                rows.append(_read_row(path))
            except (pa.ArrowException, OSError, ValueError, TypeError) as error:
                damaged[path] = " ".join(str(error).split())[:100]
        self._newest = max([self._newest, *(row["created"] for row in rows)])
        return rows, damaged

    def find(self, cell_id: str) -> dict[str, Any] | None:
        """The cell's row, or None where there is none or it is damaged."""
        try:
            return _read_row(self.row(cell_id))
        except (pa.ArrowException, OSError, ValueError, TypeError):
            return None


def _read_row(path: Path) -> dict[str, Any]:
    """Raises ValueError, or what Arrow raises, for a file that is not as `put` wrote it."""
    if path.stat().st_size > LARGEST_ROW:
        raise ValueError(f"larger than {LARGEST_ROW} bytes")
    table = pq.ParquetFile(path).read()
    if table.num_rows != 1:
        raise ValueError(f"{table.num_rows} rows")
    (row,) = table.to_pylist()
    if row.get("digest") != _digest(row):
        raise ValueError("its values do not fit its digest")
    if path.stem != row["cell_id"]:
        raise ValueError(f"the row of {row['cell_id']}")
    return row


def _after(time: str, other: str) -> str:
    """This time (ISO 8601, UTC), or the first one after the other."""
    if time > other:
        return time
    return (datetime.fromisoformat(other) + timedelta(milliseconds=1)).isoformat(timespec="milliseconds")


def _digest(row: Mapping[str, Any]) -> str:
    """Of all values but nulls: a column that others have does not count."""
    return identity({name: value for name, value in row.items() if value is not None and name != "digest"})


def find_sweeps(results: Path) -> list[Path]:
    """The sweeps' folders under the results folder, the newest first."""
    found = [path.parent for path in results.glob("*/sweep.yaml")]
    return sorted(found, key=lambda folder: _newest(folder), reverse=True)


def _newest(folder: Path) -> float:
    return max(path.stat().st_mtime for path in [folder / "sweep.yaml", *(folder / "cells").glob("[!.]*.parquet")])
