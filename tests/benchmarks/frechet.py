"""The Frechet distance of two Gaussians in 2048 dimensions, from the same statistics."""

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from timing import Contestant, Setup, in_turn, relative, table

from cfgbench.evaluation.metrics import frechet_distance
from cfgbench.evaluation.statistics import Moments


@dataclass(frozen=True)
class Pair:
    """The statistics of two sets, as we keep them and as the peers do (mu, sigma in float64)."""

    ours: tuple[Moments, Moments]
    theirs: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def run(setup: Setup) -> Iterator[str]:
    """Full rank, fewer samples than dimensions, and fewer in both sets."""
    d, many, few = (256, 700, 100) if setup.quick else (2048, 5000, 1000)
    yield _table(f"Frechet distance, {d} dimensions, full rank ({many:,} each)", d, many, many, setup)
    yield _table(f"Frechet distance, {d} dimensions, {few:,} samples, reference of {many:,}", d, few, many, setup)
    yield _table(f"Frechet distance, {d} dimensions, {few:,} in both sets", d, few, few, setup)


def _table(title: str, d: int, n_a: int, n_b: int, setup: Setup) -> str:
    pair = _pair(features(0, n_a, d), features(1, n_b, d))
    contestants = [Contestant("cfgbench", lambda: lambda: frechet_distance(*pair.ours), ours=True)]
    for name, make in PEERS.items():
        contestants.append(Contestant(name, lambda make=make: quietly(make(pair, setup))))
    found = in_turn(contestants, setup)
    agreed = {one.name: relative(one.result, found[0].result) for one in found if one.seconds}
    notes = ["torchmetrics is its `_compute_fid` in float64, on the device; the others are the processor's."]
    return table(title, found, agreed=agreed, notes=notes)


def features(seed: int, n: int, d: int) -> np.ndarray:
    """n correlated vectors [n, d]: random factors of falling strength, as an Inception network's features have them.

    Sets of other seeds have another mean, and factors that are partly the same."""
    shared, own = np.random.default_rng(100), np.random.default_rng(seed)
    strength = np.arange(1, d + 1) ** -0.5
    factors = (shared.standard_normal((d, d)) + 0.3 * own.standard_normal((d, d))) * strength[:, None]
    return own.standard_normal((n, d)) @ factors / 10 + 0.05 * own.standard_normal(d)


def _pair(a: np.ndarray, b: np.ndarray) -> Pair:
    moments = Moments.of(torch.from_numpy(a)), Moments.of(torch.from_numpy(b))
    return Pair(moments, (a.mean(axis=0), np.cov(a, rowvar=False), b.mean(axis=0), np.cov(b, rowvar=False)))


def quietly(work: Callable[[], Any]) -> Callable[[], Any]:
    """The work without its warnings and prints, of which there is one a round."""

    def inner() -> Any:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            return work()

    return inner


def _pytorch_fid(pair: Pair, setup: Setup) -> Callable[[], Any]:
    from pytorch_fid.fid_score import calculate_frechet_distance

    return lambda: calculate_frechet_distance(*pair.theirs)


def _clean_fid(pair: Pair, setup: Setup) -> Callable[[], Any]:
    from cleanfid.fid import frechet_distance as distance

    return lambda: distance(*pair.theirs)


def _torch_fidelity(pair: Pair, setup: Setup) -> Callable[[], Any]:
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    mu_a, sigma_a, mu_b, sigma_b = pair.theirs
    a, b = {"mu": mu_a, "sigma": sigma_a}, {"mu": mu_b, "sigma": sigma_b}
    return lambda: fid_statistics_to_metric(a, b, verbose=False)[KEY_METRIC_FID]


def _torchmetrics(pair: Pair, setup: Setup) -> Callable[[], Any]:
    from torchmetrics.image.fid import _compute_fid

    theirs = [torch.from_numpy(array).to(setup.device) for array in pair.theirs]
    return lambda: _compute_fid(*theirs).item()


PEERS: dict[str, Callable[[Pair, Setup], Callable[[], Any]]] = {
    "pytorch-fid": _pytorch_fid,
    "clean-fid": _clean_fid,
    "torch-fidelity": _torch_fidelity,
    "torchmetrics": _torchmetrics,
}
