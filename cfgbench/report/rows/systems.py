"""Which system made a row, and by which knob it gives up diversity for fidelity.

Guidance without a classifier, with one (of the conditional or the unconditional branch) and scaling of the score turn
w; low temperature leaves the network unguided and turns down the noise of the reverse process, high temperature turns
it up.
"""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from cfgbench.report.words import known
from cfgbench.sweep.results.row import Row
from cfgbench.wording import strength

DEFAULTS: dict[str, Any] = {"guidance": "cfg", "on": "conditional", "temperature": 1.0}
"""The columns that say which system a row is of -> what it means that they are not there, or null."""

SIGNS = {"w": "w", "temperature": "τ"}
"""knob -> its sign in a figure where there is no room for words."""

UNTURNED = {"w": 0.0, "temperature": 1.0}
"""knob -> its value where there is no guidance."""

CFG = "classifier-free guidance"
LOW_TEMPERATURE = "low temperature"
HIGH_TEMPERATURE = "high temperature"
TEMPERATURES = LOW_TEMPERATURE, HIGH_TEMPERATURE
SYSTEMS = {
    ("cfg", "conditional"): CFG,
    ("classifier", "conditional"): "classifier guidance",
    ("classifier", "unconditional"): "classifier guidance on the unconditional branch",
    ("score-scale", "conditional"): "score scaling",
}
"""(guidance, on) -> the system's name."""
_RANKS = (*SYSTEMS.values(), *TEMPERATURES)


def with_systems(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with `system`, its name; `knob`, the column that it turns (w or temperature); `at`, that knob's value.
    What is missing of `on` and `temperature` becomes what it means; so does `guidance` where there is that column."""
    nothing = pd.Series(None, index=rows.index, dtype=object)
    filled = {
        key: rows.get(key, nothing).map(lambda value, default=default: default if known(value) is None else value)
        for key, default in DEFAULTS.items()
    }
    filled["on"] = filled["on"].where(filled["guidance"] == "classifier", DEFAULTS["on"])  # means nothing elsewhere
    filled["temperature"] = filled["temperature"].astype(float)
    names = [_name(*values) for values in zip(*filled.values(), rows["w"], strict=True)]
    systems = pd.Series(names, index=rows.index, dtype=object)
    unguided = systems.isin(TEMPERATURES)
    columns = {key: values for key, values in filled.items() if key != "guidance" or key in rows}
    return rows.assign(
        **columns,
        system=systems,
        knob=unguided.map({True: "temperature", False: "w"}),
        at=filled["temperature"].where(unguided, rows["w"]).astype(float),
    )


def plain(rows: pd.DataFrame) -> bool:
    """Whether the column `guidance` alone says what the rows are: one system, at its usual temperature and branch."""
    usual = (rows["on"] == DEFAULTS["on"]) & (rows["temperature"] == DEFAULTS["temperature"])
    return bool(usual.all()) and rows["system"].nunique() == 1


def rank(system: str) -> tuple[int, str]:
    """The order in which systems stand: the paper's own, its rivals, the others by name."""
    return (_RANKS.index(system) if system in _RANKS else len(_RANKS), system)


def scaled(system: str) -> bool:
    """Whether scale = 1 + w is what others call its strength. The weight of a classifier is no such scale."""
    return not system.startswith("classifier guidance") and system not in TEMPERATURES


def turned(row: Any) -> str:
    """Where a row's knob stands: `w 0.3 (scale 1.3)`, `w 0.3` of a classifier, `temperature 0.95`."""
    if row["knob"] == "w" and scaled(row["system"]):
        return strength(row["at"])
    return f"{row['knob']} {row['at']:g}"


def origins(rows: pd.DataFrame) -> Iterator[tuple[Row, pd.DataFrame]]:
    """For each system and place (p_uncond, T, mark) of rows that are alike in all else, where its curve has no unguided
    row of its own: (the row from which it begins, as one of that system; the curve). `shared` says that the row is
    another system's too.

    That is the conditional network with w = 0, whatever the rule, and, unless the temperature is what is turned, the
    same temperature; of the unconditional branch the unconditional network, w = -1.
    """
    places = ["p_uncond", "T", *(["mark"] if "mark" in rows else [])]
    for _, there in rows.groupby(places, dropna=False):
        done = there[there["status"] == "ok"]
        usual = done.get("guidance", pd.Series(DEFAULTS["guidance"], done.index)) == DEFAULTS["guidance"]
        others = ~usual & (done["w"] == 0) & (done["on"] == DEFAULTS["on"])
        free = pd.concat([done[usual], done[others]])  # that of guidance without a classifier is preferred
        for _, system in there.groupby("system", sort=False):
            row = system.iloc[0].to_dict()
            w, temperature, at = _start(row)
            found = free[(free["w"] == w) & (free["temperature"] == temperature)]
            if (system["at"] != at).all() and len(found):
                like = {key: row[key] for key in ("guidance", "on", "system", "knob") if key in row}
                yield found.iloc[0].to_dict() | like | {"at": at, "shared": True}, system


def _start(row: Row) -> tuple[float, float, float]:
    """(w, temperature) of the row from which a system's curve begins, and where its own knob stands there."""
    if row["knob"] == "temperature":
        return 0.0, UNTURNED["temperature"], UNTURNED["temperature"]
    return (0.0 if row["on"] == DEFAULTS["on"] else -1.0), row["temperature"], UNTURNED["w"]


def _name(guidance: str, on: str, temperature: float, w: float) -> str:
    if (guidance, w) == (DEFAULTS["guidance"], 0) and temperature != DEFAULTS["temperature"]:
        return LOW_TEMPERATURE if temperature < DEFAULTS["temperature"] else HIGH_TEMPERATURE
    name = SYSTEMS.get((guidance, on), f"guidance {guidance}")
    return name if temperature == DEFAULTS["temperature"] else f"{name} at temperature {temperature:g}"
