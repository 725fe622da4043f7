"""Frechet distance and Inception Score, as functions of mergeable statistics."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cfgbench.evaluation.statistics import Moments, Predictions

ROUNDING = 1e-6
"""More than rounding may cost the distance, relative to the traces: roots of nearly singular products magnify it."""


def frechet_distance(a: Moments, b: Moments) -> float:
    """FID: |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), in float64  (Heusel et al. 2017).

    Real, finite and never negative, whatever the ranks. Raises ValueError for unequal dimensions, n < 2,
    or what is no covariance.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"features of {len(a.mean)} and of {len(b.mean)} dimensions cannot be compared")
    s_a, s_b = a.covariance, b.covariance
    difference, spread = a.mean - b.mean, s_a.trace() + s_b.trace()
    root = _trace_of_root(s_a, s_b, full_rank=min(a.n, b.n) > len(a.mean))
    distance = (difference @ difference + spread - 2 * root).item()
    # with S = F F^T this is |mu_a - mu_b|^2 + min over rotations U of |F_a - F_b U|^2, a sum of squares: what is below
    # zero is rounding, and zero is nearer to the truth; anything more is a mistake, ours or a file's, and not hidden
    if not distance >= -ROUNDING * spread.item():
        raise ValueError(f"FID {distance:g}: one of the covariances is none; its file is damaged")
    return max(distance, 0.0)


def _trace_of_root(s_a: Float[Tensor, "d d"], s_b: Float[Tensor, "d d"], *, full_rank: bool) -> Tensor:
    """tr (S_a S_b)^(1/2): with S_b = L L^T the sum of the roots of the eigenvalues of L^T S_a L."""
    if full_rank:
        triangle, failed = torch.linalg.cholesky_ex(s_b)
        if not failed:
            eigenvalues = torch.linalg.eigvalsh(triangle.T @ s_a @ triangle)
            # below this an eigenvalue is the rounding error of the largest, and its root 1e8 times that error
            if eigenvalues[0] > len(s_b) ** 0.5 * torch.finfo(s_b.dtype).eps * eigenvalues[-1]:
                return eigenvalues.sqrt().sum()
    # of lower rank: with S = F F^T the trace is the nuclear norm of F_a^T F_b, whose singular values are never negative
    return torch.linalg.svdvals(factor(s_a).T @ factor(s_b)).sum()


def factor(s: Float[Tensor, "d d"]) -> Float[Tensor, "d r"]:
    """F [d, rank] with F F^T = S.

    Directions whose variance is rounding error are left out, as in any numerical rank: the root that follows would make
    a variance of 1e-16, of either sign, into a deviation of 1e-8.
    """
    eigenvalues, vectors = torch.linalg.eigh(s)
    kept = eigenvalues > len(s) * torch.finfo(s.dtype).eps * eigenvalues[-1]
    return vectors[:, kept] * eigenvalues[kept].sqrt()


def inception_score(splits: Sequence[Predictions]) -> tuple[float, float]:
    """Mean and standard deviation (ddof 0) over splits of exp E_x KL(p(y|x) || p(y)), each in [1, classes].

    Salimans et al. 2016, eq. 1. Raises ValueError for no split or an empty one.
    """
    if not splits or any(split.n == 0 for split in splits):
        raise ValueError("the Inception Score needs at least one image in each split")
    scores = torch.stack([_split_score(split) for split in splits])
    return scores.mean().item(), scores.std(correction=0).item()


def _split_score(split: Predictions) -> Tensor:
    p = split.sum_p / split.n
    return torch.exp(split.sum_p_log_p / split.n - torch.special.xlogy(p, p).sum())
