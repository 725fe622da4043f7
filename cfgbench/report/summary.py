"""A line a curve: its best FID, what cannot be told from it, and what guidance gained."""

from collections.abc import Iterator, Sequence

from cfgbench.errors import counted
from cfgbench.report.rows.best import lowest
from cfgbench.report.rows.differences import Difference, compare
from cfgbench.report.rows.seeds import mean_phrase, measured, seed_of
from cfgbench.report.rows.slice import Slice
from cfgbench.report.rows.systems import DEFAULTS, UNTURNED, turned
from cfgbench.report.words import FID, digits, extractor_name, joined, named, number, plus_minus, with_error
from cfgbench.sweep.results.influences import Influences
from cfgbench.sweep.results.row import Row


def summary(influences: Influences, parts: Sequence[Slice]) -> list[str]:
    """`p_uncond 0.1: best FID 0.334 ± 0.012 at w 0.7 (scale 1.7); w 0.6 and 0.8 cannot be told from it; ...`

    Different protocols have lines of their own.
    """
    return [
        f"{place}: {_line(influences, curve)} ({extractor_name(str(curve[0]['features_id']))} features)"
        for part in parts
        for place, curve in _curves(part)
    ]


def _curves(part: Slice) -> Iterator[tuple[str, list[Row]]]:
    for value, curve in part.curves(FID):
        place = named(part.series, value) + (f", {part.differs}" if part.differs else "")
        rows = [part.records[index] for index in curve.index]
        if not part.marks:
            yield place, rows
            continue
        for mark in dict.fromkeys(row["mark"] for row in rows):
            yield f"{place} [{mark}]", [row for row in rows if row["mark"] == mark]


def _line(influences: Influences, curve: Sequence[Row]) -> str:
    best = lowest(curve)
    parts = [f"best FID {with_error(best, FID)} at {turned(best)}{_of_seeds(best)}"]
    others = {row["at"]: compare(influences, row, best, "fid") for row in curve if row["at"] != best["at"]}
    unlike = [row["at"] for row in curve if row["other_seeds"] and row["at"] in others and not best["other_seeds"]]
    compared = {at: difference for at, difference in others.items() if at not in unlike}
    parts += _alike(compared, best["knob"], every=not unlike)
    parts += [f"{_ats(unlike, best['knob'])} {'has' if len(unlike) == 1 else 'have'} other seeds"] if unlike else []
    free = UNTURNED[best["knob"]]
    if free in others:
        unguided, difference = next(row for row in curve if row["at"] == free), others[free]
        apart = f", difference {plus_minus(difference.value, difference.se)} ({_how(difference)})"
        apart = apart if difference.told_apart is not None else ""
        seeds, of_best = (len(measured(row["members"], "fid")) for row in (unguided, best))
        other = f" ({counted(seeds, 'seed')})" if seeds != of_best else ""
        branch = "" if unguided["on"] == DEFAULTS["on"] else f" of the {unguided['on']} model"
        parts.append(f"{with_error(unguided, FID)}{branch} without guidance{other}{apart}")
    return "; ".join(parts)


def _alike(others: dict[float, Difference], knob: str, *, every: bool) -> list[str]:
    """Which w (or temperatures) are within chance of the best, which was chosen among all of them, and of which it is
    not known; nothing where no error is known. `every` says whether there are no more on the curve."""
    alike = [w for w, one in others.items() if one.value == 0 or abs(one.value) < one.reach(len(others))]
    unsure = [w for w, one in others.items() if one.told_apart is None and w not in alike]
    if len(unsure) == len(others):
        return []
    unknown = [f"the error of {_ats(unsure, knob)} is not known"] if unsure else []
    unpaired = [w for w in alike if not others[w].paired]
    if alike:
        how = "" if not unpaired else " (unpaired)" if unpaired == alike else f" (unpaired: {_ats(unpaired, knob)})"
        return [f"{_ats(alike, knob)} cannot be told from it{how}", *unknown]
    unpaired = [w for w, one in others.items() if not one.paired and w not in unsure]
    whole = f"every other {knob}" if every and not unsure else f"every {knob} that compares"
    return [f"{whole} can be told from it" + (" (unpaired)" if unpaired else ""), *unknown]


def _ats(ats: Sequence[float], knob: str) -> str:
    return f"{knob} {joined([f'{at:g}' for at in sorted(ats)])}"


def _of_seeds(row: Row) -> str:
    seeds = [seed_of(member) for member in measured(row["members"], "fid")]
    if len(seeds) < 2:
        return ", of one seed" if row["asked_seeds"] else ""
    return f", {mean_phrase(seeds)} (minimum {row['fid_min']:.{digits(number(row, 'fid_se'))}f})"


def _how(difference: Difference) -> str:
    return "paired" if difference.paired else "unpaired"
