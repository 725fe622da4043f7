"""Which rows of a results folder count: those of the networks that the sweep has now, and of these the newest."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from cfgbench.report.rows.columns import POINT, SAMPLING_SEEDS, SEEDS, comparable
from cfgbench.sweep.results.row import COLUMNS


def asked_for(rows: pd.DataFrame, cells: Sequence[Mapping[str, Any]] | None) -> pd.DataFrame:
    """The rows of the networks that the sweep's `cells` have (see results.asked), in their order, with `asked`; all
    where the cells are not known. What the networks made for cells that the sweep no longer has, as those of another w,
    stays.

    Of its cells' rows the sweep says what its axes are: a row has the columns of when it was made.
    """
    if cells is None or rows.empty:
        return rows
    by_id = {cell["cell_id"]: cell for cell in cells}
    mine = rows["checkpoint_id"].isin({cell["checkpoint_id"] for cell in cells})
    guides = {cell["classifier_id"] for cell in cells if "classifier_id" in cell}  # notes of before have none
    if guides and "classifier_id" in rows:
        mine &= rows["classifier_id"].isna() | rows["classifier_id"].isin(guides)
    places = {cell_id: place for place, cell_id in enumerate(by_id)}
    order = rows.loc[mine, "cell_id"].map(places).sort_values(kind="stable").index
    rows = rows.loc[order].reset_index(drop=True)  # as the sweep has them, whichever was done first; others at the end
    settings = [by_id.get(cell_id, {}).get("settings") for cell_id in rows["cell_id"]]
    said = [
        by_id.get(cell_id, {}).get("p_uncond", p) for cell_id, p in zip(rows["cell_id"], rows["p_uncond"], strict=True)
    ]
    rows = rows.assign(p_uncond=said)  # of a network made elsewhere it is what the sweep says, and no part of its cells
    return _stated(rows, settings).assign(asked=rows["cell_id"].isin(by_id))


def _stated(rows: pd.DataFrame, settings: Sequence[Mapping[str, Any] | None]) -> pd.DataFrame:
    """The rows with the values of their axes that these settings (`training.KEY` and `sampling.KEY` -> value) have; an
    axis that is spelled in two ways in one column. Rows without settings keep what they say."""
    names = next((one for one in settings if one), {})
    spelled: dict[str, list[str]] = {}
    for column in (key for key in rows if key not in COLUMNS):
        for name in {column, f"training.{column}", f"sampling.{column}"} & set(names):
            spelled.setdefault(name, []).append(column)
    for name, (column, *others) in spelled.items():
        said = rows[column]
        for other in others:
            said = said.where(said.notna(), rows[other])
        values = [old if own is None else own.get(name, old) for own, old in zip(settings, said, strict=True)]
        rows = rows.drop(columns=others).assign(**{column: pd.Series(values, index=rows.index)})
    return rows


def current(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows without those that an earlier version of the sweep left behind: those that are asked for, else the
    newest, at each point and seed, and of each p_uncond (and seed of training) only that checkpoint's and classifier's,
    and those weights', in all systems."""
    groups = comparable(rows, without=(*SAMPLING_SEEDS, "system"))
    return pd.concat([_newest(group) for group in groups], ignore_index=True)


def _newest(rows: pd.DataFrame) -> pd.DataFrame:
    if order := [key for key in ("asked", "created") if key in rows]:
        rows = rows.sort_values(order, kind="stable")
    rows = rows.drop_duplicates([key for key in (*POINT, *SEEDS) if key in rows], keep="last")
    for network in ("checkpoint_id", "classifier_id", "checkpoint_digest", "classifier_digest"):
        if network in rows:
            done = rows[network].where(rows["status"] == "ok")
            newest = done.groupby(rows["p_uncond"], dropna=False).transform("last")
            rows = rows[newest.isna() | rows[network].isna() | (rows[network] == newest)]
    return rows.sort_index()
