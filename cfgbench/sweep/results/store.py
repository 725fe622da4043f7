"""The results of a sweep on disk: one parquet file a cell, so that the folder of them reads as one table."""

import contextlib
import glob
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from cfgbench.errors import UserError, reason
from cfgbench.files import try_flock, try_lock, write_atomically
from cfgbench.sweep.results.asked import cells_asked_for
from cfgbench.sweep.results.influences import Influences
from cfgbench.sweep.results.row import Read, as_table, begin_reading, read_row

if TYPE_CHECKING:
    import pandas as pd

EXTRACTOR = "extractor"
"""What the features' extractor and the reference statistics are claimed by."""
SHARD = re.compile(r".*/\d+-\d+\.(\w+)\.safetensors")
_MEASURES = "references/.*.part", "classifier/.*.part"


class Store:
    """The folder results/<name> of one sweep.

    cells/<id>.parquet (rows), checkpoints/<id>.safetensors with .losses.csv, samples/<id>.png, references/<id>.npz,
    influence/<id>.parquet, classifier/<id>.safetensors, sweep.yaml (the sweep with every default filled in), asked.json
    (its cells); features/<id>/ (shards of a cell that is not finished, or is to keep them) and locks/ while a process
    works. Each row carries the digest of its values.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.influences = Influences(folder)
        self.passed_over: list[Path] = []
        """Files that are no rows, of cells that the sweep has no more, as they were found when rows were read last."""
        self._newest = ""

    def checkpoint(self, checkpoint_id: str) -> Path:
        """The file of a trained network's weights; beside it .losses.csv, and .partial while it is trained."""
        return self.folder / "checkpoints" / f"{checkpoint_id}.safetensors"

    def samples(self, cell_id: str) -> Path:
        """The file of a cell's sheet of sample images."""
        return self.folder / "samples" / f"{cell_id}.png"

    def reference(self, reference_id: str) -> Path:
        """The file of the training images' statistics."""
        return self.folder / "references" / f"{reference_id}.npz"

    def features(self, cell_id: str) -> Path:
        """The folder of the shards of a cell's features."""
        return self.folder / "features" / cell_id

    def kept(self) -> dict[str, list[Path]]:
        """All shards that are there, of this sweep and of others in the results folder, by the name of what made
        them."""
        found: dict[str, list[Path]] = {}
        # what vanishes meanwhile is no error to glob.glob, as it is to Path.glob
        for path in sorted(glob.glob("*/features/*/*.safetensors", root_dir=self.folder.parent)):  # noqa: PTH207
            if name := SHARD.fullmatch(path):
                found.setdefault(name[1], []).append(self.folder.parent / path)
        return found

    @contextlib.contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Whether the cell or checkpoint of this id is this process's alone to make, or with EXTRACTOR what measures
        all cells, until the context ends.

        What a killed process has left half written of it is then removed.
        """
        self.check()
        with try_lock(self.folder / "locks" / key) as held:
            if held:
                self._remove_parts(key)
            yield held

    def _remove_parts(self, key: str) -> None:
        with (self.folder / "locks" / key).open("r+") as again:
            if try_flock(again.fileno()):  # the file system has no locks: others may be writing these
                return
        for pattern in _MEASURES if key == EXTRACTOR else (f"*/.{key}.*.part",):
            for part in self.folder.glob(pattern):
                part.unlink(missing_ok=True)

    def claimed(self) -> set[str]:
        """What processes are at, or were when they died."""
        return {path.name for path in _listed(self.folder / "locks")}

    @property
    def sweep_file(self) -> Path:
        """The sweep as it was last run, with every default filled in."""
        return self.folder / "sweep.yaml"

    @property
    def has_rows(self) -> bool:
        """Whether there is a row of a cell that the sweep has; any row, where its cells are not known."""
        there = {path.stem for path in _listed(self.folder / "cells", ".parquet")}
        asked = cells_asked_for(self.folder)
        return bool(there if asked is None else there & {cell["cell_id"] for cell in asked})

    def feature_classifier(self, classifier_id: str) -> Path:
        """The file of the data set's own classifier, whose features are the sweep's; beside it .partial while it is
        trained."""
        return self.folder / "classifier" / f"{classifier_id}.safetensors"

    def elsewhere(self, path: Path, check: Callable[[Path], object]) -> Path | None:
        """What another sweep in the results folder has made under this name of ours. Networks, statistics and
        classifiers are named by what decides their content, and need not be made again; but those of which `check`
        raises UserError, as of what is damaged here."""
        for other in sorted(self.folder.parent.glob(f"*/{path.relative_to(self.folder)}")):
            with contextlib.suppress(UserError):
                check(other)
                return other
        return None

    def take_over(self, path: Path, other: Path) -> None:
        """Copies what another sweep has made to this place of ours."""
        write_atomically(path, lambda temporary: shutil.copyfile(other, temporary))

    def trained(self) -> int:
        """How many networks are there, of whichever version of the sweep."""
        return len(_listed(self.folder / "checkpoints", ".safetensors"))

    def stopped(self) -> int:
        """How many trainings were stopped half-way, or are going on."""
        return len(_listed(self.folder / "checkpoints", ".partial"))

    def check(self) -> None:
        """Raises UserError where the results folder has vanished: numbers are not to end in another in its place."""
        if not self.sweep_file.exists():
            raise UserError(
                f"{self.folder}: vanished, or its sweep.yaml; bring it back, and the same command goes on from there"
            )

    def row(self, cell_id: str) -> Path:
        """The file of a cell's row."""
        return self.folder / "cells" / f"{cell_id}.parquet"

    def put(self, row: Mapping[str, Any]) -> None:
        """Writes a row, in place of an earlier one of the same cell."""
        self.check()
        # what is made later counts as newer, wherever the clock has jumped to
        self._newest = _after(row["created"], self._newest)
        table = as_table(dict(row) | {"created": self._newest})
        plain = {"use_dictionary": False, "write_statistics": False}  # neither says anything of one row
        write_atomically(self.row(row["cell_id"]), lambda temporary: pq.write_table(table, temporary, **plain))

    def rows(self) -> "pd.DataFrame":
        """All rows, in the order in which they were made. Raises UserError naming a file that is no row, of a cell that
        the sweep has; those of others are `passed_over`."""
        return self.begin_rows()()

    def begin_rows(self) -> Callable[[], "pd.DataFrame"]:
        """Begins to read; returns what waits for all rows, as `rows` gives them."""
        reading = begin_reading(self._row_files())

        def wait() -> "pd.DataFrame":
            import pandas as pd  # slow, and `ls` does without it

            whole, damaged = self._gathered(reading)
            asked = cells_asked_for(self.folder) if damaged else None
            ids = None if asked is None else {cell["cell_id"] for cell in asked}
            self.passed_over = [path for path in damaged if ids is not None and path.stem not in ids]
            for path, why in damaged.items():
                if path not in self.passed_over:
                    raise UserError(f"{path}: not a row of results ({why}); run its sweep again, or delete it")
            rows = pd.DataFrame(whole)
            return rows.sort_values("created", kind="stable", ignore_index=True) if len(rows) else rows

        return wait

    def read(self) -> tuple[list[dict[str, Any]], dict[Path, str]]:
        """The rows as dictionaries, and the files that are no rows, or no more, with the reasons."""
        return self._gathered(begin_reading(self._row_files()))

    def _row_files(self) -> list[Path]:
        found = _listed(self.folder / "cells", ".parquet")
        return sorted(path for path in found if not os.path.isdir(path))  # noqa: PTH112 (Path's may raise)

    def _gathered(self, reading: Callable[[], Read]) -> Read:
        rows, damaged = reading()
        self._newest = max([self._newest, *(row["created"] for row in rows)])
        return rows, damaged

    def find(self, cell_id: str) -> dict[str, Any] | None:
        """The cell's row, or None where there is none or it is damaged. Raises UserError where it cannot be read."""
        try:
            return read_row(self.row(cell_id))
        except UserError:
            raise
        except Exception:
            return None


