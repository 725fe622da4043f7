r"""What guidance is said to sample from, and what it samples from, where both can be computed (paper, figure 2).

A guided score is that of p(z | c) p(c | z)^w at each noise level, but this is not the law that arises from clean
p(x | c) p(c | x)^w by noising: sampled images follow another law (Bradley & Nakkiran 2024). Here is by how much.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.special import logsumexp

from cfgbench.data import Mixture
from cfgbench.diffusion.guidance import cfg
from cfgbench.diffusion.sampler import SAMPLERS, sample
from cfgbench.diffusion.schedule import sampling_log_snrs
from cfgbench.diffusion.streams import noise
from cfgbench.evaluation.metrics import frechet_distance
from cfgbench.evaluation.statistics import Moments
from cfgbench.models.gaussians import ExactDenoiser, log_likelihood
from cfgbench.progress import Progress, silent

WS = 0.0, 1.0, 2.0, 4.0
"""The paper does not say which w its panels have."""
EDGE, CELLS = 1.1, 440
"""Densities stand on square cells of [-EDGE, EDGE]^2, so many a side."""
BIN = 20
"""Cells of a side of the squares in which points are counted."""
NODES = 200
"""Of the Gauss-Legendre rule, a side, by which the integral on the cells is checked."""
POINTS, T, V, SEED = 30_000, 256, 0.75, 0
"""How points are drawn. At this v the variance's errors of first order in 1 / T, of opposite sign at v = 0 and v = 1,
nearly cancel: without guidance it is right to 0.03 %."""
DRAWS = 20
"""How often as many points are drawn from the density itself, to see what chance alone does."""


class Density:
    """p(x | c) p(c | x)^w of each class of a mixture in the plane, normalised numerically."""

    def __init__(self, mixture: Mixture, w: float) -> None:
        assert mixture.dimensions == 2
        self.mixture, self.w = mixture, w
        middles = (np.arange(CELLS) + 0.5) * self.side - EDGE
        self.places = _product(middles)
        """The middles of the cells [n, 2], x before y."""
        log_p = self._log(self.places)
        self.log_whole = logsumexp(log_p, axis=0) + 2 * np.log(self.side)
        self.cells = np.exp(log_p - self.log_whole).T.reshape(-1, CELLS, CELLS)
        """The density at the middle of each cell, [K, x, y]."""

    side = 2 * EDGE / CELLS

    def at(self, x: np.ndarray) -> np.ndarray:
        """The density of each class at points [n, 2]: [n, K]."""
        return np.exp(self._log(x) - self.log_whole)

    @cached_property
    def integrals(self) -> np.ndarray:
        """Of each class's density, by another rule than the one that normalised it: 1 but for the errors of both."""
        nodes, weights = np.polynomial.legendre.leggauss(NODES)
        return EDGE**2 * (np.outer(weights, weights).ravel() @ self.at(_product(EDGE * nodes)))

    def squares(self, c: int) -> np.ndarray:
        """The probability of each square of BIN x BIN cells, [x, y]."""
        count = CELLS // BIN
        return self._masses(c).reshape(count, BIN, count, BIN).sum(axis=(1, 3))

    def draws(self, c: int, n: int, time: int) -> np.ndarray:
        """Points [n, 2] of a class's density, each in the middle of its cell; others each `time`."""
        generator = np.random.Generator(np.random.Philox(key=[c, time]))
        below = np.cumsum(self._masses(c))
        return self.places[np.searchsorted(below, below[-1] * generator.random(n), side="right")]

    def moments(self, c: int) -> Moments:
        """Mean and covariance of a class's density."""
        weights = self._masses(c)
        mean = weights @ self.places
        centred = self.places - mean
        return Moments.from_covariance(torch.from_numpy(mean), torch.from_numpy((weights * centred.T) @ centred))

    def level(self, c: int, share: float) -> float:
        """The density on the line around the smallest region that holds this share of a class."""
        falling = np.sort(self.cells[c].ravel())[::-1]
        return float(falling[np.searchsorted(np.cumsum(falling), share * falling.sum())])

    def _masses(self, c: int) -> np.ndarray:
        """The probability of each cell, in the order of `places`."""
        return self.cells[c].ravel() / self.cells[c].sum()

    def _log(self, x: np.ndarray) -> np.ndarray:
        log_p = log_likelihood(self.mixture, torch.device("cpu"))(torch.from_numpy(x))
        return (log_p + self.w * log_p.log_softmax(dim=1)).numpy()


