"""What a report speaks of: its metrics, and values as a person writes them."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from cfgbench.evaluation.columns import ERROR_OF
from cfgbench.sweep.results.row import Row


class Metric(NamedTuple):
    """A measured quantity: its column, its name for a reader, the column of its standard error, which end is best, and
    the column of the best of several seeds ("" where none is kept)."""

    column: str
    name: str
    long_name: str
    se: str
    best: Literal["min", "max"]
    extreme: str = ""


FID = Metric("fid", "FID", "FID", ERROR_OF["fid"], "min", "fid_min")
IS = Metric("is_mean", "IS", "Inception Score", ERROR_OF["is_mean"], "max", "is_max")
METRICS = (FID, IS)
INFINITY = Metric("fid_infinity", "FID∞", "FID extrapolated to infinitely many images", ERROR_OF["fid_infinity"], "min")

NOT_STATED = "not stated"
MOST_DECIMALS = 12
"""Behind the point; an FID of 1e-11 is rounding."""
_EXTRACTORS = ("inception-768", "inception-192", "inception-64", "inception", "digits", "fashion-mnist", "classifier",
               "gaussians")  # fmt: skip


def known(value: Any) -> Any:
    """The value, or None where there is none: null, NaN, empty text."""
    return None if value is None or value is pd.NA or value != value or value == "" else value


def number(row: Any, column: str) -> float:
    """The number in a row's column; NaN where there is none."""
    value = known(row.get(column))
    return np.nan if value is None else float(value)


def numbers(rows: Sequence[Row], column: str) -> np.ndarray:
    """What the rows have there, of those that have a number."""
    values = np.array([number(row, column) for row in rows])
    return values[~np.isnan(values)]


def why_failed(row: Any) -> str:
    """The reason that a row of a cell that failed has, on one line."""
    return " ".join(str(known(row.get("reason")) or "").split()) or "failed without a reason"


def at(rows: pd.DataFrame, column: str, value: Any) -> pd.DataFrame:
    """The rows that have `value` in `column`; those that have none where it is null."""
    return rows[rows[column].isna()] if known(value) is None else rows[rows[column] == value]


def as_text(value: Any) -> str:
    """A value as a person writes it: 0.1, 32, 2e-05, ancestral; `not stated` where there is none."""
    if known(value) is None:
        return NOT_STATED
    return f"{value:g}" if isinstance(value, float) else str(value)


def named(key: str, value: Any) -> str:
    """`T 32`, `1,000 images`, `features digits-1a2b`, `seeds 0, 1`; a system by its name alone."""
    if key == "system":
        return str(value)
    if key == "samples":
        return f"{int(value):,} images"
    several = "s" if key.endswith("seed") and any(sign in str(value) for sign in (", ", " to ")) else ""
    return f"{key.removesuffix('_id')}{several} {as_text(value)}"


def joined(words: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)


def runs(numbers: Sequence[str]) -> str:
    """`0, 1, 2`; of four or more whole numbers on end the first and the last: `0 to 47, 100`."""
    held: list[list[str]] = []
    for number in numbers:
        follows = held and number.isdecimal() and held[-1][-1].isdecimal() and int(number) == int(held[-1][-1]) + 1
        if follows:
            held[-1].append(number)
        else:
            held.append([number])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 3 else ", ".join(run) for run in held)


def letter(place: int) -> str:
    """a ... z, aa, ab ..."""
    return (letter(place // 26 - 1) if place >= 26 else "") + chr(ord("a") + place % 26)


def digits(error: float) -> int:
    """The decimals that show an error's first two significant digits, at least the paper's two: 3 for 0.012."""
    return decimals_for(float(f"{error:.1e}")) if error > 0 else 2


def decimals_for(value: float) -> int:
    """The decimals that show the first two digits of what is above 0; at least the paper's two."""
    return int(np.clip(1 - np.floor(np.log10(value)), 2, MOST_DECIMALS))


def significant(value: float, count: int) -> str:
    """The number with so many significant digits, zeros at the end among them, but all of those before the point and no
    more than MOST_DECIMALS behind it: `2.50`, `0.80`, `1234`."""
    value += 0.0  # no -0.00
    size = int(np.floor(np.log10(abs(float(f"{value:.{count - 1}e}"))))) if value else 0
    return f"{value:.{np.clip(count - 1 - size, 0, MOST_DECIMALS)}f}"


def plus_minus(value: float, se: float) -> str:
    """`0.334 ± 0.012`, as in tables: the error with two significant digits; without an error two of the number's."""
    if np.isfinite(se):
        return f"{value:.{digits(se)}f} ± {se:.{digits(se)}f}"
    return f"{value:.{decimals_for(abs(value)) if abs(value) > 0 else 2}f}"


def with_error(row: Row, metric: Metric) -> str:
    """A row's value of a metric: `0.334 ± 0.012`."""
    return plus_minus(number(row, metric.column), number(row, metric.se))


def extractor_name(features_id: str) -> str:
    """The extractor that an id begins with; the id itself where it is none of ours."""
    for name in _EXTRACTORS:
        rest = features_id.removeprefix(name)
        if rest != features_id and not rest[:1].isalnum():
            return name
    return features_id
