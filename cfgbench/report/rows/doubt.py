"""How sure a number is: what chance has a part in it, and how well each part is known."""

from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

SIGMAS = 1.96
"""Standard errors within which a difference is taken for chance: 95 % of those that are, where the error is known well
(see `sigmas`)."""


@lru_cache
def sigmas(looks: int = 1, freedom: float = np.inf) -> float:
    """Standard errors that chance passes in one direction as rarely, with `looks` differences and errors of so many
    degrees of freedom, as SIGMAS with one difference and a known error.

    Bonferroni: who looks at 13 differences for any that is large will find one. 1.96 for one, 2.89 for 13. Student's t:
    an error over few seeds is itself chance. 12.7 for two seeds, 4.3 for three, 2.8 for five.
    """
    normal = NormalDist()
    rare = normal.cdf(-SIGMAS) / looks
    if np.isinf(freedom):
        return -normal.inv_cdf(rare)
    from scipy.special import stdtrit  # a tenth of a second, which a report of single seeds need not wait

    return -float(stdtrit(freedom, rare))


class Part(NamedTuple):
    """A variance, and the degrees of freedom that it was found with; infinitely many where it is known."""

    variance: float = 0.0
    freedom: float = np.inf

    def times(self, factor: float) -> "Part":
        return Part(self.variance * factor**2, self.freedom)


class Doubt(NamedTuple):
    """What chance does to a number through its trainings, its draws of noise, and its images. The last is taken for
    known: images are many. NaN where a part is there and not known."""

    trainings: Part = Part()
    noise: Part = Part()
    images: Part = Part()

    def times(self, factor: float) -> "Doubt":
        """That of the number times `factor`."""
        return Doubt(*(part.times(factor) for part in self))

    def reach(self, looks: int = 1) -> float:
        """How far from the truth chance takes the number in one direction, as rarely as `sigmas` has it.

        Each part by its own degrees of freedom (Graybill & Wang 1980): as one error of Satterthwaite's, a small part
        known well would vouch for a large one that rests on two trainings.
        """
        return float(np.sqrt(sum(sigmas(looks, part.freedom) ** 2 * part.variance for part in self if part.variance)))


def of_images(se: float) -> Doubt:
    """That of a number with a standard error over its images."""
    return Doubt(images=Part(se**2))


def together(doubts: Sequence[Doubt]) -> Doubt:
    """That of a sum of numbers that may be wrong alike: their errors add up."""
    return Doubt(*map(_alike, zip(*doubts, strict=True)))


def apart(doubts: Sequence[Doubt]) -> Doubt:
    """That of a sum of independent numbers: variances add up, with degrees of freedom by Welch and Satterthwaite."""
    return Doubt(*map(_independent, zip(*doubts, strict=True)))


def _alike(parts: Sequence[Part]) -> Part:
    freedom = min((part.freedom for part in parts if part.variance), default=np.inf)
    return Part(sum(np.sqrt(part.variance) for part in parts) ** 2, freedom)


def _independent(parts: Sequence[Part]) -> Part:
    variance = sum(part.variance for part in parts)
    doubt = sum(part.variance**2 / part.freedom for part in parts)
    return Part(variance, variance**2 / doubt if doubt else np.inf)
