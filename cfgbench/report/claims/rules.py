"""Other rules than classifier-free guidance: the classifier's, and what only makes the model cold."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from cfgbench.report.claims.chance import above, below, shift
from cfgbench.report.claims.setting import Curve, Setting
from cfgbench.report.claims.strength import FINE, STEP, improves, trade_off
from cfgbench.report.claims.verdict import Finding, decided, unknown
from cfgbench.report.rows.best import lowest
from cfgbench.report.rows.differences import Difference, compare
from cfgbench.report.rows.systems import LOW_TEMPERATURE, SYSTEMS, UNTURNED, turned
from cfgbench.report.words import FID, number, with_error
from cfgbench.sweep.results.influences import Influences
from cfgbench.sweep.results.row import Row

MODELS = ("conditional", "unconditional")
"""What a classifier may guide."""


def classifier_trades(influences: Influences, setting: Setting) -> list[Finding]:
    """Whether classifier guidance trades FID for IS as guidance without one does, on either model.

    Where guidance without a classifier is told no trade-off, there is none to be similar to, and nothing can be told.
    FID is to improve on the conditional model's without guidance, whichever model is guided; that is the w = 0 of a
    curve on it that has none. A curve on the unconditional model begins with its first weight: its w = 0 is another
    model, and the paper's w is its weight less 1.
    """
    found = []
    for on in MODELS:
        curves = list(_beside(setting, SYSTEMS["classifier", on]))
        found += [_classifier(influences, on, *curve) for curve in curves]
        found += [] if curves else [unknown(f"on the {on} model", "not swept: guidance classifier")]
    return found


def cold_does_not(influences: Influences, setting: Setting) -> list[Finding]:
    """Whether a scaled score and less noise give no such trade-off: FID gets worse where guidance improves it."""
    found = []
    for name, (system, asked) in _COLD.items():
        curves = list(_beside(setting, system))
        found += [_cold(influences, name, *curve) for curve in curves]
        found += [] if curves else [unknown(name, f"not swept: {asked}")]
    return found


_COLD = {
    "score-scale": (SYSTEMS["score-scale", "conditional"], "guidance score-scale"),
    "temperature": (LOW_TEMPERATURE, "temperature below 1 at w 0"),
}
"""What is judged -> its system, and how it is asked for."""


def _beside(setting: Setting, system: str) -> Iterator[tuple[Curve, Row | None, Curve | None]]:
    """The system's curves, each with the conditional model's row without guidance, where that has an FID, and the curve
    of guidance without a classifier, as far as they were swept at its place."""
    beside = setting.beside(system)
    free = {curve.place: curve for curve in beside.curves()}
    for curve in beside.curves(system):
        row = beside.unguided.get(curve.place)
        unguided = None if row is None or np.isnan(number(row, FID.column)) else row
        yield curve, unguided, free.get(curve.place)


def _classifier(influences: Influences, on: str, curve: Curve, unguided: Row | None, free: Curve | None) -> Finding:
    rows, first, start = curve.having("fid", "is_mean"), unguided, 0.0
    if on == "unconditional":
        rows, start = [row for row in rows if row["w"] != 0], 1.0
    else:
        first = next((row for row in rows if row["w"] == 0), unguided)
        rows = rows if first is None or first in rows else sorted([first, *rows], key=lambda row: row["w"])
    found = trade_off(influences, f"on the {on} model, {curve.name}", rows, first, start=start)
    if found.outcome == "cannot be told":
        return found
    if free is None:
        return unknown(found.of, f"not swept: guidance without a classifier; {found.text}")
    model = trade_off(influences, curve.name, free.having("fid", "is_mean"), unguided)
    why = f"classifier-free guidance has none to be similar to; {found.text}"
    return found if model.outcome == "holds" else replace(found, outcome="cannot be told", text=why)


def _cold(influences: Influences, name: str, curve: Curve, unguided: Row | None, guided: Curve | None) -> Finding:
    """Holds if guidance improves on the unguided FID, and the cold rows are all told worse than its best, some worse
    than unguided, none better, and one is within 0.1 of no cold at all, where a minimum may hide; does not if one is
    told better than unguided."""
    of = f"{name}, {curve.name}"
    cold = [row for row in curve.having("fid") if row["w"] != 0 or row["temperature"] != 1]
    warm = [row for row in guided.having("fid") if row["w"] > 0] if guided else []
    if unguided is None or not warm or not cold:
        return unknown(of, "not swept: w 0 and guidance at the same p_uncond and T, and strengths of its own")
    helps, best = improves(influences, of, warm, unguided), lowest(warm)
    gaps = [compare(influences, row, unguided, "fid") for row in cold]
    behind = [compare(influences, row, best, "fid") for row in cold]
    better = any(below(gap, looks=len(gaps)) for gap in gaps)
    worse = any(above(gap, looks=len(gaps)) for gap in gaps) and all(above(gap, looks=len(warm)) for gap in behind)
    holds = helps.outcome == "holds" and worse
    near = any(abs(row["at"] - UNTURNED[row["knob"]]) <= STEP for row in cold)
    lacking = f"; not swept: a strength within {FINE:g} of none" if holds and not near else ""
    text = f"{_ends(cold, gaps)}{lacking}; guidance: {helps.text}"
    outcome = decided(holds=holds and near, fails=better)
    return Finding(of, outcome, text, (*gaps, *behind, *helps.differences))


def _ends(rows: Sequence[Row], gaps: Sequence[Difference]) -> str:
    """The lowest FID, and the highest where there is another."""
    first, *others = sorted(zip(rows, gaps, strict=True), key=lambda pair: pair[1].value)
    ends = [("lowest FID", first), *(("highest", pair) for pair in others[-1:])]
    return "; ".join(
        f"{end} {with_error(row, FID)} at {turned(row)}, {shift(gap)} than without" for end, (row, gap) in ends
    )
