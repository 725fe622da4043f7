"""A row of results: its columns, its digest, and what is checked before it is believed."""

import errno
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cfgbench.errors import UserError, brief, printable, reason
from cfgbench.files import identity, read_at_most
from cfgbench.processes import begin, forkable_processors
from cfgbench.wording import UNUSED, strength

Row = Mapping[str, Any]
"""column -> value, of a cell; a report makes more of them: means, and published numbers."""

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
    "on": pa.string(),
    "temperature": pa.float64(),
    "seed": pa.int64(),
    "training.seed": pa.int64(),
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
    "notes": pa.string(),
    "checkpoint_id": pa.string(),
    "classifier_id": pa.string(),
    "checkpoint_digest": pa.string(),
    "classifier_digest": pa.string(),
    "device": pa.string(),
    "precision": pa.string(),
    "compiled": pa.bool_(),
    "cfgbench_version": pa.string(),
    "created": pa.string(),
    "digest": pa.string(),
}
"""The columns that every row has; what is not known is null. Other axes of a sweep stand behind them."""
_ALWAYS = ("dataset", "p_uncond", "w", "T", "v", "sampler", "guidance", "seed", "samples", "protocol", "features_id",
           "reference_id", "checkpoint_id", "created")  # fmt: skip
"""What every row has, even of a cell that failed."""
_STATES = ("ok", "failed")
LARGEST_ROW = 10_000_000
"""Bytes of a row's file, packed and unpacked."""
_LAST_YEAR = 9998
"""In which a row can be made, for a later one comes behind it."""

NO_FILE = errno.ENOENT, errno.EISDIR, errno.EINVAL
"""What the system says of a row that is not there, and of a folder or a pipe in its place."""
WORTH_A_PROCESS = 200
"""Rows whose reading takes ten times as long as a process takes to begin."""

Read = tuple[list[dict[str, Any]], dict[Path, str]]
"""Rows, and the files that are no rows, or no more, with the reasons."""


def as_table(row: Row) -> pa.Table:
    """The row with its digest, as a table of one row."""
    row = dict(row) | {"digest": digest_of(row)}
    extra = sorted(set(row) - set(COLUMNS))
    schema = pa.schema([*COLUMNS.items(), *((name, pa.array([row[name]]).type) for name in extra)])
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names}], schema=schema)


def digest_of(row: Row) -> str:
    """Of all values but nulls: a column that others have does not count."""
    return identity({name: value for name, value in row.items() if value is not None and name != "digest"})


def read_row(path: Path) -> dict[str, Any]:
    """The row in a file. Raises ValueError, or what Arrow raises, for a file that is not as `as_table` made it; and
    UserError for one that cannot be read: whether it is a row is not known."""
    content = pa.BufferReader(_content(path))
    with pq.ParquetFile(content, pre_buffer=False) as file:  # nothing to fetch ahead: the bytes are here
        sizes = [file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups)]
        if file.metadata.num_rows != 1 or not all(0 <= size <= LARGEST_ROW for size in sizes):
            raise ValueError(f"{file.metadata.num_rows} rows in {sum(sizes)} bytes")
        schema = file.schema_arrow
        for name, kind in zip(schema.names, schema.types, strict=True):
            if not _fits(name, kind):
                raise ValueError(f"the column {brief(name)} is {brief(kind, quoted=False)}")
        table = file.read(use_threads=False)
    row = {name: column[0].as_py() for name, column in zip(table.column_names, table.columns, strict=True)}
    _check(row, path.stem)
    return {key: printable(value) if isinstance(value, str) else value for key, value in row.items()}


def _content(path: Path) -> bytes:
    try:
        return read_at_most(path, LARGEST_ROW)
    except OSError as error:
        if error.errno in NO_FILE:
            raise
        raise UserError(f"{path}: cannot be read ({reason(error)}); nothing is made in its place") from None


