"""Whether two cells can be told apart: their difference in a metric and its standard error.

Cells with the same seed share the noise of every image, and so most of their error; the influences of an image on both
(see evaluation.standard_error) take out what is shared. Several seeds are compared seed by seed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cfgbench.errors import UserError
from cfgbench.evaluation.standard_error import paired_error
from cfgbench.report.columns import SAMPLING_SEEDS
from cfgbench.report.seeds import seed_of
from cfgbench.report.words import INFINITY, METRICS, known, number
from cfgbench.sweep.store import Store

SIGMAS = 1.96
"""Standard errors within which a difference is taken for chance: 95 % of those that are."""

_ERRORS = {metric.column: metric.se for metric in (*METRICS, INFINITY)}
_PAIRS = ("samples", "dataset", "features_id", "reference_id")


@dataclass(frozen=True)
class Difference:
    """a - b of a metric. `se` is NaN where no error is known; `paired` says whether shared noise was taken out."""

    value: float
    se: float
    paired: bool

    @property
    def told_apart(self) -> bool | None:
        """|value| >= 1.96 se; None where the error is not known."""
        return None if np.isnan(self.se) else bool(self.value != 0 and abs(self.value) >= SIGMAS * self.se)


def compare(store: Store | Path, a: Mapping[str, Any], b: Mapping[str, Any], metric: str) -> Difference:
    """a - b in the column `metric` (fid, is_mean, fid_infinity); `store` is the sweep's folder, where influences lie.

    The rows are the store's own, or means of `seeds.average`. Those of two or more seeds that both have, under the same
    protocol, compare seed by seed: mean of the differences, std / sqrt(k). Single rows are paired image by image
    where they agree in seed, samples, data set, features, reference and protocol, and have influences of the same
    images. All else is unpaired: sqrt(se_a^2 + se_b^2). Raises UserError for influences that are not finite.
    """
    ours, theirs = _members(a), _members(b)
    if len(ours) == len(theirs) == 1:  # a mean over one seed has no error over seeds, but its images have theirs
        return _single(store, *ours.values(), *theirs.values(), metric)
    shared = [seed for seed in ours if seed in theirs] if _same_measure(a, b) else []
    differences = np.array([number(ours[seed], metric) - number(theirs[seed], metric) for seed in shared])
    differences = differences[~np.isnan(differences)]
    if len(differences) < 2:
        return _unpaired(a, b, metric)
    return Difference(float(differences.mean()), float(differences.std(ddof=1) / np.sqrt(len(differences))), True)


def _members(row: Mapping[str, Any]) -> dict[tuple[Any, ...], Mapping[str, Any]]:
    """seed -> the row of that seed, of those that have numbers; a row that is no mean is its own."""
    members = row.get("members")
    found = members if isinstance(members, tuple) else (row,)
    return {seed_of(member): member for member in found if member["status"] == "ok"}


def _single(store: Store | Path, a: Mapping[str, Any], b: Mapping[str, Any], metric: str) -> Difference:
    same_noise = all(known(a.get(key)) == known(b.get(key)) for key in SAMPLING_SEEDS)
    pulls = _influences(store, a, b, metric) if same_noise and _same_measure(a, b) else None
    if pulls is None:
        return _unpaired(a, b, metric)
    return Difference(number(a, metric) - number(b, metric), paired_error(*pulls), True)


def _unpaired(a: Mapping[str, Any], b: Mapping[str, Any], metric: str) -> Difference:
    column = _ERRORS[metric]
    return Difference(
        number(a, metric) - number(b, metric), float(np.hypot(number(a, column), number(b, column))), False
    )


def _same_measure(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether the images were as many, of the same data, and measured alike; by the protocol's words where one of the
    rows is from before its hash was kept."""
    hashes = [known(row.get("protocol_id")) for row in (a, b)]
    protocol = "protocol" if None in hashes else "protocol_id"
    return all(known(a.get(key)) == known(b.get(key)) for key in (*_PAIRS, protocol))


def _influences(
    store: Store | Path, a: Mapping[str, Any], b: Mapping[str, Any], metric: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """(q of a, q of b, the images' classes), or None where they do not belong to the same images."""
    store = store if isinstance(store, Store) else Store(store)
    ours, theirs = (store.influences(str(row["cell_id"])) for row in (a, b))
    if any(key not in held for held in (ours, theirs) for key in (metric, "label")):
        return None
    if not np.array_equal(ours["label"], theirs["label"]):
        return None
    for row, held in ((a, ours), (b, theirs)):
        if not np.isfinite(held[metric]).all():
            path = store.influence(str(row["cell_id"]))
            raise UserError(f"{path}: {metric} is not finite; delete it to compare that cell without pairing")
    return ours[metric], theirs[metric], ours["label"]
