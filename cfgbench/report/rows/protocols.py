"""Rows that were measured with, against or by different things: kept apart, or put together and marked [a], [b] ..."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from cfgbench.report.rows.columns import PLANE, PROVENANCE, SEEDS, comparable, same_measure
from cfgbench.report.words import as_text, known, letter, named

AS_MARKED = "as marked"
_TOGETHER = ("system",), PLANE[1:]
"""Rows that are alike in one of these, and in all else, may stand together."""


def marked(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with a column `mark`, a letter for each way of measuring; without it where no rows that may stand
    together were measured in several ways. Where some of those that are alike in all but system and seeds were, each of
    them has its mark, for they lend each other points, or are joined over T; else all of them have none (null)."""
    alike = comparable(rows, without=(*PROVENANCE, "system", *SEEDS))
    mixed = [part for group in alike for part in _near(group) if _mixed(part)]
    if not mixed:
        return rows
    together = pd.concat(mixed)
    marks = together.groupby(same_measure(together), sort=False).ngroup().map(letter)
    return rows.assign(mark=marks.reindex(rows.index))


def _near(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """The rows, alike in all but system and seeds, as far as they come together: seeds of one system and T do not."""
    if max(rows[key].nunique(dropna=False) for key in ("system", "T")) > 1:
        return [rows]
    return list(comparable(rows, without=PROVENANCE))


def _mixed(rows: pd.DataFrame) -> bool:
    """Whether rows of one system, or of one p_uncond and T, were measured in several ways."""
    measures = same_measure(rows)
    return any((measures.groupby([rows[key] for key in keys], dropna=False).nunique() > 1).any() for keys in _TOGETHER)


def meanings(rows: pd.DataFrame) -> dict[str, str]:
    """mark -> what is its own: those words of its protocol, features and reference that not all marks share."""
    if "mark" not in rows:
        return {}
    firsts = {mark: of_mark.iloc[0] for mark, of_mark in rows.groupby("mark", sort=False)}
    own = dict(zip(firsts, own_phrases([first.get("protocol") for first in firsts.values()]), strict=True))
    for key in ("features_id", "reference_id"):
        values = {mark: as_text(first.get(key)) for mark, first in firsts.items()}
        if len(set(values.values())) > 1:
            for mark, value in values.items():
                own[mark] += [] if value in "; ".join(own[mark]) else [named(key, value)]
    return {mark: "; ".join(phrases) for mark, phrases in own.items()}


def shared(values: Sequence[Any]) -> Any:
    """What a caption says where rows differ in a thing: the phrases that all have, and that the rest is as marked."""
    if len({repr(known(value)) for value in values}) == 1:
        return values[0]
    phrases = [phrases_of(value) for value in values]
    return "; ".join([phrase for phrase in phrases[0] if all(phrase in other for other in phrases)] + [AS_MARKED])


def of_rows(marks: Mapping[str, str], rows: pd.DataFrame) -> dict[str, str]:
    """Those of the marks that the rows have."""
    there = set(rows["mark"]) if "mark" in rows else set()
    return {mark: meaning for mark, meaning in marks.items() if mark in there}


def kept_apart(rows: pd.DataFrame) -> str:
    """One line on what stands in tables of its own only because it was measured otherwise; "" where nothing does."""
    marks = meanings(marked(rows))
    if not marks:
        return ""
    what = ", ".join(f"[{mark}] {meaning}" for mark, meaning in marks.items())
    return f"{len(marks)} protocols are kept apart: {what}; --mixed puts them together and marks them"


def left_apart(rows: pd.DataFrame) -> str:
    """One line where there is nothing to put together, which was asked for; "" where there is."""
    if "mark" in marked(rows):
        return ""
    several = same_measure(rows).nunique() > 1
    why = "where protocols differ, an axis of the sweep does too" if several else "all rows have one protocol"
    return f"--mixed finds nothing to put together: {why}"


def own_phrases(protocols: Sequence[Any]) -> list[list[str]]:
    """Of each protocol the phrases that not all have."""
    said = list(map(phrases_of, protocols))
    return [[phrase for phrase in mine if not all(phrase in other for other in said)] for mine in said]


def phrases_of(protocol: Any) -> list[str]:
    """`features digits-1a2b`, `clip on` ...: what a protocol says, one by one."""
    return [phrase.strip() for phrase in str(known(protocol) or "").split(";") if phrase.strip()]
