"""Which rows may stand together: a slice is what one table, or one set of axes, shows.

Inside a slice only w and one other quantity vary (p_uncond, or T); data set, features, reference, number of images,
protocol and every further axis are one and the same, so that its numbers compare.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import pandas as pd

from cfgbench.errors import UserError


class Metric(NamedTuple):
    """A measured quantity: its column, its name for a reader, the column of its standard error, which end is best."""

    column: str
    name: str
    long_name: str
    se: str
    best: Literal["min", "max"]


METRICS = (
    Metric("fid", "FID", "FID", "fid_se", "min"),
    Metric("is_mean", "IS", "Inception Score", "is_se", "max"),
)

PLANE = ("w", "p_uncond", "T")
"""What varies inside a slice (one of the last two at a time). The last two may be null: not stated, or not known."""

NOT_STATED = "not stated"

_MEASURED = {
    *("sweep", "cell_id", "status", "reason", "fid", "fid_se", "is_mean", "is_std", "is_se", "nfe", "seconds"),
    *("images_per_second", "checkpoint_id", "device", "precision", "cfgbench_version", "created", "digest"),
    *("fid_infinity", "fid_infinity_se", "protocol_id"),
    *("fid_printed", "is_mean_printed"),  # the digits of a published number
}
_NEEDED = ("status", *PLANE, "dataset", "samples", "features_id")
_ORDER = ("dataset", "samples", "p_uncond", "T", "sampler", "v", "guidance", "seed")
_PROVENANCE = ("features_id", "reference_id", "protocol")
_EXTRACTORS = ("inception-768", "inception-192", "inception-64", "inception", "digits", "fashion-mnist", "classifier")


@dataclass(frozen=True)
class Slice:
    """Rows that compare. `columns` names what the table's columns, or the figure's curves, stand for."""

    rows: pd.DataFrame
    """In order of `columns`, then w."""
    columns: Literal["p_uncond", "T"]
    setting: dict[str, Any] = field(default_factory=dict)
    """What all rows share, in the order in which a caption tells it."""
    apart: tuple[str, ...] = ()
    """The keys of `setting` in which the slices of this sweep differ."""

    @property
    def ok(self) -> pd.DataFrame:
        """The rows that have numbers."""
        return self.rows[self.rows["status"] == "ok"]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics that were measured; both where no cell has a number yet."""
        return tuple(m for m in METRICS if m.column in self.rows and self.ok[m.column].notna().any()) or METRICS

    def curves(self, *metrics: Metric) -> Iterator[tuple[Any, pd.DataFrame]]:
        """(value of `columns`, its rows in order of w), only rows where all of `metrics` are known.

        A value that is not stated is None and comes last.
        """
        wanted = [metric.column for metric in metrics]
        if any(column not in self.ok for column in wanted):
            return
        for value, rows in self.ok.dropna(subset=wanted).groupby(self.columns, dropna=False):
            yield known(value), rows

    @property
    def extractor(self) -> str:
        """The extractor's name without digest and resize rule, for the axes of a figure."""
        return extractor_name(str(self.setting["features_id"]))

    @property
    def differs(self) -> str:
        """What tells this slice from the others of its sweep, in a line, or nothing: `T 8, seed 1`."""
        keys = [key for key in self.apart if key not in _PROVENANCE]
        if "features_id" in self.apart or not keys:  # reference and protocol follow from other features
            keys += [key for key in _PROVENANCE if key in self.apart][:1]
        words = [named(key, self.setting[key]) for key in keys]
        return ", ".join(word if len(word) <= 50 else f"{word[:9]}…{word[-40:]}" for word in words)

    @property
    def conditions(self) -> list[str]:
        """How the numbers came about, shortly: `1,000 images`, `T 32`, `sampler ancestral` ..."""
        hidden = ("dataset", *_PROVENANCE)
        shown = {key: value for key, value in self.setting.items() if key not in hidden}
        return [named(key, value) for key, value in shown.items() if key in PLANE or known(value) is not None]

    @property
    def provenance(self) -> dict[str, str]:
        """What the numbers are measured with and against: features, reference, protocol."""
        names = {"features_id": "features", "reference_id": "reference", "protocol": "protocol"}
        return {names[key]: str(value) for key in _PROVENANCE if known(value := self.setting.get(key)) is not None}

    @property
    def caption(self) -> str:
        """One paragraph: data set, what stands in the table, conditions, extractor, reference and protocol."""
        names = " and ".join(metric.long_name for metric in self.metrics)
        provenance = "; ".join(f"{name}: {value}" for name, value in self.provenance.items())
        return (
            f"{self.setting['dataset']}: {names} over guidance strength w (scale = 1 + w), by {self.columns}. "
            f"{', '.join(self.conditions)}. {provenance[:1].upper()}{provenance[1:]}."
        )


