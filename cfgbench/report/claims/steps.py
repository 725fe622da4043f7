"""Whether more sampling steps help up to some T, and hardly beyond."""

from collections.abc import Mapping

from cfgbench.report.claims.chance import above, below, part_of, shift
from cfgbench.report.claims.setting import Curve, Setting
from cfgbench.report.claims.verdict import Finding, decided, unknown
from cfgbench.report.rows.best import lowest
from cfgbench.report.rows.differences import Difference, Term, combine, compare
from cfgbench.report.rows.systems import turned
from cfgbench.report.words import FID, named, with_error
from cfgbench.sweep.results.influences import Influences
from cfgbench.sweep.results.row import Row

ENOUGH = 256
"""The T that the paper finds enough."""

HARDLY = 0.05
"""The part of FID from which on a gain is one: in Table 2 T = 128 to 256 gains 20 %, 256 to 1024 nothing."""


def steps_help(influences: Influences, setting: Setting) -> list[Finding]:
    """For each p_uncond: M / 2 to M steps and M to 4 M, by the best FID over the w that all three have.

    M is 256, or else the middle one of those T of which half and four times were swept too. Holds if the first gain
    is told above HARDLY and the second below it; does not if either is told to be otherwise, of 256: of another M only
    that it is not the T that was meant.
    """
    curves = setting.curves()
    networks = dict.fromkeys(curve.p_uncond for curve in curves)
    found = [
        _of_network(
            influences,
            named("p_uncond", p),
            {curve.T: curve for curve in curves if curve.p_uncond == p and curve.T is not None},
        )
        for p in networks
    ]
    swept = [finding for finding in found if finding is not None]
    return swept or [unknown("steps", "not swept: a T with half and four times as many steps")]


def _of_network(influences: Influences, of: str, curves: Mapping[float, Curve]) -> Finding | None:
    middles = [T for T in sorted(curves) if T / 2 in curves and 4 * T in curves]
    if not middles:
        return None
    M = ENOUGH if ENOUGH in middles else middles[(len(middles) - 1) // 2]
    rows = {T: curves[T].having("fid") for T in (M / 2, M, 4 * M)}
    shared = set.intersection(*({row["w"] for row in held} for held in rows.values()))
    if not shared:
        return unknown(of, f"no w has an FID at T {M / 2:g}, {M:g} and {4 * M:g}")
    best = {T: lowest([row for row in held if row["w"] in shared]) for T, held in rows.items()}
    return _gains(influences, of, M, best, looks=len(shared))


def _gains(influences: Influences, of: str, M: float, best: Mapping[float, Row], looks: int) -> Finding:
    """`looks` is of how many w the best are, which by chance is lower than it is."""
    few, middle, many = best[M / 2], best[M], best[4 * M]
    first, second = compare(influences, few, middle, "fid"), compare(influences, middle, many, "fid")
    one, other = _beyond_hardly(influences, few, middle), _beyond_hardly(influences, middle, many)
    gained, enough = above(one, looks=looks), below(other, looks=looks)
    otherwise = below(one, looks=2 * looks) or above(other, looks=2 * looks)
    outcome = decided(holds=gained and enough, fails=otherwise and M == ENOUGH)
    listed = ", ".join(f"{with_error(row, FID)} at T {T:g} and {turned(row)}" for T, row in best.items())
    gains = (
        f"T {M / 2:g} is {shift(first)} than T {M:g}, {part_of(first.value, few['fid']):.1%} of its FID; "
        f"T {M:g} is {shift(second)} than T {4 * M:g}, {part_of(second.value, middle['fid']):.1%}"
    )
    lacking = f"; not swept: T {ENOUGH // 2}, {ENOUGH} and {4 * ENOUGH}" if otherwise and M != ENOUGH else ""
    text = f"best FID over the w that all three have: {listed}; {gains}; a gain counts from {HARDLY:.0%} on{lacking}"
    return Finding(of, outcome, text, (first, second))


def _beyond_hardly(influences: Influences, fewer: Row, more: Row) -> Difference:
    """By how much the gain from fewer steps to more is above HARDLY of the FID at fewer, which has an error too."""
    return combine(influences, [Term(1 - HARDLY, fewer, "fid"), Term(-1.0, more, "fid")])