@dataclass(frozen=True)
class Deviation:
    """How far a class's points are from its density, and what as many points of the density itself give (mean and
    standard deviation): the Frechet distance, and the total variation of their shares of the squares."""

    c: int
    distance: float
    variation: float
    distance_by_chance: tuple[float, float]
    variation_by_chance: tuple[float, float]
    of_density: Moments
    of_points: Moments


@dataclass(frozen=True)
class StrengthResult:
    """A strength of guidance: the density, points [n, 2] that the sampler gave with the class of each, deviations."""

    w: float
    density: Density
    points: np.ndarray
    labels: np.ndarray
    deviations: Sequence[Deviation]

    @property
    def variations(self) -> tuple[float, float]:
        """(total variation, what chance alone does), means of the classes."""
        pairs = [(deviation.variation, deviation.variation_by_chance[0]) for deviation in self.deviations]
        apart, chance = np.mean(pairs, axis=0)
        return float(apart), float(chance)


def run_experiment(mixture: Mixture, *, device: torch.device, progress: Progress = silent) -> list[StrengthResult]:
    """Each w of WS."""
    results = []
    for number, w in enumerate(WS):
        progress("points and densities of figure 2", number, len(WS), "")
        density, labels = Density(mixture, w), np.arange(POINTS) % mixture.num_classes
        points = sampled(mixture, w, device)
        deviations = [_deviation(density, points[labels == c], c) for c in range(mixture.num_classes)]
        results.append(StrengthResult(w, density, points, labels, deviations))
    progress("points and densities of figure 2", len(WS), len(WS), "")
    return results


def sampled(mixture: Mixture, w: float, device: torch.device) -> np.ndarray:
    """Points [n, 2] of the sampler under classifier-free guidance of the exact denoiser, point i of class i % K."""
    indices = torch.arange(POINTS, device=device)
    rule = cfg(ExactDenoiser(mixture, device), indices % mixture.num_classes, w)
    stream = lambda t: noise(SEED, indices, t, (1, 1, 2))  # noqa: E731
    x = sample(rule, sampling_log_snrs(T), SAMPLERS["ancestral"](V, 1.0), stream, clip=False)
    return x.flatten(1).double().cpu().numpy()


def _deviation(density: Density, points: np.ndarray, c: int) -> Deviation:
    exact, masses = density.moments(c), density.squares(c)
    distance, variation = distances(points, exact, masses)
    chance = np.array([distances(density.draws(c, len(points), time), exact, masses) for time in range(DRAWS)])
    by_chance = zip(chance.mean(axis=0).tolist(), chance.std(axis=0, ddof=1).tolist(), strict=True)
    return Deviation(c, distance, variation, *by_chance, exact, Moments.of(torch.from_numpy(points)))


def distances(points: np.ndarray, exact: Moments, masses: np.ndarray) -> tuple[float, float]:
    """(Frechet distance, total variation in [0, 1]) of points from a density with these moments and probabilities of
    squares; points outside of all squares count in full."""
    edges = np.linspace(-EDGE, EDGE, len(masses) + 1)
    counts, *_ = np.histogram2d(*points.T, bins=[edges, edges])
    shares = counts / len(points)
    variation = (np.abs(shares - masses).sum() + 1 - shares.sum()) / 2
    return frechet_distance(Moments.of(torch.from_numpy(points)), exact), float(variation)


def _product(line: np.ndarray) -> np.ndarray:
    """All pairs of these coordinates, [n * n, 2]."""
    return np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)
