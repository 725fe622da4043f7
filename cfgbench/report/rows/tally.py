"""What became of a sweep's cells, and which of its rows a report leaves out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Tally:
    """`own` are the rows of the cells that the sweep has, all rows where those are not known; `missing` counts its
    cells without a row. Of the rows, `others` counts those of cells that it no longer has, which are shown too,
    `unused` those of seeds that most of their curve lack, and `earlier` those of an earlier version of the sweep, which
    are not."""

    own: pd.DataFrame
    missing: int
    others: int
    unused: int
    earlier: int

    @property
    def done(self) -> int:
        """How many of its cells have numbers."""
        return len(self.own) - len(self.failed)

    @property
    def failed(self) -> pd.DataFrame:
        """The rows of its cells that failed."""
        return self.own[self.own["status"] != "ok"]


def tally(rows: pd.DataFrame, counted: pd.DataFrame, cells: Sequence[Mapping[str, Any]] | None) -> Tally:
    """Of all `rows`, of which `counted` are shown (see slices.settled); `cells` are the sweep's (see results.asked),
    where they are known."""
    ids = None if cells is None else {cell["cell_id"] for cell in cells}
    own = rows if ids is None else rows[rows["cell_id"].isin(ids)]
    shown = [member for members in counted["members"] for member in members]
    unused = int(counted["unused"].sum())
    return Tally(
        own=own,
        missing=0 if ids is None else len(ids) - own["cell_id"].nunique(),
        others=sum(not member.get("asked", True) for member in shown),
        unused=unused,
        earlier=len(rows) - len(shown) - unused,
    )
