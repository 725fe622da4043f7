"""Whether two cells can be told apart: their difference in a metric and its standard error.

Cells with the same seed share the noise of every image, and so most of their error; the influences of an image on both
(see evaluation.standard_error) take out what is shared. Several seeds are compared seed by seed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from cfgbench.errors import UserError
from cfgbench.evaluation.columns import ERROR_OF
from cfgbench.evaluation.standard_error import standard_error
from cfgbench.report.rows.doubt import Doubt, apart, of_images, together
from cfgbench.report.rows.seeds import Seed, alike_network, alike_noise, mean_of, mean_over, seed_of
from cfgbench.report.words import known, number
from cfgbench.sweep.results.influences import Influences
from cfgbench.sweep.results.row import Row

_PAIRS = ("samples", "dataset", "features_id", "reference_id", "protocol")


@dataclass(frozen=True)
class Difference:
    """a - b of a metric. `se` is NaN where no error is known; `paired` says whether shared noise was taken out.

    `doubt` is what the error is made of, and how well that is known; where it is not given, `se` is of images.
    """

    value: float
    se: float
    paired: bool
    doubt: Doubt | None = field(default=None, compare=False)

    def reach(self, looks: int = 1) -> float:
        """How far chance goes in one direction (see Doubt.reach); NaN where no error is known."""
        if np.isnan(self.se):
            return np.nan
        return (of_images(self.se) if self.doubt is None else self.doubt).reach(looks)

    @property
    def told_apart(self) -> bool | None:
        """|value| >= 1.96 se, or more where few seeds tell of it; None where the error is not known."""
        return None if np.isnan(self.se) else bool(self.value != 0 and abs(self.value) >= self.reach())


class Term(NamedTuple):
    """One summand of a combination: coefficient * what the row has in the column `metric`."""

    coefficient: float
    row: Row
    metric: str


def compare(influences: Influences, a: Row, b: Row, metric: str) -> Difference:
    """a - b in the column `metric` (fid, is_mean, fid_infinity).

    The rows are a sweep's own, or means over seeds (see averages). Those of two or more seeds that both have, under the
    same protocol, compare seed by seed: the mean of the differences (see seeds.mean_over). Single rows are paired image
    by image where they agree in the seed of their noise, samples, data set, features, reference and protocol, and have
    influences of the same images. All else is unpaired: sqrt(se_a^2 + se_b^2). Of a row of one training beside one of
    another, or of several, the error is not known. Raises UserError for influences that are not finite.
    """
    return combine(influences, [Term(1.0, a, metric), Term(-1.0, b, metric)])


def combine(influences: Influences, terms: Sequence[Term]) -> Difference:
    """The sum of coefficient * metric over the terms, and its error as in `compare`: seed by seed, image by image, or
    unpaired.

    Unpaired, terms of one metric and sign may still share their images, so that their errors add up; the errors of
    different metrics and signs are taken as independent, but for those of one row whose seeds or influences are known.
    """
    members = [_members(term.row) for term in terms]
    if all(len(held) == 1 for held in members):  # a mean over one seed has no error over seeds, but its images have
        rows = [row for held in members for row in held.values()]
        single = [term._replace(row=row) for term, row in zip(terms, rows, strict=True)]
        return _of_few(members, _single(influences, single))

    of_seeds = _by_seed(terms, members) if _same_measure(terms) else {}
    if of_seeds and any(len(held) == 1 for held in members):  # then that seed is all that can be compared
        return _of_few(members, _single(influences, *of_seeds.values()))
    if found := _over_seeds(influences, of_seeds):
        return _of_few([*members, of_seeds], found)
    return _of_few(members, _unpaired(influences, terms))


def _by_seed(terms: Sequence[Term], members: Sequence[Mapping[Seed, Row]]) -> dict[Seed, list[Term]]:
    """The combination of each seed that all of the terms have, with numbers."""
    shared = [seed for seed in members[0] if all(seed in held for held in members)]
    found = {
        seed: [term._replace(row=held[seed]) for term, held in zip(terms, members, strict=True)] for seed in shared
    }
    return {seed: of_seed for seed, of_seed in found.items() if not np.isnan(_total(of_seed))}


def _over_seeds(influences: Influences, of_seeds: Mapping[Seed, Sequence[Term]]) -> Difference | None:
    """The mean of the combinations, one a seed, with the spread over seeds as its error, or that over images where the
    network is one and its influences are there; None for less than two."""
    if len(of_seeds) < 2:
        return None
    seeds, combinations = list(of_seeds), list(of_seeds.values())
    images = np.nan
    if alike_noise(seeds):
        images = _over_images(influences, combinations)
    elif alike_network(seeds):
        images = _over_draws(influences, combinations)
    mean = mean_over(seeds, np.array(list(map(_total, combinations))), images)
    unknown = alike_noise(seeds) and np.isnan(images)
    return Difference(mean.value, np.nan if unknown else mean.se, True, mean.doubt)


def _over_draws(influences: Influences, of_seeds: Sequence[Sequence[Term]]) -> float:
    """The variance over images of the mean of combinations, each of images of its own; NaN where influences are
    missing."""
    found = [_pulls(influences, terms) for terms in of_seeds]
    if any(one is None for one in found):
        return np.nan
    return float(np.sum([standard_error(*one) ** 2 for one in found])) / len(found) ** 2


def _over_images(influences: Influences, of_seeds: Sequence[Sequence[Term]]) -> float:
    """The variance over images of the mean of combinations, one a training, whose images have the same noise.

    What the images of each training have of their own is in the spread over trainings already, and is left out. Where
    influences are missing, the mean of the trainings' own variances: no less than that of their mean. NaN where those
    are not known either.
    """
    found = [_pulls(influences, terms) for terms in of_seeds]
    if any(one is None for one in found):
        single = [_unpaired(influences, terms).se for terms in of_seeds]
        known_ones = [se for se in single if not np.isnan(se)]
        return float(np.mean(np.square(known_ones))) if known_ones else np.nan
    pulls, labels = [pulls for pulls, _ in found], found[0][1]
    together = standard_error(np.mean(pulls, axis=0), labels) ** 2
    each = float(np.mean([standard_error(one, labels) ** 2 for one in pulls]))
    return max(0.0, together - max(0.0, each - together) / (len(pulls) - 1))


def _of_few(members: Sequence[Iterable[Seed]], found: Difference) -> Difference:
    """The difference, without an error where one of the rows, or the seeds by which it was found, have one training and
    another has others: how far trainings lie apart is in the error of several only, and of the one it is not known."""
    trainings = [{seed.training for seed in held} for held in members]
    one = any(len(held) == 1 for held in trainings)
    return replace(found, se=np.nan) if one and len(set.union(*trainings)) > 1 else found


def _members(row: Row) -> dict[Seed, Row]:
    """seed -> the row of that seed, of those that have numbers; a row that is no mean is its own."""
    members = row.get("members")
    found = members if isinstance(members, tuple) else (row,)
    return {seed_of(member): member for member in found if member["status"] == "ok"}


def _total(terms: Iterable[Term]) -> float:
    return sum(term.coefficient * number(term.row, term.metric) for term in terms)


def _single(influences: Influences, terms: Sequence[Term]) -> Difference:
    same_noise = len({seed_of(term.row).sampling for term in terms}) == 1
    pulls = _pulls(influences, terms) if same_noise and _same_measure(terms) else None
    if pulls is None:
        return _unpaired(influences, terms)
    return Difference(_total(terms), standard_error(*pulls), True)


def _unpaired(influences: Influences, terms: Sequence[Term]) -> Difference:
    rows: dict[int, list[Term]] = {}
    for term in terms:
        rows.setdefault(id(term.row), []).append(term)
    errors: dict[tuple[str, bool], float] = {}
    doubts: dict[tuple[str, bool], list[Doubt]] = {}
    for of_row in rows.values():
        for (metric, positive), se, doubt in _of_row(influences, of_row):
            side = metric, positive
            errors[side] = errors.get(side, 0.0) + se
            doubts.setdefault(side, []).append(doubt)
    se = float(np.sqrt(sum(error**2 for error in errors.values())))
    return Difference(_total(terms), se, False, apart([together(of_side) for of_side in doubts.values()]))


def _of_row(influences: Influences, terms: Sequence[Term]) -> Iterator[tuple[tuple[str, bool], float, Doubt]]:
    """(metric and sign, error, what it is made of) of each of one row's terms; of several metrics as of one, the
    first, where the row's seeds or its images' influences tell how they err together: an image that raises FID mostly
    lowers IS."""
    if len(terms) > 1 and (joint := _joint(influences, terms)) is not None:
        yield (terms[0].metric, terms[0].coefficient > 0), *joint
        return
    for coefficient, row, metric in terms:
        doubt = _doubt(row, metric)
        se = np.nan if np.isnan(doubt.images.variance) else number(row, ERROR_OF[metric])
        yield (metric, coefficient > 0), abs(coefficient) * se, doubt.times(coefficient)


def _joint(influences: Influences, terms: Sequence[Term]) -> tuple[float, Doubt] | None:
    """The error of the sum of one row's terms, and what it is made of; None where nothing tells."""
    members = _members(terms[0].row)
    over_seeds = _over_seeds(influences, _by_seed(terms, [members] * len(terms)))
    if over_seeds is not None and over_seeds.doubt is not None:
        return over_seeds.se, over_seeds.doubt
    if len(members) == 1 and "cell_id" in terms[0].row and (pulls := _pulls(influences, terms)) is not None:
        se = standard_error(*pulls)
        return se, of_images(se)
    return None


