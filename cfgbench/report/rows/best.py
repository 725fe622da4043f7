"""The best point of a curve: that of the lowest FID, of means over the seeds that most points have."""

from collections.abc import Sequence
from operator import itemgetter

import pandas as pd

from cfgbench.sweep.results.row import Row

_FIRST = "other_seeds", "fid"
"""The columns by which the best row is the first."""


def lowest(rows: Sequence[Row]) -> Row:
    """The row with the lowest FID, of one or more that all have one."""
    return min(rows, key=itemgetter(*_FIRST))


def lowest_fid(rows: pd.DataFrame) -> pd.Series | None:
    """The same of a table; None where no row has an FID."""
    there = rows.dropna(subset="fid") if "fid" in rows else rows[:0]
    return None if there.empty else there.sort_values([*_FIRST], kind="stable").iloc[0]


def best_fid(rows: pd.DataFrame) -> pd.Series | None:
    """The same, if all of the rows compare, so that one of them may be called the best; else None."""
    compare = "mark" not in rows or rows["mark"].nunique() <= 1
    return lowest_fid(rows) if compare else None
