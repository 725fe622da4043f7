"""FID at equal Inception Score: two curves laid over each other, with the errors of both axes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cfgbench.report.claims.chance import above, below, part_of, shift, weakest
from cfgbench.report.claims.setting import Curve, Setting
from cfgbench.report.claims.verdict import Finding, decided, unknown
from cfgbench.report.rows.differences import Difference, Term, combine
from cfgbench.report.words import joined, named
from cfgbench.sweep.results.influences import Influences
from cfgbench.sweep.results.row import Row

WORSE = 0.5
"""The p_uncond that the paper finds worse than GOOD, which it finds alike."""
GOOD = (0.1, 0.2)

ALIKE = 0.15
"""How far apart two curves may be and still perform alike, as a part of the lower FID at equal IS.

Between what Table 1 has for those that the paper calls alike (0.1 and 0.2: at most 10 %) and for those that it calls
worse (0.5: up to 46 % above 0.1, 35 % above 0.2).
"""

SHARED = 0.5
"""The part of the shorter curve that two curves have to share for what is so there to be so over the whole."""


POINTS = 3
"""Of a curve that is told alike, at least."""


@dataclass(frozen=True)
class Gap:
    """FID of one curve minus FID of another, or multiples of them, at an IS that one of them was measured at."""

    score: float
    lower: float
    """The lower of the two FIDs."""
    difference: Difference
    bent: Difference | None
    """The difference if the line between two points were as far below it as convexity lets it be: not above the
    continuation of the line on either side. None where there is no other side."""

    def seen_above(self) -> bool:
        """Whether the difference is told to be more than 0, and does not look like the straight line's doing."""
        return above(self.difference) and self.bent is not None and self.bent.value > 0

    def told_above(self, looks: int) -> bool:
        """Whether it is told to be more than 0, and not to be the straight line's doing either: at one point of many
        that line's own errors would do."""
        nearest = None if self.bent is None else min(self.difference, self.bent, key=lambda one: one.value)
        return nearest is not None and all(above(one, looks=looks) for one in (self.difference, nearest))

    def told_below(self, looks: int) -> bool:
        """Whether it is told to be less than 0, likewise."""
        nearest = None if self.bent is None else max(self.difference, self.bent, key=lambda one: one.value)
        return nearest is not None and all(below(one, looks=looks) for one in (self.difference, nearest))

    @property
    def relative(self) -> float:
        """The difference as a part of the lower FID."""
        return part_of(self.difference.value, self.lower)


def gaps(influences: Influences, a: Curve, b: Curve, *, times: tuple[float, float] = (1.0, 1.0)) -> list[Gap]:
    """a - b at every measured point of either in the range of IS that both have, in order of IS; each `times` its
    factor.

    A curve is a line from point to point. Of it stands what raises IS: a w whose IS is not above that of every smaller
    w is left out, for there the curve turns back.
    """
    ours, theirs = rising(a), rising(b)
    of_a, of_b = times
    found = [_gap(influences, row, theirs, of_a, of_b) for row in _inside(ours, theirs)]
    found += [_gap(influences, row, ours, -of_b, -of_a) for row in _inside(theirs, ours)]
    return sorted(found, key=lambda gap: gap.score)


def rising(curve: Curve) -> list[Row]:
    """The rows whose IS is above that of all rows before."""
    kept: list[Row] = []
    for row in curve.having("fid", "is_mean"):
        if not kept or row["is_mean"] > kept[-1]["is_mean"]:
            kept.append(row)
    return kept


def worse_everywhere(influences: Influences, setting: Setting) -> list[Finding]:
    """p_uncond 0.5 against 0.1 and 0.2: holds if FID is told higher at every point of half of the shorter curve or
    more, does not if told lower at one."""
    return [_worse(influences, of, a, b) for of, a, b in _pairs(setting, [(WORSE, good) for good in GOOD])]


