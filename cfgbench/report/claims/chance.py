"""What chance allows: when a difference is taken for one, and how a text tells it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cfgbench.report.rows.differences import Difference
from cfgbench.report.words import plus_minus


def above(difference: Difference, over: float = 0.0, *, looks: int = 1) -> bool:
    """Whether the difference is told to be more than `over`; not where its error is not known."""
    excess = difference.value - over
    return bool(excess > 0 and excess >= difference.reach(looks))


def below(difference: Difference, under: float = 0.0, *, looks: int = 1) -> bool:
    """Whether it is told to be less than `under`."""
    return above(replace(difference, value=-difference.value), -under, looks=looks)


def part_of(value: float, whole: float) -> float:
    """value / whole; of nothing an infinite part, or none."""
    return value / whole if whole else np.copysign(np.inf, value) if value else 0.0


def weakest(differences: Sequence[Difference]) -> Difference:
    """The one that is nearest to zero as a part of what chance allows; one of unknown error where there is any."""

    def strength(one: Difference) -> float:
        enough = one.reach()
        return -1.0 if np.isnan(enough) else abs(one.value) / enough if enough else np.inf

    return min(differences, key=strength)


def shift(difference: Difference) -> str:
    """`0.25 ± 0.03 higher`; `no different` of the same images' numbers."""
    if difference.value == 0 and difference.se == 0:
        return "no different"
    return f"{plus_minus(abs(difference.value), difference.se)} {'higher' if difference.value >= 0 else 'lower'}"


def pairing(differences: Sequence[Difference]) -> str:
    """`paired`, `unpaired`, how many are which, and of how many no standard error is known."""
    known = [one for one in differences if not np.isnan(one.se)]
    if not known:
        return "no standard errors"
    paired = sum(one.paired for one in known)
    words = {0: "unpaired", len(known): "paired"}.get(paired, f"{paired} of {len(known)} paired")
    lacking = len(differences) - len(known)
    return f"{words}; {lacking} of {len(differences)} without a standard error" if lacking else words
