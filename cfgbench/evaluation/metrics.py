"""Frechet distance and Inception Score, as functions of mergeable statistics."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from scipy.linalg.blas import dtrmm
from scipy.linalg.lapack import dpstrf, dsygst
from torch import Tensor

from cfgbench.evaluation.statistics import Moments, Predictions

ROUNDING = 1e-6
"""What rounding may cost, relative to the distance, before a slower way is taken; and relative to the traces, before
a covariance is taken for none."""
EXACT, FEW_DIMENSIONS = 1e-9, 512
"""What it may cost in so few dimensions, where the slower way takes some milliseconds."""


def frechet_distance(a: Moments, b: Moments, eigenvalues: Float[Tensor, "r"] | None = None) -> float:
    """FID: |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), in float64  (Heusel et al. 2017).

    Real, finite, never negative, and exact to 1e-9, in more than 512 dimensions to 1e-6, whatever the ranks; of sets
    so alike that the distance is less than 1e-6 of the variances, rounding of these remains. `eigenvalues` are those of
    S_a S_b but for zeros, where they are known: they take most of the time. Raises ValueError for unequal dimensions,
    n < 2, and a distance that no covariances have.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"features of {len(a.mean)} and of {len(b.mean)} dimensions cannot be compared")
    few, many = sorted((a, b), key=lambda moments: moments.n)
    difference = a.mean - b.mean
    spread = sum(one.scatter.trace().item() / one.freedom for one in (few, many))
    apart = (difference @ difference).item() + spread
    # a root of the scatters is one of the covariances but for a number, and to divide d x d numbers twice takes longer
    unit = math.sqrt(few.freedom * many.freedom)
    known = None if eigenvalues is None else eigenvalues * unit**2
    root = _trace_of_root(few.scatter, many.scatter, apart * unit, rank=few.freedom, known=known) / unit
    distance = apart - 2 * root
    # with S = F F^T this is |mu_a - mu_b|^2 + min over rotations U of |F_a - F_b U|^2, a sum of squares: what is below
    # zero is rounding, and zero is nearer to the truth; anything more is a mistake, ours or a file's, and not hidden
    if not distance >= -ROUNDING * spread:
        raise ValueError(f"FID {distance:g}: one of the covariances is none; its file is damaged")
    return max(distance, 0.0)


def _trace_of_root(
    s_few: Float[Tensor, "d d"],
    s_many: Float[Tensor, "d d"],
    apart: float,
    *,
    rank: int,
    known: Float[Tensor, "r"] | None,
) -> float:
    """tr (S_a S_b)^(1/2), the sum of the roots of the eigenvalues of S_a S_b, which may be `known`; a is the set of
    fewer images, of rank `rank` at most. Exact enough for a distance of `apart` less twice this."""
    eigenvalues = _eigenvalues(s_few, s_many, rank) if known is None else known
    roots = eigenvalues.clamp(min=0).sqrt()
    # each is exact to the rounding error of the largest product, which is much in the root of a small one
    rounding = torch.finfo(roots.dtype).eps * s_few.norm() * s_many.norm()
    error = torch.minimum(rounding.sqrt(), rounding / (2 * roots)) + eigenvalues.clamp(max=0).abs().sqrt()
    bearable = EXACT if len(s_few) <= FEW_DIMENSIONS else ROUNDING
    if 2 * error.sum() <= bearable * (apart - 2 * roots.sum()):
        return roots.sum().item()
    # the trace is also the nuclear norm of F_a^T F_b, whose singular values are never negative, and as exact as F
    return torch.linalg.svdvals(factor(s_few).T @ factor(s_many)).sum().item()


def _eigenvalues(s_few: Float[Tensor, "d d"], s_many: Float[Tensor, "d d"], rank: int) -> Float[Tensor, "r"]:
    """Those of S_a S_b but for zeros: with S_a = F F^T those of F^T S_b F; the F of fewer images is narrower."""
    triangle = _triangle(s_few) if rank >= len(s_few) else None
    if triangle is None:
        leading = _leading_factor(s_few, rank) if FEW_DIMENSIONS < len(s_few) > rank else None
        inner = _seen_through(s_many, _pivoted_factor(s_few) if leading is None else leading)
    else:  # half the work
        inner = torch.from_numpy(dsygst(s_many.numpy().T, triangle.numpy(), itype=2, lower=1)[0])
    return torch.linalg.eigvalsh(inner)


