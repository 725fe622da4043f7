"""What a column of the rows is: a place in the plane, a condition under which numbers compare, a seed, or a result."""

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import pandas as pd

from cfgbench.report.rows.systems import DEFAULTS
from cfgbench.sweep.results.row import COLUMNS

PLANE = ("w", "p_uncond", "T")
"""What varies inside a slice (one of the last two at a time). The last two may be null: not stated, or not known."""

POINT = (*PLANE, "system", "at")
"""What a cell is of in a sweep of several systems (see systems.py): each has its own knob, which stands at `at`."""

SEEDS = {"training.seed": "training", "seed": "sampling", "sampling.seed": "sampling"}
"""The columns of seeds, and what each draws. Rows that differ in nothing else are one experiment, repeated."""

SAMPLING_SEEDS = tuple(key for key, drawn in SEEDS.items() if drawn == "sampling")

MEASURE = ("features_id", "reference_id", "protocol")
PROVENANCE = (*MEASURE, "protocol_id")
"""What numbers are measured with and against. Those that differ here do not compare."""

ORDER = ("dataset", "samples", "p_uncond", "T", "sampler", "v", "guidance", "seed")
"""How a caption begins."""

NEEDED = ("status", *PLANE, "dataset", "samples", "features_id")

_RESULTS = {
    *({*COLUMNS} - {*ORDER, *PROVENANCE, *PLANE, *SEEDS}),
    *("fid_printed", "is_mean_printed"),  # the digits of a published number
    # of the report's own making
    *("seeds", "asked_seeds", "members", "fid_min", "is_max", "shortfall", "unused", "mark", "asked"),
    *("system", "knob", "at", "shared", "lent", "other_seeds", "hollow"),
}
"""What follows from the rest, or is told elsewhere: `on` and `temperature` by the system."""


def conditions(rows: pd.DataFrame) -> list[str]:
    """The columns that decide whether rows compare: every column that is neither a result nor a place in the plane."""
    usual = [key for key in (*ORDER, *PROVENANCE) if key in rows and key not in PLANE]
    placed = (*PLANE, *DEFAULTS)  # an axis may be named with its section
    own = [key for key in rows if key not in (*usual, *_RESULTS) and key.rpartition(".")[2] not in placed]
    return [*usual, *own]


def comparable(rows: pd.DataFrame, *, without: Collection[str] = ()) -> list[pd.DataFrame]:
    """Groups of rows that are alike in all conditions but those of `without`, in the order of their first rows. The
    system is one condition, of which `guidance` is a part.

    A seed that is not known is not one more seed: such rows are groups of their own.
    """
    apart = (*without, "protocol_id", *(["guidance"] if "system" in without else []))
    keys: list[Iterable[Any]] = [map(repr, rows[key]) for key in conditions(rows) if key not in apart]
    keys += [rows["system"]] if "system" in rows and "system" not in without else []
    keys += [rows[key].isna() for key in SEEDS if key in rows and key in without]
    numbers: dict[tuple[Any, ...], int] = {}  # by which pandas groups, six times as fast as by a dozen of keys
    which = [numbers.setdefault(key, len(numbers)) for key in zip(*keys, strict=True)]
    return [group for _, group in rows.groupby(np.array(which, dtype=np.intp), sort=False)]


def same_measure(rows: pd.DataFrame) -> pd.Series:
    """A value a row, equal where features, reference and protocol are."""
    parts = [rows[key].map(repr) for key in MEASURE if key in rows]
    return pd.Series(list(zip(*parts, strict=True)), index=rows.index, dtype=object)
