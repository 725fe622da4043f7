"""The results of a sweep on disk: one parquet file a cell, so that the folder of them reads as one table."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cfgbench.errors import UserError, brief, printable, reason
from cfgbench.files import read_at_most, write_atomically

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
}
"""The columns that every row has; what is not known is null. Other axes of a sweep stand behind them."""


class Store:
    """The folder results/<name> of one sweep.

    cells/<id>.parquet (rows), checkpoints/<id>.safetensors with .losses.csv, samples/<id>.png, references/<id>.npz,
    sweep.yaml (the sweep with every default filled in).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

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

    def put(self, row: Mapping[str, Any]) -> None:
        """Writes a row, in place of an earlier one of the same cell."""
        extra = sorted(set(row) - set(COLUMNS))
        schema = pa.schema([*COLUMNS.items(), *((name, pa.array([row[name]]).type) for name in extra)])
        table = pa.Table.from_pylist([{name: row.get(name) for name in schema.names}], schema=schema)
        path = self.folder / "cells" / f"{row['cell_id']}.parquet"
        write_atomically(path, lambda temporary: pq.write_table(table, temporary))

    def rows(self) -> "pd.DataFrame":
        """All rows, in the order in which they were made. Raises UserError naming a file that is no row."""
        import pandas as pd  # slow, and `ls` does without it

        rows = pd.DataFrame(self.statuses(columns=None))
        return rows.sort_values("created", kind="stable", ignore_index=True) if len(rows) else rows

    def statuses(self, columns: Sequence[str] | None = ("cell_id", "status", "reason")) -> list[dict[str, Any]]:
        """The rows as dictionaries, of these columns or of all (None)."""
        rows: list[dict[str, Any]] = []
        for path in sorted((self.folder / "cells").glob("[!.]*.parquet")):
            try:
                rows += _read_row(path, columns)
            except Exception as error:  # a damaged file fails in many ways, all of which mean the same
                said = f"{path}: not a row of results ({reason(error)}); delete it to run that cell again"
                raise UserError(said) from None
        return rows


LARGEST_ROW = 10_000_000
"""Bytes of a row's file, packed and unpacked."""
_STATES = ("ok", "failed")


def _read_row(path: Path, columns: Sequence[str] | None) -> list[dict[str, Any]]:
    """The one row of a file. Raises ValueError, or what Arrow raises, for what `put` cannot have written."""
    with pq.ParquetFile(pa.BufferReader(read_at_most(path, LARGEST_ROW))) as file:
        sizes = [file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups)]
        if file.metadata.num_rows != 1 or not all(0 <= size <= LARGEST_ROW for size in sizes):
            raise ValueError(f"{file.metadata.num_rows} rows in {sum(sizes)} bytes")
        for field in file.schema_arrow:
            if field.type != COLUMNS.get(field.name, field.type) or not _plain(field.type):
                raise ValueError(f"the column {brief(field.name)} is {brief(field.type, quoted=False)}")
        (row,) = file.read(columns and [*columns]).to_pylist()
    _check_row(row, path.stem, columns)
    return [{key: printable(value) if isinstance(value, str) else value for key, value in row.items()}]


def _plain(kind: pa.DataType) -> bool:
    """Whether this is the type of a scalar of a sweep file."""
    return any(test(kind) for test in (pa.types.is_string, pa.types.is_integer, pa.types.is_floating,
                                       pa.types.is_boolean, pa.types.is_null))  # fmt: skip


def _check_row(row: dict[str, Any], cell_id: str, columns: Sequence[str] | None) -> None:
    if missing := {"cell_id", "status", *(columns or _ALWAYS)} - set(row):
        raise ValueError(f"without {min(missing)}")
    if row["cell_id"] != cell_id or row["status"] not in _STATES:
        raise ValueError(f"cell_id {brief(row['cell_id'])}, status {brief(row['status'])}")
    for key, value in row.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{brief(key)} is {value}")
        if value is None and key in _ALWAYS:
            raise ValueError(f"{key} is null")


_ALWAYS = ("dataset", "p_uncond", "w", "T", "v", "sampler", "guidance", "seed", "samples", "protocol", "features_id",
           "reference_id", "checkpoint_id", "created")  # fmt: skip
"""What every row has, even of a cell that failed."""


def find_sweeps(results: Path) -> list[Path]:
    """The sweeps' folders under the results folder, the newest first."""
    found = [path.parent for path in results.glob("*/sweep.yaml")]
    return sorted(found, key=lambda folder: _newest(folder), reverse=True)


def _newest(folder: Path) -> float:
    return max(path.stat().st_mtime for path in [folder / "sweep.yaml", *(folder / "cells").glob("[!.]*.parquet")])