def _seen_through(s: Float[Tensor, "d d"], f: Float[Tensor, "d r"]) -> Float[Tensor, "r r"]:
    """F^T S F: with T the triangle of S and half its diagonal, F^T T F plus its transpose, and T F is half the work."""
    half = torch.from_numpy(dtrmm(1.0, s.numpy().T, f.numpy(), lower=1)) - s.diagonal()[:, None] / 2 * f
    product = f.T @ half
    return product + product.T


def factor(s: Float[Tensor, "d d"]) -> Float[Tensor, "d r"]:
    """F [d, rank] with F F^T = S, by Cholesky, pivoted where the rank is less than d.

    Directions whose variance is rounding error are left out, as in any numerical rank: the root that follows would make
    a variance of 1e-16, of either sign, into a deviation of 1e-8.
    """
    triangle = _triangle(s)
    return _pivoted_factor(s) if triangle is None else triangle


def _triangle(s: Float[Tensor, "d d"]) -> Float[Tensor, "d d"] | None:
    """Cholesky's; None where a variance is rounding error."""
    triangle, failed = torch.linalg.cholesky_ex(s)
    return triangle if not failed and triangle.diagonal().min() ** 2 > _negligible(s) else None


def _negligible(s: Float[Tensor, "d d"]) -> float:
    """The variance that is rounding error."""
    return len(s) * torch.finfo(s.dtype).eps * s.diagonal().max().item()


def _leading_factor(s: Float[Tensor, "d d"], rank: int) -> Float[Tensor, "d rank"] | None:
    """`factor` of a covariance of `rank` + 1 vectors from its first rows, as many: with T their triangle F is T above
    what solves F_2 T^T = S_21. A third of the work of pivots; None where these dimensions do not tell the others to
    rounding."""
    triangle = _triangle(s[:rank, :rank])
    if triangle is None:
        return None
    below = torch.linalg.solve_triangular(triangle, s[:rank, rank:], upper=False)
    f = torch.cat([triangle.T, below], dim=1).T
    return f if _left_over(s, f) <= 100 * _negligible(s) else None


def _left_over(s: Float[Tensor, "d d"], f: Float[Tensor, "d r"]) -> float:
    """|S - F F^T|, as it is seen through a vector."""
    probe = torch.arange(len(s), dtype=s.dtype).cos()
    return ((s @ probe - f @ (f.T @ probe)).norm() / probe.norm()).item()


def _pivoted_factor(s: Float[Tensor, "d d"]) -> Float[Tensor, "d r"]:
    """`factor` where the rank is less than d."""
    negligible = _negligible(s)
    packed, order, rank, _ = dpstrf(s.numpy().T, tol=negligible, lower=1)
    f = torch.from_numpy(packed.T[:rank]).triu()[:, torch.from_numpy(order).argsort()].T
    # what is left over is at most its trace, (d - rank) pivots, if S has no negative variances
    return f if _left_over(s, f) <= len(s) * negligible else _eigenfactor(s)


def _eigenfactor(s: Float[Tensor, "d d"]) -> Float[Tensor, "d r"]:
    """`factor` where S is a covariance only up to more than our rounding, as one that was published in float32: pivots
    would blow its errors up."""
    eigenvalues, vectors = torch.linalg.eigh(s)
    kept = eigenvalues > len(s) * torch.finfo(s.dtype).eps * eigenvalues[-1]
    return vectors[:, kept] * eigenvalues[kept].sqrt()


def inception_score(splits: Sequence[Predictions]) -> tuple[float, float]:
    """Mean and standard deviation (ddof 0) over splits of exp E_x KL(p(y|x) || p(y)), each in [1, classes] to rounding.

    Salimans et al. 2016, eq. 1. Raises ValueError for no split or an empty one.
    """
    if not splits or any(split.n == 0 for split in splits):
        raise ValueError("the Inception Score needs at least one image in each split")
    scores = torch.stack([split_score(split) for split in splits])
    return scores.mean().item(), scores.std(correction=0).item()


def split_score(split: Predictions) -> Tensor:
    """exp E_x KL(p(y|x) || p(y)) of these images, a scalar in float64."""
    p = split.sum_p / split.n
    return torch.exp(split.sum_p_log_p / split.n - torch.special.xlogy(p, p).sum())
