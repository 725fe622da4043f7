"""What a network learns from noisy images: to say the noise, or the class."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import Module
from torch.nn import functional as F

from cfgbench.diffusion.schedule import diffuse

Objective = Callable[[Module, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, int]]
"""(network, x, c, lam, eps) -> the sum of a batch's errors, and how many of them an image has."""


def _noise(network: Module, x: Tensor, c: Tensor, lam: Tensor, eps: Tensor) -> tuple[Tensor, int]:
    """The squared error of eps (Algorithm 1, lines 5 and 6)."""
    return F.mse_loss(network(diffuse(x, lam, eps), lam, c), eps, reduction="sum"), eps[0].numel()


def _class(network: Module, x: Tensor, c: Tensor, lam: Tensor, eps: Tensor) -> tuple[Tensor, int]:
    """-log p(c | z_lambda), at all log-SNRs of Algorithm 1."""
    return F.cross_entropy(network(diffuse(x, lam, eps), lam), c, reduction="sum"), 1


OBJECTIVES: dict[str, Objective] = {"denoiser": _noise, "classifier": _class}
