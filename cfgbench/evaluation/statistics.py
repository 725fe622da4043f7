"""Statistics that merge: any split of the images, in any order, on any machine, gives the whole to rounding."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

LARGEST_DIMENSION = 8192
"""Features of more dimensions are none that we know: a file that announces them is damaged, or worse."""
LARGEST_NUMBER = 1e100
"""Of published statistics: the distance multiplies two of them."""
ROUNDING = 1e-6
"""Negative variances, relative to the largest, that float32 may have made of none."""


@dataclass(frozen=True)
class Moments:
    """Count, mean [d] and scatter [d, d] (the sum of outer products about the mean) of features, in float64."""

    n: int
    mean: Tensor
    scatter: Tensor

    @staticmethod
    def empty() -> "Moments":
        """No features yet: the neutral element of `merge`, of any dimension."""
        return Moments(0, torch.zeros(0, dtype=torch.float64), torch.zeros(0, 0, dtype=torch.float64))

    @staticmethod
    def of(features: Float[Tensor, "n d"]) -> "Moments":
        """The moments of these feature vectors. Raises ValueError where a number is not finite."""
        running = RunningMoments()
        running.add(features)
        return running.moments

    def merge(self, other: "Moments") -> "Moments":
        """The moments of both sets together (Chan, Golub & LeVeque 1979). Raises ValueError for unequal dimensions."""
        if self.n == 0 or other.n == 0:
            return other if self.n == 0 else self
        _check_dimensions(self.mean, other.mean)
        n = self.n + other.n
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.n / n)
        between = torch.outer(delta, delta) * (self.n * other.n / n)
        return Moments(n, mean, self.scatter + other.scatter + between)

    @property
    def freedom(self) -> int:
        """The covariance's degrees of freedom, n - 1. Raises ValueError for fewer than two vectors."""
        if self.n < 2:
            raise ValueError(f"a covariance needs at least 2 images, not {self.n}")
        return self.n - 1

    @property
    def covariance(self) -> Float[Tensor, "d d"]:
        """The unbiased covariance, scatter / (n - 1). Raises ValueError for fewer than two vectors."""
        return self.scatter / self.freedom

    @staticmethod
    def from_covariance(mean: Tensor, covariance: Tensor) -> "Moments":
        """The moments of published statistics, mean [d] and covariance [d, d] of an unknown number of images.

        The number is then d + 2, the least that could give full rank.
        Raises ValueError for shapes that do not fit, and for what is no covariance.
        """
        d = mean.numel()
        if mean.ndim != 1 or not 1 <= d <= LARGEST_DIMENSION or covariance.shape != (d, d):
            raise ValueError(f"mu {tuple(mean.shape)} and sigma {tuple(covariance.shape)} do not fit")
        mean, covariance = mean.double(), covariance.double()
        if not (mean.isfinite().all() and covariance.isfinite().all()):
            raise ValueError("mu or sigma is not finite")
        if max(mean.abs().max(), covariance.abs().max()) > LARGEST_NUMBER:
            raise ValueError(f"mu or sigma has numbers beyond {LARGEST_NUMBER:g}")
        if (covariance - covariance.T).abs().max() > 1e-5 * covariance.diagonal().abs().max():
            raise ValueError("sigma is not symmetric")
        if covariance.diagonal().min() < 0:
            raise ValueError("sigma has negative variances")
        covariance = (covariance + covariance.T) / 2
        if not _is_covariance(covariance):
            raise ValueError("sigma has negative variances in some direction")
        return Moments(d + 2, mean, covariance * (d + 1))


class RunningMoments:
    """Moments that take in features block by block, on the features' device: `merge` without a matrix for each. They
    go on from those that they begin with, to the same bits as if they had not stopped there."""

    def __init__(self, begun: Moments | None = None) -> None:
        self._held = Moments.empty() if begun is None else Moments(begun.n, begun.mean, begun.scatter.clone())

    def add(self, features: Float[Tensor, "n d"]) -> None:
        """Takes in these feature vectors. Raises ValueError for unequal dimensions, and for what is not finite."""
        check_finite("features", features)
        count = len(features)
        if count == 0:
            return
        features = features.double()
        mean = features.mean(dim=0)
        held = self._held if self._held.n else Moments(0, torch.zeros_like(mean), mean.new_zeros(len(mean), len(mean)))
        held = Moments(held.n, held.mean.to(mean), held.scatter.to(mean))  # what is begun with is on the processor
        _check_dimensions(held.mean, mean)
        n, delta = held.n + count, mean - held.mean
        rows = torch.cat([features - mean, delta[None] * math.sqrt(held.n * count / n)])
        self._held = Moments(n, held.mean + delta * (count / n), held.scatter.addmm_(rows.T, rows))

    @property
    def moments(self) -> Moments:
        """As they are now; what is taken in later does not change them."""
        held = self._held
        return Moments(held.n, held.mean.cpu(), held.scatter.to("cpu", copy=True))


def _check_dimensions(mean: Float[Tensor, "d"], other: Float[Tensor, "e"]) -> None:
    if mean.shape != other.shape:
        raise ValueError(f"features of {len(mean)} and of {len(other)} dimensions cannot be merged")


def _is_covariance(s: Float[Tensor, "d d"]) -> bool:
    """Whether no eigenvalue is below -ROUNDING |S|, where |S|, the root of the sum of their squares, stands for the
    largest: Cholesky tells it in a tenth of the time that eigenvalues take."""
    size = s.norm()
    shifted = s / size + ROUNDING * torch.eye(len(s), dtype=s.dtype)
    return bool(size == 0 or torch.linalg.cholesky_ex(shifted).info == 0)


@dataclass(frozen=True)
class Predictions:
    """What the Inception Score needs of a set of class probabilities p(y|x): n, sum p [k], sum of p log p."""

    n: int
    sum_p: Tensor
    sum_p_log_p: float

    @staticmethod
    def empty() -> "Predictions":
        """No predictions yet: the neutral element of `merge`, of any number of classes."""
        return Predictions(0, torch.zeros(0, dtype=torch.float64), 0.0)

    @staticmethod
    def of(logits: Float[Tensor, "n k"]) -> "Predictions":
        """From logits, through a softmax in float64. Raises ValueError where one is not finite."""
        check_finite("logits", logits)
        if len(logits) == 0:
            return Predictions.empty()
        log_p = logits.double().log_softmax(dim=1)
        p = log_p.exp()
        return Predictions(len(logits), p.sum(dim=0).cpu(), (p * log_p).sum().item())

    def merge(self, other: "Predictions") -> "Predictions":
        """The predictions of both sets together. Raises ValueError for unequal numbers of classes."""
        if self.n == 0 or other.n == 0:
            return other if self.n == 0 else self
        if self.sum_p.shape != other.sum_p.shape:
            raise ValueError(f"predictions of {len(self.sum_p)} and of {len(other.sum_p)} classes cannot be merged")
        return Predictions(self.n + other.n, self.sum_p + other.sum_p, self.sum_p_log_p + other.sum_p_log_p)


def check_finite(name: str, values: Float[Tensor, "n k"]) -> None:
    """Raises ValueError where a number of these features or logits, a row an image, is not finite."""
    if values.numel() and not torch.stack(values.aminmax()).isfinite().all():  # the fastest that sees all of them
        bad = int((~values.isfinite()).any(dim=1).sum())
        raise ValueError(f"{name} that are not finite, in {bad} of {len(values)} images")