def alike(influences: Influences, setting: Setting) -> list[Finding]:
    """p_uncond 0.1 against 0.2: holds if told to be within ALIKE at every point of half of the shorter curve or more,
    of curves of three points or more, for between two a straight line hides all; does not if told beyond it at one.
    Its differences are the plain ones."""
    return [_alike(influences, of, a, b) for of, a, b in _pairs(setting, [GOOD])]


def _worse(influences: Influences, of: str, a: Curve | None, b: Curve | None) -> Finding:
    found = _shared(influences, of, a, b)
    if isinstance(found, Finding):
        return found
    higher = [gap for gap in found if gap.seen_above()]
    lower = [gap for gap in found if gap.told_below(len(found))]
    rest = [gap for gap in found if gap not in higher and gap not in lower]
    everywhere, share = len(higher) == len(found), _shared_part(a, b)
    text = f"{_range(found)}, told higher at {len(higher)} of {_points(found)}, {_of_shorter(share, everywhere)}"
    unsure = weakest([gap.difference for gap in found])
    text += f"; the least sure {next(_at(gap) for gap in found if gap.difference is unsure)}"
    text += f", told lower at IS {_scores(lower)}" if lower else ""
    text += f", not told at IS {_scores(rest)}" if len(rest) < len(found) and rest else ""
    outcome = decided(holds=everywhere and share >= SHARED, fails=bool(lower))
    return Finding(of, outcome, text, tuple(gap.difference for gap in lower or found))


def _alike(influences: Influences, of: str, a: Curve | None, b: Curve | None) -> Finding:
    found = _shared(influences, of, a, b)
    if isinstance(found, Finding):
        return found
    # a - 1.15 b is below 0 and 1.15 a - b above where they are alike. Of a difference beside a margin, a part of the
    # lower FID, the error of that part would be missing.
    sides = [gaps(influences, a, b, times=times) for times in ((1.0, 1 + ALIKE), (1 + ALIKE, 1.0))]
    judged = list(zip(found, *sides, strict=True))
    near = [gap for gap, over, under in judged if below(over.difference) and above(under.difference)]
    far = [gap for gap, over, under in judged if over.told_above(len(found)) or under.told_below(len(found))]
    everywhere, share = len(near) == len(found), _shared_part(a, b)
    where = f"{len(near)} of {_points(found)}, {_of_shorter(share, everywhere)}"
    text = f"{_range(found)}, told to be within {ALIKE:.0%} at {where}"
    text += f", told beyond it at IS {_scores(far)}" if far else ""
    few = min(len(rising(a)), len(rising(b))) < POINTS
    text += f"; not swept: {POINTS} values of w at each" if everywhere and few else ""
    outcome = decided(holds=everywhere and not few and share >= SHARED, fails=bool(far))
    return Finding(of, outcome, text, tuple(gap.difference for gap in far or found))


def _pairs(setting: Setting, pairs: Sequence[tuple[float, float]]) -> list[tuple[str, Curve | None, Curve | None]]:
    """(name, curve, curve) for each T at which both were swept; None for the curves where there is no such T."""
    curves = {curve.place: curve for curve in setting.curves()}
    steps = list(dict.fromkeys(T for _, T in curves))
    found: list[tuple[str, Curve | None, Curve | None]] = []
    for a, b in pairs:
        name = f"p_uncond {a:g} against {b:g}"
        both = [T for T in steps if (a, T) in curves and (b, T) in curves]
        places = {T: f"{name}, {named('T', T)}" if len(steps) > 1 else name for T in both}
        found += [(place, curves[a, T], curves[b, T]) for T, place in places.items()] or [(name, None, None)]
    return found


def _shared(influences: Influences, of: str, a: Curve | None, b: Curve | None) -> list[Gap] | Finding:
    if a is None or b is None:
        return unknown(of, "not swept: both p_uncond, at one T")
    if min(len(one.having("fid", "is_mean")) for one in (a, b)) < 2:
        return unknown(of, "not swept: two values of w at each, with FID and IS")
    if min(len(rising(a)), len(rising(b))) < 2:
        flat = next(one for one in (a, b) if len(rising(one)) < 2)
        return Finding(of, "cannot be told", f"at p_uncond {flat.p_uncond:g} IS does not rise with w")
    found = gaps(influences, a, b)
    return found if len(found) > 1 else Finding(of, "cannot be told", "the curves share no range of IS")


