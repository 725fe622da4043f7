"""How far each image of a cell pulls each of its metrics, kept so that cells can be compared image by image."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cfgbench.files import open_regular, write_atomically

HELD = 256 << 20
"""Bytes of influences that are kept in memory: 223 cells of 50,000 images, 11,000 of 1,000."""


class Influences:
    """Those of the sweep in results/<name>: influence/<cell_id>.parquet. Without a folder there are none."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._held: dict[str, Mapping[str, np.ndarray]] = {}  # the cell that was asked for last comes last
        self.lost: set[str] = set()
        """Cells whose influences were asked for, and could not be read."""

    def path(self, cell_id: str) -> Path:
        assert self.folder is not None
        return self.folder / "influence" / f"{cell_id}.parquet"

    def put(self, cell_id: str, influences: Mapping[str, np.ndarray]) -> None:
        """Writes the columns `label` (class) and one per metric's column (fid, is_mean), a row an image."""
        table = pa.table(dict(influences), metadata={"cell_id": cell_id})
        write_atomically(self.path(cell_id), lambda path: pq.write_table(table, path, write_page_checksum=True))
        self._held.clear()

    def get(self, cell_id: str) -> Mapping[str, np.ndarray]:
        """What `put` wrote; nothing where it is not there, damaged, or another cell's. As it was when first asked
        for."""
        if (found := self._held.pop(cell_id, None)) is None:  # comparisons ask for the same cells again and again
            found = self._read(cell_id)
            room = HELD // max(1, sum(column.nbytes for column in found.values()))
            while len(self._held) >= max(1, room):
                del self._held[next(iter(self._held))]
        self._held[cell_id] = found
        return found

    def _read(self, cell_id: str) -> Mapping[str, np.ndarray]:
        if self.folder is None:
            return {}
        try:
            how = {"page_checksum_verification": True, "pre_buffer": False}
            with open_regular(self.path(cell_id)) as content, pq.ParquetFile(content, **how) as file:
                table = file.read(use_threads=False)
            whose = (table.schema.metadata or {}).get(b"cell_id", cell_id.encode())  # not in files of earlier versions
            if whose != cell_id.encode():
                raise ValueError("another cell's")
        except (pa.ArrowException, OSError, ValueError):
            self.lost.add(cell_id)
            return {}
        return {name: table[name].to_numpy() for name in table.column_names}