def slices(rows: pd.DataFrame, *, where: object = "the sweep") -> list[Slice]:
    """Splits a sweep's rows so that each part compares. `where` names the sweep in errors.

    Columns are p_uncond where it varies, else T; where both vary there is a slice per T. Cells that an earlier version
    of the sweep left behind (same point, or same p_uncond from another checkpoint) give way to the newest.
    """
    if rows.empty:
        raise UserError(f"{where}: no cells yet; run the sweep first (cfgbench sweep SWEEP.yaml)")
    if missing := [column for column in _NEEDED if column not in rows]:
        raise UserError(f"{where}: rows without the column {missing[0]}; they were not written by cfgbench sweep")
    numbers = {key: rows[key].astype(float) for m in METRICS for key in (m.column, m.se) if key in rows}  # None is NaN
    nulls = {key: rows[key].astype("Float64").astype(float) for key in PLANE[1:] if rows[key].isna().any()}
    rows = rows.assign(**numbers, **nulls)
    parts = [part for group in _comparable(rows) for part in _planes(_newest(group))]
    settings = [_setting(part, columns) for part, columns in parts]
    apart = tuple(key for key in settings[0] if len({repr(setting.get(key)) for setting in settings}) > 1)
    return [
        Slice(
            part.sort_values([columns, "w"], ignore_index=True),
            columns,
            setting,
            tuple(k for k in apart if k in setting),
        )
        for (part, columns), setting in zip(parts, settings, strict=True)
    ]


def known(value: Any) -> Any:
    """The value, or None where there is none: null, NaN, empty text."""
    return None if value is None or value is pd.NA or value != value or value == "" else value


def at(rows: pd.DataFrame, column: str, value: Any) -> pd.DataFrame:
    """The rows that have `value` in `column`; those that have none where it is null."""
    return rows[rows[column].isna()] if known(value) is None else rows[rows[column] == value]


def as_text(value: Any) -> str:
    """A value as a person writes it: 0.1, 32, 2e-05, ancestral; `not stated` where there is none."""
    if known(value) is None:
        return NOT_STATED
    return f"{value:g}" if isinstance(value, float) else str(value)


def strength(w: float) -> str:
    """Guidance strength in both conventions: `w 0.3 (scale 1.3)`."""
    return f"w {w:g} (scale {1 + w:g})"


def named(key: str, value: Any) -> str:
    """`T 32`, `1,000 images`, `features digits-1a2b`."""
    if key == "samples":
        return f"{int(value):,} images"
    return f"{key.removesuffix('_id')} {as_text(value)}"


def extractor_name(features_id: str) -> str:
    """The extractor that an id begins with; the id itself where it is none of ours."""
    for name in _EXTRACTORS:
        rest = features_id.removeprefix(name)
        if rest != features_id and not rest[:1].isalnum():
            return name
    return features_id


def _comparable(rows: pd.DataFrame) -> list[pd.DataFrame]:
    keys = _setting_columns(rows)
    return [group for _, group in rows.groupby([rows[key].map(repr) for key in keys], sort=False)]


def _setting_columns(rows: pd.DataFrame) -> list[str]:
    """The columns that decide whether rows compare: every column that is neither a result nor a place in the plane."""
    usual = [key for key in (*_ORDER, *_PROVENANCE) if key in rows and key not in PLANE]
    own = [key for key in rows if key not in (*usual, *_MEASURED) and key.rpartition(".")[2] not in PLANE]
    return [*usual, *own]


def _newest(rows: pd.DataFrame) -> pd.DataFrame:
    if "created" in rows:
        rows = rows.sort_values("created", kind="stable")
    rows = rows.drop_duplicates(list(PLANE), keep="last")
    if "checkpoint_id" not in rows:
        return rows
    done = rows["checkpoint_id"].where(rows["status"] == "ok")
    newest = done.groupby(rows["p_uncond"], dropna=False).transform("last")
    return rows[newest.isna() | rows["checkpoint_id"].isna() | (rows["checkpoint_id"] == newest)]


def _planes(rows: pd.DataFrame) -> list[tuple[pd.DataFrame, Literal["p_uncond", "T"]]]:
    if rows["p_uncond"].nunique(dropna=False) == 1 and rows["T"].nunique(dropna=False) > 1:
        return [(rows, "T")]
    return [(part, "p_uncond") for _, part in rows.groupby("T", dropna=False)]


def _setting(rows: pd.DataFrame, columns: str) -> dict[str, Any]:
    fixed = [key for key in PLANE[1:] if key != columns]
    first = rows.iloc[0]
    usual = [key for key in _ORDER if key in rows and (key not in PLANE or key in fixed)]
    own = [key for key in _setting_columns(rows) if key not in usual]
    return {key: known(first[key]) if key in PLANE else first[key] for key in [*usual, *own]}