def _inside(rows: Sequence[Row], others: Sequence[Row]) -> list[Row]:
    return [row for row in rows if others[0]["is_mean"] <= row["is_mean"] <= others[-1]["is_mean"]]


def _gap(influences: Influences, point: Row, curve: Sequence[Row], of_point: float, of_curve: float) -> Gap:
    """of_point * F - of_curve * C(S) for a point (S, F) and a curve C."""
    score, scores = point["is_mean"], [row["is_mean"] for row in curve]
    k = int(np.clip(np.searchsorted(scores, score, side="right") - 1, 0, len(curve) - 2))
    difference = _from_line(influences, point, curve[k], curve[k + 1], of_point, of_curve)
    other = (of_point * point["fid"] - difference.value) / of_curve
    beside = [(curve[i], curve[i + 1]) for i in (k - 1, k + 1) if 0 <= i < len(curve) - 1]
    continued = [_from_line(influences, point, *pair, of_point, of_curve) for pair in beside]
    highest = min if of_curve > 0 else max  # of the continuations, of which the curve lies above both
    bent = highest(continued, key=lambda one: one.value, default=None)
    return Gap(float(score), float(min(point["fid"], other)), difference, difference if score in scores else bent)


def _from_line(
    influences: Influences, point: Row, left: Row, right: Row, of_point: float, of_line: float
) -> Difference:
    r"""of_point * F - of_line * C(S) for a point (S, F) and the line C through (S_0, F_0) and (S_1, F_1).

    To first order, with slope m and t = (S - S_0) / (S_1 - S_0),
        C(S) = m S + (1 - t) (F_0 - m S_0) + t (F_1 - m S_1),
    so that the errors of both metrics in all three cells count, paired where the cells share images.
    """
    apart = right["is_mean"] - left["is_mean"]
    slope, t = (right["fid"] - left["fid"]) / apart, (point["is_mean"] - left["is_mean"]) / apart
    ends = [(of_line * (1 - t), left), (of_line * t, right)]
    terms = [Term(of_point, point, "fid"), *(Term(-share, row, "fid") for share, row in ends if share)]
    scores = [(-of_line, point), *((share, row) for share, row in ends if share)]
    terms += [Term(slope * share, row, "is_mean") for share, row in scores if slope]
    return combine(influences, terms)


def _range(found: Sequence[Gap]) -> str:
    low, high = min(found, key=lambda gap: gap.relative), max(found, key=lambda gap: gap.relative)
    ends = (f"{round(gap.relative, 3) + 0.0:+.1%} (IS {gap.score:.4g})" for gap in (low, high))  # no -0.0%
    return f"FID at equal IS differs by {' to '.join(ends)} of the lower"


def _points(found: Sequence[Gap]) -> str:
    return f"{len(found)} points from IS {found[0].score:.4g} to {found[-1].score:.4g}"


def _of_shorter(share: float, everywhere: bool) -> str:
    """Why points that are all told alike do not tell of the curves."""
    few = f", less than the {SHARED:.0%} that are needed" if everywhere and share < SHARED else ""
    return f"{share:.0%} of the shorter curve{few}"


def _shared_part(*curves: Curve) -> float:
    """How much of the curve with the smaller range of IS the other shares."""
    scores = [[row["is_mean"] for row in rising(curve)] for curve in curves]
    shared = min(max(of) for of in scores) - max(min(of) for of in scores)
    return shared / min(max(of) - min(of) for of in scores)


def _at(gap: Gap) -> str:
    return f"{shift(gap.difference)} at IS {gap.score:.4g}"


def _scores(found: Sequence[Gap]) -> str:
    return joined([f"{gap.score:.4g}" for gap in found])