def _doubt(row: Row, metric: str) -> Doubt:
    """What the row's own error is made of."""
    members = list(_members(row).values())
    return mean_of(members, metric).doubt if len(members) > 1 else of_images(number(row, ERROR_OF[metric]))


def _same_measure(terms: Sequence[Term]) -> bool:
    """Whether the images were as many, of the same data, and measured alike."""
    first, *others = (term.row for term in terms)
    return all(known(row.get(key)) == known(first.get(key)) for row in others for key in _PAIRS)


def _pulls(influences: Influences, terms: Sequence[Term]) -> tuple[np.ndarray, np.ndarray] | None:
    """(the images' pull on the combination, their classes), or None where they do not belong to the same images."""
    held = [influences.get(str(term.row["cell_id"])) for term in terms]
    if any(key not in one for one, term in zip(held, terms, strict=True) for key in (term.metric, "label")):
        return None
    if not all(np.array_equal(one["label"], held[0]["label"]) for one in held[1:]):
        return None
    pulls = np.sum([term.coefficient * one[term.metric] for one, term in zip(held, terms, strict=True)], axis=0)
    whole = bool(np.isfinite(pulls).all())
    for one, term in zip(held, terms, strict=True):
        if not whole and not np.isfinite(one[term.metric]).all():
            path = influences.path(str(term.row["cell_id"]))
            raise UserError(f"{path}: {term.metric} is not finite; delete it to compare that cell without pairing")
    return pulls, held[0]["label"]
