r"""The exact denoiser and the exact noisy classifier of a mixture of Gaussians.

With x | c ~ N(mu_c, S_c) and z = alpha x + sigma eps:

    z | c ~ N(alpha mu_c, alpha^2 S_c + sigma^2 I),    eps(z, c) = -sigma grad_z log p(z | c),
    p(c | z) = p(z | c) / sum_k p(z | k),              eps(z) = sum_c p(c | z) eps(z, c)

All of it in float64, in the axes of each S_c, where the covariance of z | c is diagonal at every log-SNR.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from cfgbench.data import Mixture
from cfgbench.diffusion.schedule import alpha, sigma

NUMBERS = 1 << 18
"""Of all classes' coordinates that a processor works on at a time: more do not stay in its caches, and their memory has
to be asked of the system for each step."""


class Noised:
    """The laws of z | c of a mixture, z as points [b, d]; alpha and sigma [b] are those of each point."""

    def __init__(self, mixture: Mixture, device: torch.device) -> None:
        self.num_classes, self.dimensions = mixture.num_classes, mixture.dimensions
        self.means = torch.from_numpy(mixture.means).to(device)
        self.variances, self.axes = torch.linalg.eigh(torch.from_numpy(mixture.covariances).to(device))

    def log_p(
        self, z: Float[Tensor, "b d"], alpha: Float[Tensor, "b"], sigma: Float[Tensor, "b"]
    ) -> Float[Tensor, "b k"]:
        """log p(z | c) + d/2 log 2 pi, of each class."""
        return _log_density(*self._along_axes(z, alpha, sigma))

    def eps(
        self, z: Float[Tensor, "b d"], alpha: Float[Tensor, "b"], sigma: Float[Tensor, "b"], c: Int[Tensor, "b"]
    ) -> Float[Tensor, "b d"]:
        """-sigma grad_z log p(z | c); of class K that of all classes together."""
        y, variances = self._along_axes(z, alpha, sigma)
        own = c < self.num_classes
        shares = one_hot(c.where(own, 0), self.num_classes).double()
        if z.device.type != "cpu" or not own.all():  # a GPU would be waited for
            shares = shares.where(own[:, None], _log_density(y, variances).softmax(dim=1))
        slopes = torch.einsum("kde,bke->bkd", self.axes, y / variances)
        return sigma[:, None] * torch.einsum("bk,bkd->bd", shares, slopes)

    def _along_axes(self, z: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """z less its mean, and its variances, along the axes of each class: [b, k, d] both."""
        centred = z[:, None] - alpha[:, None, None] * self.means
        variances = alpha.square()[:, None, None] * self.variances + sigma.square()[:, None, None]
        return torch.einsum("kde,bkd->bke", self.axes, centred), variances


def _log_density(y: Tensor, variances: Tensor) -> Tensor:
    """[b, k] of what lies along the axes [b, k, d]."""
    return -0.5 * (y.square() / variances + variances.log()).sum(dim=2)


class ExactDenoiser:
    """eps(z, c) and eps(z) of a mixture, for images [b, 1, 1, d]; the result has z's type.

    Raises ValueError for images of another size.
    """

    def __init__(self, mixture: Mixture, device: torch.device) -> None:
        self.noised, self.num_classes = Noised(mixture, device), mixture.num_classes

    def __call__(
        self, z: Float[Tensor, "b ch h w"], lam: Float[Tensor, "b"], c: Int[Tensor, "b"]
    ) -> Float[Tensor, "b ch h w"]:
        place = *_points(z, lam, self.noised.dimensions), c
        rows = max(1, NUMBERS // self.noised.means.numel()) if z.device.type == "cpu" else len(z)
        parts = zip(*(tensor.split(rows) for tensor in place), strict=True)
        return torch.cat([self.noised.eps(*part) for part in parts]).to(z.dtype).reshape(z.shape)


class ExactClassifier:
    """log p(c | z) of a mixture, for images [b, 1, 1, d], in float64.

    In float32 its gradient would lose what guidance adds up. Raises ValueError for images of another size.
    """

    def __init__(self, mixture: Mixture, device: torch.device) -> None:
        self.noised, self.num_classes = Noised(mixture, device), mixture.num_classes

    def __call__(self, z: Float[Tensor, "b ch h w"], lam: Float[Tensor, "b"]) -> Float[Tensor, "b k"]:
        return self.noised.log_p(*_points(z, lam, self.noised.dimensions)).log_softmax(dim=1)


def log_likelihood(mixture: Mixture, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The function that gives log p(x | c) + d/2 log 2 pi [b, K] of points x [b, d] without noise."""
    noised = Noised(mixture, device)

    def log_p(x: Tensor) -> Tensor:
        ones = torch.ones(len(x), dtype=torch.float64, device=device)
        return noised.log_p(x.double(), ones, 0 * ones)

    return log_p


def clean_posterior(mixture: Mixture, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The function that gives log p(c | x) [b, K] of points x [b, d] without noise."""
    log_p = log_likelihood(mixture, device)
    return lambda x: log_p(x).log_softmax(dim=1)


def _points(z: Tensor, lam: Tensor, d: int) -> tuple[Tensor, Tensor, Tensor]:
    """(points [b, d], alpha [b], sigma [b]) in float64."""
    if z.shape[1:].numel() != d:
        raise ValueError(f"points of {z.shape[1:].numel()} coordinates, where the mixture has {d}")
    lam = lam.double()
    return z.double().flatten(1), alpha(lam), sigma(lam)
