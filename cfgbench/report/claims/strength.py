"""What happens along one curve as guidance grows: where FID is best, and that FID and the Inception Score rise."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from cfgbench.report.claims.chance import above, below, shift
from cfgbench.report.claims.verdict import Finding, decided, together, unknown
from cfgbench.report.rows.best import lowest
from cfgbench.report.rows.differences import Difference, compare
from cfgbench.report.rows.systems import turned
from cfgbench.report.words import FID, IS, joined, with_error
from cfgbench.sweep.results.influences import Influences
from cfgbench.sweep.results.row import Row

SMALL = 1.0
"""The largest w that counts as small: at 1 the scale is 2, the end of the tables' fine grid."""

LARGE = 4.0
"""The end of the paper's tables: a curve that ends before it could rise says nothing."""

FINE = 0.1
"""The step of the tables' fine grid: between no guidance and a first w that is larger a minimum may hide."""
STEP = FINE + 1e-9
"""The same, whatever numbers of it a file has."""


def best_is_small(influences: Influences, of: str, rows: Sequence[Row]) -> Finding:
    """Whether some w in (0, 1] has a lower FID than w = 0 and than every larger w.

    Holds if the best of them is told below each other w, and where it is the largest of (0, 1], the next is 2 at most;
    does not if another w is told below all of them, w = 0 only where a w in (0, 0.1] was swept, a larger one only where
    one in [0.9, 1] was: else a minimum may hide between. Where no w above 1 was swept the largest of (0, 1] has to be
    told above the best: else FID may fall on.
    """
    small = [row for row in rows if 0 < row["w"] <= SMALL]
    others = [row for row in rows if not 0 < row["w"] <= SMALL]
    last = small[-1:] if small and small[-1] is rows[-1] else []
    inner = small[: len(small) - len(last)]
    if not inner or all(row["w"] != 0 for row in others):
        return unknown(of, f"not swept: w 0, a w in (0, {SMALL:g}] and a larger one")
    best, rival = lowest(inner), lowest(others)
    gaps = [compare(influences, row, best, "fid") for row in [*others, *last]]
    leads = [compare(influences, rival, row, "fid") for row in small]
    holds = all(above(gap, looks=len(inner)) for gap in gaps)
    worse = all(below(lead, looks=len(others)) for lead in leads)
    holes = _holes(small, others, best, rival, holds=holds, worse=worse)
    hidden = "".join(f"; not swept: a w in {where}" for where in holes)
    text = f"FID {with_error(best, FID)} at {turned(best)}; {_nearest([*others, *last], gaps)}"
    lower = f"; w {rival['w']:g} told lower than every w in (0, {SMALL:g}]"
    text += lower if worse else _not_higher([*others, *last], gaps, len(inner))
    if last and not above(gaps[-1], looks=len(inner)):
        text += f"; not swept: a w above {last[0]['w']:g}{', where FID still falls' * below(gaps[-1])}"
    outcome = decided(holds=holds and not hidden, fails=worse and not hidden)
    return Finding(of, outcome, text + hidden, tuple(leads if worse else gaps))


def _holes(
    small: Sequence[Row], others: Sequence[Row], best: Row, rival: Row, *, holds: bool, worse: bool
) -> Iterator[str]:
    """Where no w was swept, and a minimum may hide that would turn the outcome."""
    larger = next((row["w"] for row in others if row["w"] > SMALL), SMALL)
    if worse and rival["w"] == 0 and small[0]["w"] > STEP:
        yield f"(0, {FINE:g}]"
    if worse and rival["w"] > SMALL and small[-1]["w"] < SMALL - STEP:
        yield f"[{SMALL - FINE:g}, {SMALL:g}]"
    if holds and best is small[-1] and larger > 2 * SMALL:
        yield f"({SMALL:g}, {2 * SMALL:g}]"


