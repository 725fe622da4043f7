"""What chance allows: when a difference is taken for one, and how a text tells it."""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from cfgbench.report.comparisons import SIGMAS, Difference
from cfgbench.report.words import plus_minus

_NORMAL = NormalDist()


def sigmas(looks: int = 1) -> float:
    """Standard errors that chance passes in one direction as rarely with `looks` differences as SIGMAS with one.

    Bonferroni: who looks at 13 differences for any that is large will find one. 1.96 for one, 2.89 for 13.
    """
    return -_NORMAL.inv_cdf(_NORMAL.cdf(-SIGMAS) / looks)


def above(difference: Difference, over: float = 0.0, *, looks: int = 1) -> bool:
    """Whether the difference is told to be more than `over`; not where its error is not known."""
    excess = difference.value - over
    return bool(excess > 0 and excess >= sigmas(looks) * difference.se)


def below(difference: Difference, under: float = 0.0, *, looks: int = 1) -> bool:
    """Whether it is told to be less than `under`."""
    return above(Difference(-difference.value, difference.se, difference.paired), -under, looks=looks)


def weakest(differences: Sequence[Difference]) -> Difference:
    """The one that is the fewest standard errors from zero; one of unknown error where there is any."""
    return min(differences, key=lambda one: -1.0 if np.isnan(one.se) else abs(one.value) / one.se if one.se else np.inf)


def shift(difference: Difference) -> str:
    """`0.25 ± 0.03 higher`."""
    return f"{plus_minus(abs(difference.value), difference.se)} {'higher' if difference.value >= 0 else 'lower'}"


def pairing(differences: Sequence[Difference]) -> str:
    """`paired`, `unpaired`, how many are which, or that no standard error is known."""
    if any(np.isnan(one.se) for one in differences):
        return "no standard errors"
    paired = sum(one.paired for one in differences)
    words = {0: "unpaired", len(differences): "paired"}
    return words.get(paired, f"{paired} of {len(differences)} paired")