def _after(time: str, other: str) -> str:
    """This time (ISO 8601, UTC), or the first one after the other."""
    if time > other:
        return time
    return (datetime.fromisoformat(other) + timedelta(milliseconds=1)).isoformat(timespec="milliseconds")


def _listed(folder: Path, ending: str = "") -> list[Path]:
    """What is in a folder whose names end so, but for hidden ones; nothing where it is missing. Raises UserError where
    it may not be listed: whether something is there is not known."""
    try:
        paths = list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({reason(error)}); make it readable") from None
    return [path for path in paths if path.name.endswith(ending) and not path.name.startswith(".")]


def find_sweeps(results: Path) -> list[Path]:
    """The sweeps' folders under the results folder, the newest first; those that may not be read come last. Raises
    UserError where the results folder itself cannot be read, or is none."""
    listed = _listed(results)
    if not listed and results.is_file():
        raise UserError(f"--results {results}: a file; name a folder")
    return sorted(filter(_may_be_sweep, listed), key=_newest, reverse=True)


def _may_be_sweep(folder: Path) -> bool:
    try:
        (folder / "sweep.yaml").stat()
    except OSError as error:
        # whoever reads its rows says so; lost+found is no sweep's name
        return isinstance(error, PermissionError) and re.fullmatch(r"[A-Za-z0-9._-]+", folder.name) is not None
    return True


def _newest(folder: Path) -> float:
    try:
        paths = [folder / "sweep.yaml", *_listed(folder / "cells", ".parquet")]
        return max(path.lstat().st_mtime for path in paths)
    except (OSError, UserError):
        return 0.0
