r"""How far each image pulls a metric: the influence functions of FID and of the Inception Score.

FID is differentiable in the samples' distribution wherever their covariance S has full rank. With mean m and covariance
S of the samples, m0 and S0 = L L^T of the reference,

    q_i = 2 (x_i - m)^T (m - m0) + (x_i - m)^T (I - A) (x_i - m),    A = L (L^T S L)^(-1/2) L^T

where A is the optimal transport map's matrix from N(m, S) to N(m0, S0); q_i less its mean is the influence of image i.
The Inception Score is the mean over K splits, of n_k images each, of IS_k = exp of the mean of KL(p_i || p_mean), where
p_mean is the split's own; so that q_i = n / (K n_k) IS_k KL(p_i || p_mean). That p_mean is not the one of all images
matters: where the extractor is sure, KL to that is nearly the same number for all images, and what the score owes to
chance is which classes the splits happen to have.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cfgbench.evaluation.metrics import factor as root_of
from cfgbench.evaluation.metrics import split_score
from cfgbench.evaluation.statistics import Moments, Predictions


@dataclass(frozen=True)
class QuadraticForm:
    """x -> (x - centre)^T matrix (x - centre) + slope^T (x - centre) + constant, of features x [d], in float64."""

    centre: Tensor
    slope: Tensor
    matrix: Tensor
    constant: float = 0.0

    def of(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
        """Its values at these."""
        centred = features.double().cpu() - self.centre
        return ((centred @ self.matrix + self.slope) * centred).sum(dim=1) + self.constant

    def mean(self, samples: Moments) -> float:
        """Of its values at the samples, about whose mean it is written."""
        return (self.matrix * samples.scatter).sum().item() / samples.n + self.constant

    @staticmethod
    def weighted(parts: Sequence[tuple[float, "QuadraticForm"]]) -> "QuadraticForm":
        """The sum of these symmetric forms, each times its weight, in one: images go through a single product."""
        centre = parts[0][1].centre
        slope, matrix, constant = torch.zeros_like(centre), torch.zeros_like(parts[0][1].matrix), 0.0
        for weight, form in parts:
            step = centre - form.centre
            turned = form.matrix @ step
            slope += weight * (form.slope + 2 * turned)
            matrix.add_(form.matrix, alpha=weight)
            constant += weight * (form.constant + (step @ (turned + form.slope)).item())
        return QuadraticForm(centre, slope, matrix, constant)


def fid_influence(
    samples: Moments, mean: Float[Tensor, "d"], factor: Float[Tensor, "d r"]
) -> tuple[QuadraticForm, Float[Tensor, "r"]]:
    """q_i as above, a function of x_i, and the eigenvalues of S0 S that it took, which FID takes too
    (`metrics.frechet_distance`). `mean` is m0, `factor` is L (`metrics.factor`): the reference's.

    Raises ValueError for unequal dimensions, and where there are no more images than dimensions, or a direction in
    which the samples do not vary and the reference does: FID then has no derivative, and no error can be given.
    """
    d = len(samples.mean)
    if len(mean) != d:
        raise ValueError(f"features of {d} and of {len(mean)} dimensions cannot be compared")
    if samples.n <= d:
        raise ValueError(f"{samples.n} images with features of {d} dimensions: more images than dimensions needed")
    move, eigenvalues = transport(samples.covariance, factor)
    matrix = torch.eye(d, dtype=torch.float64) - move
    return QuadraticForm(samples.mean, 2 * (samples.mean - mean), matrix), eigenvalues


def transport(s: Float[Tensor, "d d"], factor: Float[Tensor, "d r"]) -> tuple[Float[Tensor, "d d"], Float[Tensor, "r"]]:
    """A = L (L^T S L)^(-1/2) L^T with S0 = L L^T, the matrix of the optimal map from N(0, S) to N(0, S0); and the
    eigenvalues of L^T S L, in ascending order.

    Raises ValueError where S is zero in a direction in which S0 is not.
    """
    negligible = len(s) * torch.finfo(s.dtype).eps
    inner, rotation = torch.linalg.eigh(factor.T @ s @ factor)
    if inner.numel() and inner[0] <= negligible * inner[-1]:
        # with S = F F^T they are the squares of F^T L's singular values: of the roots as many digits are left
        _, roots, rotated = torch.linalg.svd(root_of(s).T @ factor, full_matrices=False)
        if len(roots) < len(inner) or roots[-1] <= negligible * roots[0]:
            raise ValueError("the samples do not vary in all directions in which the reference does")
        inner, rotation = roots.square().flip(0), rotated.T.flip(1)
    half = factor @ rotation
    return (half * inner.rsqrt()) @ half.T, inner


def is_influence(logits: Float[Tensor, "n k"], split: Predictions) -> Float[Tensor, "n"]:
    """IS_k KL(p_i || p_mean) of these images, in float64; `split` are the predictions of all images of their split."""
    log_p = logits.double().log_softmax(dim=1).cpu()
    p_mean = (split.sum_p / split.n).clamp(min=torch.finfo(torch.float64).tiny)  # one image's last digit may round to 0
    p = log_p.exp()
    return split_score(split) * (p * log_p - torch.special.xlogy(p, p_mean)).sum(dim=1)
