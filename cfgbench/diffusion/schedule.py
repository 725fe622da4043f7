r"""Continuous time in log-SNR (Ho & Salimans 2022, section 2).

lambda = log(alpha^2 / sigma^2),   z = alpha x + sigma eps,   alpha^2 + sigma^2 = 1
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

LAMBDA_MIN, LAMBDA_MAX = -20.0, 20.0
_B = math.atan(math.exp(-LAMBDA_MAX / 2))
_A = math.atan(math.exp(-LAMBDA_MIN / 2)) - _B


def alpha(lam: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """Signal level, `sqrt(sigmoid(lam))`, in (0, 1]: at lam = 20 float32 has 1."""
    return torch.sigmoid(lam).sqrt()


def sigma(lam: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """Noise level, `sqrt(sigmoid(-lam))`, in (0, 1]: at lam = -20 float32 has 1."""
    return torch.sigmoid(-lam).sqrt()  # sqrt(1 - alpha**2) is 0 in float32 at lam = 20


def log_snr(u: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """lambda(u) = -2 log tan(a u + b): u = 0 is the cleanest image (lambda = 20), u = 1 pure noise (lambda = -20).

    With u uniform on [0, 1] this is the paper's training distribution, a truncated hyperbolic secant. Computed in
    float64, since tan is steep at u = 1; returned in u's type.
    """
    return (-2 * torch.log(torch.tan(_A * u.double() + _B))).to(u.dtype)


def sampling_log_snrs(T: int) -> Float[Tensor, "T"]:
    """The sampler's log-SNRs, increasing from -20 to 20 at T evenly spaced u, both ends included, in float64.

    Raises ValueError for T < 2.
    """
    if T < 2:
        raise ValueError(f"T = {T}: a schedule needs at least 2 steps")
    return log_snr(torch.linspace(1, 0, T, dtype=torch.float64))


def diffuse(
    x: Float[Tensor, "b ch h w"], lam: Float[Tensor, "b"], eps: Float[Tensor, "b ch h w"]
) -> Float[Tensor, "b ch h w"]:
    """z = alpha x + sigma eps, a draw of q(z | x) at each image's own log-SNR."""
    lam = lam[:, None, None, None]
    return alpha(lam) * x + sigma(lam) * eps
