"""The files of a report in its folder, each written whole or not at all."""

import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import pandas as pd
from pandas.api.types import infer_dtype

from cfgbench.files import make_folder, write_atomically

T = TypeVar("T")


def texts(
    stem: str, formats: Mapping[str, Callable[[T], str]], subject: T, kinds: Iterable[str] | None = None
) -> dict[str, bytes]:
    """stem.md, stem.csv ... of a subject: in all formats, or in those of these kinds that there are."""
    wanted = formats if kinds is None else [kind for kind in kinds if kind in formats]
    return {f"{stem}.{kind}": formats[kind](subject).encode() for kind in wanted}


def parquet(rows: pd.DataFrame) -> bytes:
    """The rows as a file of that format; a column that holds numbers and words, which none can, as text."""
    mixed = [name for name in rows if infer_dtype(rows[name]) in ("mixed", "mixed-integer")]
    file = io.BytesIO()
    rows.assign(**{name: rows[name].map(str, na_action="ignore") for name in mixed}).to_parquet(file, index=False)
    return file.getvalue()


def save(files: Mapping[str, bytes], out: Path) -> list[Path]:
    """Writes the files into the folder `out`, which is made where it is missing; returns their paths."""
    make_folder(out)
    for name, content in files.items():
        write_atomically(out / name, content)
    return [out / name for name in files]
