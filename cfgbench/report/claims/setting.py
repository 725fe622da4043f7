"""What the claims are held against: rows alike in all but w, p_uncond, T and the rule of guidance, as curves."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from cfgbench.report.rows.averages import at_shared_seeds
from cfgbench.report.rows.columns import ORDER, PLANE, PROVENANCE, SEEDS, comparable, conditions
from cfgbench.report.rows.protocols import own_phrases
from cfgbench.report.rows.seeds import other_seeds, with_numbers
from cfgbench.report.rows.slices import settled
from cfgbench.report.rows.systems import CFG, DEFAULTS, SYSTEMS
from cfgbench.report.words import METRICS, extractor_name, known, named, number
from cfgbench.sweep.results.row import Row

Place = tuple[float | None, float | None]
"""(p_uncond, T), by which the curves of two systems are held against each other."""


@dataclass(frozen=True)
class Curve:
    """The rows of one system at one p_uncond and T that have numbers, in order of w; of the cold, of temperature."""

    name: str
    p_uncond: float | None
    T: float | None
    rows: tuple[Row, ...]

    @property
    def place(self) -> Place:
        return self.p_uncond, self.T

    def having(self, *columns: str) -> list[Row]:
        """The rows that have a number in each of these columns."""
        return [row for row in self.rows if not any(np.isnan(number(row, column)) for column in columns)]


@dataclass(frozen=True)
class Setting:
    """Rows that compare. `name` tells them from other rows of the sweep."""

    name: str
    rows: pd.DataFrame

    @property
    def trainings(self) -> set[int]:
        """Over how many seeds of training the points that have numbers are means; 1 where they are none."""
        return {len({seed.training for seed in with_numbers(held)}) for held in self.rows["members"]} - {0}

    @property
    def trained(self) -> bool:
        """Whether chance had a part in the networks: the denoiser that `gaussians` is sampled with is known, but for a
        function of one's own, which rows do not tell."""
        return self.rows["dataset"].iloc[0] != "gaussians"

    @property
    def has_errors(self) -> bool:
        """Whether any number has one."""
        return any(self.has(metric.se) for metric in METRICS)

    def has(self, column: str) -> bool:
        """Whether any cell has a number there."""
        return any(not np.isnan(number(row, column)) for held in self.rows["members"] for row in held)

    def curves(self, system: str = CFG) -> list[Curve]:
        """A curve over its knob for each p_uncond and T, from no guidance on: a w below 0 is none. Guidance without a
        classifier has at w = 0 what another rule has there, where it has nothing of its own: that is the conditional
        model, whatever the rule."""
        found = self._curves.get(system, [])
        return [_from(self.unguided.get(curve.place), curve) for curve in found] if system == CFG else found

    def beside(self, system: str) -> "Setting":
        """The same with the curves of this system and of guidance without a classifier at the seeds that both have."""
        if not {CFG, system} <= {*self.rows["system"]}:
            return self
        pair = self.rows["system"].isin((CFG, system))
        return replace(self, rows=pd.concat([at_shared_seeds(self.rows[pair]), self.rows[~pair]], ignore_index=True))

    @cached_property
    def unguided(self) -> dict[Place, Row]:
        """Place -> the conditional model's own row, whichever rule sampled it; best of guidance without a
        classifier."""
        systems = [SYSTEMS[rule, "conditional"] for rule in ("score-scale", "classifier", "cfg")]
        curves = [curve for system in systems for curve in self._curves.get(system, [])]
        return {curve.place: row for curve in curves for row in curve.rows if row["w"] == 0}

    @cached_property
    def _curves(self) -> dict[str, list[Curve]]:
        """system -> its curves; nearly every claim asks for them."""
        ok = self.rows[(self.rows["status"] == "ok") & (self.rows["at"] >= 0)]
        return {system: self._of_system(rows) for system, rows in ok.groupby("system")}

    def _of_system(self, rows: pd.DataFrame) -> list[Curve]:
        varying = [key for key in PLANE[1:] if self.rows[key].nunique(dropna=False) > 1]
        records = rows.to_dict("index")  # at once: pandas is slow to begin
        found = []
        for values, part in rows.sort_values("at").groupby(list(PLANE[1:]), dropna=False):
            place = dict(zip(PLANE[1:], map(known, values), strict=True))
            named_keys = varying or [key for key in PLANE[1:] if place[key] is not None]
            name = ", ".join(named(key, place[key]) for key in named_keys) or "the curve"
            points = [records[index] for index in part.index]
            others = zip(points, other_seeds(point["members"] for point in points), strict=True)
            found.append(Curve(name, **place, rows=tuple(point | {"other_seeds": other} for point, other in others)))
        return found


def _from(unguided: Row | None, curve: Curve) -> Curve:
    """The curve with this row at w = 0, unless it has one there."""
    if unguided is None or any(row["w"] == 0 for row in curve.rows):
        return curve
    return replace(curve, rows=tuple(sorted((unguided, *curve.rows), key=lambda row: row["w"])))


def settings(rows: pd.DataFrame) -> list[Setting]:
    """A sweep's rows in groups that compare; old rows that other rows supersede are left out, seeds averaged over."""
    whole = settled(rows)
    groups = [group for alike in comparable(whole, without=("system", *SEEDS)) for group in _together(alike)]
    keys = [key for key in conditions(whole) if key not in (*DEFAULTS, "protocol_id")]
    apart = [key for key in keys if len({repr(group[key].iloc[0]) for group in groups}) > 1]
    firsts = [group.iloc[0].to_dict() for group in groups]
    if "protocol" in apart:  # what differs in it says more than its name, or than the whole of it
        for first, own in zip(firsts, own_phrases([first["protocol"] for first in firsts]), strict=True):
            first["protocol"] = "; ".join(own)
    return [Setting(_name(first, apart), group) for first, group in zip(firsts, groups, strict=True)]


def _together(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """Rows that differ in seeds and systems only, as one group where each system has seeds of its own at each T:
    comparisons take those that two have in common."""
    groups = comparable(rows, without=("system",))
    curves = [curve for group in groups for curve in {*zip(group["system"], group["T"].map(repr), strict=True)}]
    return [rows] if len(curves) == len(set(curves)) else groups


def _name(first: Row, apart: list[str]) -> str:
    """`digits, 1,000 images, digits features`, and what tells the setting of this row from the others."""
    keys = [key for key in apart if key not in ("dataset", "samples", "features_id")]
    usual = [key for key in (*ORDER, *PROVENANCE) if key in keys]
    own = [key for key in keys if key not in usual]
    words = [named(key, first[key]) for key in (*usual, *own) if known(first[key]) is not None]
    features = f"{extractor_name(str(first['features_id']))} features"
    return ", ".join([str(first["dataset"]), named("samples", first["samples"]), features, *words])