def begin_reading(paths: Sequence[Path]) -> Callable[[], Read]:
    """Begins to read the rows in these files, many of them in other processes; returns what waits for all."""
    count = max(1, min(forkable_processors(), len(paths) // WORTH_A_PROCESS))
    size = -(-len(paths) // count)
    parts = [partial(_read, paths[at : at + size]) for at in range(0, len(paths), max(1, size))]
    waits = [begin(part) for part in parts] if count > 1 else parts

    def wait() -> Read:
        found = [one() for one in waits]
        damaged = {path: why for _, of_part in found for path, why in of_part.items()}
        return [row for rows, _ in found for row in rows], damaged

    return wait


def _read(paths: Sequence[Path]) -> Read:
    rows: list[dict[str, Any]] = []
    damaged: dict[Path, str] = {}
    for path in paths:
        try:
            rows.append(read_row(path))
        except UserError:
            raise
        except Exception as error:  # a damaged file fails in many ways, all of which mean the same
            damaged[path] = reason(error)
    return rows, damaged


PLACED = "w", "p_uncond", "T", "guidance", "on", "temperature"
"""The axes that `place_of` has words for."""


def place_of(row: Row, axes: Iterable[str] = ()) -> str:
    """Where in its sweep a row stands: `p_uncond 0.1, T 32, w 0.3 (scale 1.3)`, with what the further `axes` have
    there; what is unusual in how its images were guided, too."""
    w = strength(row["w"], row["guidance"])
    planes = [f"{key} {row[key]:.10g}" for key in ("p_uncond", "T") if row[key] is not None]
    words = [*planes, w, *unusual(row)]
    told = {*PLACED, *UNUSED.get(row.get("sampler", row.get("sampling.sampler")), ())}
    for axis in axes:
        value = row.get(axis, row.get(axis.rpartition(".")[2]))
        value = f"{value:.10g}" if isinstance(value, float) else value
        words += [f"{axis} {value}"] if value is not None and axis.rpartition(".")[2] not in told else []
    return ", ".join(words)


_TELLING = ("seed", "training.seed", "samples", "sampler", "v", "protocol_id", "checkpoint_id")


def differing(rows: Sequence[Row]) -> list[str]:
    """The columns that tell these rows apart, which may be of several versions of the sweep; its axes among them."""
    columns = dict.fromkeys(key for row in rows for key in row if key in _TELLING or key not in COLUMNS)
    return [key for key in columns if len({row.get(key) for row in rows}) > 1]


def unusual(row: Row) -> list[str]:
    """What is unusual in how a row's images were guided: `guidance classifier on unconditional`, `temperature 0.9`."""
    words = [f"guidance {row['guidance']}"] if row["guidance"] != "cfg" else []
    words = [f"{words[0]} on unconditional"] if row.get("on") == "unconditional" and words else words
    return words + ([f"temperature {row['temperature']:g}"] if row.get("temperature") not in (None, 1) else [])


def outcome_of(row: Row) -> str:
    """What became of a cell: `FID 1.234 ± 0.056, IS 9.876 ± 0.054 (digits-1a2b3c4d), 4.6 s`, or why it failed."""
    if row["status"] != "ok":
        return f"failed: {row['reason']}"
    return f"{', '.join(numbers_of(row))} ({row['features_id']}), {row['seconds']:.1f} s"


def numbers_of(row: Row, *, errors: bool = True) -> list[str]:
    """`FID 1.234 ± 0.056` and `IS 9.876 ± 0.054`, of what was measured; FID with three decimals, below 0.1 with
    six, below 0.0001 with three digits."""
    fid, score = row.get("fid"), row.get("is_mean")
    kind = ".3f" if fid is None or fid >= 0.1 else ".6f" if fid >= 1e-4 else ".3g"
    numbers = [] if fid is None else [f"FID {fid:{kind}}{error_text(row.get('fid_se')) * errors}"]
    return numbers + ([] if score is None else [f"IS {score:.3f}{error_text(row.get('is_se')) * errors}"])


def error_text(se: float | None) -> str:
    """` ± 0.0123`, one standard error, with two digits of its own; nothing where there is none."""
    return "" if se is None else f" ± {se:#.2g}"


def _fits(name: str, kind: pa.DataType) -> bool:
    """Whether the column is of its type; one that only some rows have, of the type of a scalar of a sweep file."""
    if name in COLUMNS:
        return kind == COLUMNS[name]
    return any(test(kind) for test in (pa.types.is_string, pa.types.is_integer, pa.types.is_floating,
                                       pa.types.is_boolean, pa.types.is_null))  # fmt: skip


def _check(row: dict[str, Any], cell_id: str) -> None:
    if missing := {"cell_id", "status", "digest", *_ALWAYS} - set(row):
        raise ValueError(f"without {min(missing)}")
    if row["cell_id"] != cell_id or row["status"] not in _STATES:
        raise ValueError(f"cell_id {brief(row['cell_id'])}, status {brief(row['status'])}")
    for key, value in row.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{brief(key)} is {value}")
        if value is None and key in _ALWAYS:
            raise ValueError(f"{key} is null")
    made = datetime.fromisoformat(row["created"])
    if made.year > _LAST_YEAR or made.astimezone(UTC).isoformat(timespec="milliseconds") != row["created"]:
        raise ValueError(f"created {brief(row['created'])}")
    if row["digest"] != digest_of(row):
        raise ValueError("its values do not fit its digest")