def fid_rises(influences: Influences, of: str, rows: Sequence[Row]) -> Finding:
    """Whether FID at the largest w is told above the minimum; it is not if told below every other w, and w is LARGE.
    How large a classifier's weight has to be is not known, and such a curve has always ended too early."""
    if len(rows) < 2:
        return unknown(of, "not swept: two values of w with an FID")
    *earlier, last = rows
    best = lowest(earlier)
    rise = compare(influences, last, best, "fid")
    falls = [compare(influences, last, row, "fid") for row in earlier]
    falling = all(below(fall) for fall in falls)
    classifier = last["guidance"] == "classifier"
    far = last["w"] >= LARGE and not classifier
    outcome = decided(holds=above(rise, looks=len(earlier)), fails=falling and far)
    text = f"FID {with_error(best, FID)} at {turned(best)}; at w {last['w']:g} {shift(rise)}"
    more = f"above {max(SMALL, last['w']):g}" if classifier else f"of {LARGE:g} or more"
    text += f"; not swept: a w {more}" if falling and not far else ""
    return Finding(of, outcome, text, (rise,))


def rises_again(influences: Influences, of: str, rows: Sequence[Row]) -> Finding:
    """Whether FID rises (see fid_rises) after it is told to have fallen: from w = 0, or from the first w where the
    curve was not swept from 0 on."""
    rise = fid_rises(influences, of, rows)
    if len(rows) < 2:
        return rise
    first = next((row for row in rows[:-1] if row["w"] == 0), rows[0])
    fall = improves(influences, of, [row for row in rows if row["w"] > first["w"]], first, start=first["w"])
    if first["w"] > 0 and fall.outcome == "does not hold":  # it may have fallen before
        fall = replace(fall, outcome="cannot be told", text=f"{fall.text}; not swept: w 0")
    text = rise.text if fall.outcome == "holds" else f"{rise.text}; FID falls before: {fall.outcome}, {fall.text}"
    return Finding(of, together([rise.outcome, fall.outcome]), text, rise.differences)


def is_rises(influences: Influences, of: str, rows: Sequence[Row]) -> Finding:
    """Whether the Inception Score at the largest w is told above the smallest's, and nowhere told to fall, nor lower by
    an error that is not known.

    A fall is looked for at each w from the highest before it: of all pairs one may fall by chance.
    """
    if len(rows) < 2:
        return unknown(of, "not swept: two values of w with an IS")
    rise = compare(influences, rows[-1], rows[0], "is_mean")
    falls, top = [], rows[0]
    for row in rows[1:]:
        falls.append((compare(influences, row, top, "is_mean"), top, row))
        top = max(top, row, key=lambda row: row["is_mean"])
    pairs = len(rows) * (len(rows) - 1) // 2
    told = [fall for fall in falls if below(fall[0], looks=pairs)]
    unsure = any(fall.value < 0 and np.isnan(fall.se) for fall, *_ in falls)
    ends = f"IS {with_error(rows[0], IS)} at {turned(rows[0])}, at w {rows[-1]['w']:g} {shift(rise)}"
    how = "told apart" if told else "of an error that is not known" if unsure else "within chance"
    outcome = decided(holds=above(rise) and not unsure, fails=bool(told))
    return Finding(of, outcome, f"{ends}; {_falls(told or falls, how)}", (*(fall for fall, *_ in told), rise))


def improves(
    influences: Influences, of: str, rows: Sequence[Row], unguided: Row | None, *, start: float = 0.0
) -> Finding:
    """Whether some row's FID is told below that of `unguided`, which may be of another w than 0; it does not if each is
    told above, of a curve that was swept from within 0.1 of `start`, where there is no guidance, and does not fall at
    its end."""
    if unguided is None or not rows:
        return unknown(of, "not swept: w 0, and another with an FID")
    gaps = [compare(influences, row, unguided, "fid") for row in rows]
    helps = any(below(gap, looks=len(gaps)) for gap in gaps)
    gap, best = min(zip(gaps, rows, strict=True), key=lambda pair: pair[0].value)
    harms = all(above(gap) for gap in gaps)
    lacking = _unswept(influences, rows, start) if harms else ""
    text = f"FID {with_error(best, FID)} at {turned(best)}, {shift(gap)} than {_without(unguided, best)}{lacking}"
    return Finding(of, decided(holds=helps, fails=harms and not lacking), text, (gap,))


def _without(unguided: Row, guided: Row) -> str:
    """What a guided row is held against; of another network, the branch that it guides not, by name."""
    if unguided["w"] != 0:
        return f"at w {unguided['w']:g}"
    return "without" if unguided["on"] == guided["on"] else f"that of the {unguided['on']} model without guidance"


def _unswept(influences: Influences, rows: Sequence[Row], start: float) -> str:
    """Where the rows may have missed a minimum, or nothing."""
    first, last = rows[0], rows[-1]
    if first["w"] - start > STEP:
        return f"; not swept: a w in ({start:g}, {start + FINE:g}]"
    falls = len(rows) > 1 and lowest(rows) is last and below(compare(influences, last, rows[-2], "fid"))
    return f"; not swept: a w above {last['w']:g}, where FID still falls" if falls else ""


def trade_off(
    influences: Influences, of: str, rows: Sequence[Row], unguided: Row | None, *, start: float = 0.0
) -> Finding:
    """Whether FID improves on the unguided one's and rises afterwards, while the Inception Score rises.

    Where the rows have no w = 0 of their own, the unguided row is to be the first of them or stands for itself. At
    `start` there is no guidance.
    """
    guided = [row for row in rows if row["w"] > 0]
    parts = [
        improves(influences, of, guided, unguided, start=start),
        fid_rises(influences, of, rows),
        is_rises(influences, of, rows),
    ]
    names = ("FID improves", "FID rises afterwards", "IS rises")
    text = "; ".join(f"{name}: {part.outcome}, {part.text}" for name, part in zip(names, parts, strict=True))
    differences = tuple(one for part in parts for one in part.differences)
    swept = any(part.swept for part in parts)
    return Finding(of, together(part.outcome for part in parts), text, differences, swept)


def _nearest(rows: Sequence[Row], gaps: Sequence[Difference]) -> str:
    """The distance to w = 0 and to the nearest larger w."""
    larger = [(gap, row) for gap, row in zip(gaps, rows, strict=True) if row["w"] > 0]
    at_zero = next((gap, row) for gap, row in zip(gaps, rows, strict=True) if row["w"] == 0)
    nearest = [at_zero, min(larger, key=lambda pair: pair[0].value)]
    return ", ".join(f"w {row['w']:g} is {shift(gap)}" for gap, row in nearest)


def _not_higher(rows: Sequence[Row], gaps: Sequence[Difference], looks: int) -> str:
    """Which w are not told to be above, and of which it is not known how sure their difference is."""
    pairs = list(zip(gaps, rows, strict=True))
    unsure = [f"{row['w']:g}" for gap, row in pairs if np.isnan(gap.se)]
    open_ = [f"{row['w']:g}" for gap, row in pairs if not np.isnan(gap.se) and not above(gap, looks=looks)]
    words = f"; w {joined(open_)} not told to be higher" if open_ else ""
    return f"{words}; the error of w {joined(unsure)} is not known" if unsure and len(unsure) < len(gaps) else words


def _falls(falls: Sequence[tuple[Difference, Row, Row]], how: str) -> str:
    """The falls that there are: `falls from w 3 to w 4 by ... (told apart)`."""
    real = [(fall, top, row) for fall, top, row in falls if fall.value < 0]
    words = [f"from w {top['w']:g} to w {row['w']:g} {shift(fall)}" for fall, top, row in real]
    return f"{joined(words)}, {how}" if words else "no fall"
