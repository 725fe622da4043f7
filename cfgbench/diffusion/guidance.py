r"""How eps(z, c) and eps(z) become one eps (Ho & Salimans 2022, eq. 6):

    eps~ = (1 + w) eps(z, c) - w eps(z)

`w` is the paper's: 0 is the conditional model, -1 the unconditional one. Others say scale = 1 + w.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

Guided = Callable[[Tensor, Tensor], Tensor]
"""(z [b, ch, h, w], lam [b]) -> eps [b, ch, h, w], class and strength already chosen."""


@runtime_checkable
class Denoiser(Protocol):
    """All that guidance and samplers know of a network."""

    num_classes: int
    """Classes are 0 .. num_classes - 1; the null class has the id num_classes."""

    def __call__(
        self, z: Float[Tensor, "b ch h w"], lam: Float[Tensor, "b"], c: Int[Tensor, "b"]
    ) -> Float[Tensor, "b ch h w"]:
        """The predicted eps of z at log-SNR lam and class c."""
        ...


def cfg(denoiser: Denoiser, c: Int[Tensor, "b"], w: float | Float[Tensor, "b"]) -> Guided:
    """Classifier-free guidance of strength w, one number or one per image.

    Costs two network calls; one where every w is 0, or every w is -1. Raises ValueError for a w that is not finite.
    """
    strength = torch.as_tensor(w, dtype=torch.float32, device=c.device)
    if not strength.isfinite().all():
        raise ValueError(f"w = {w}: guidance needs finite strengths")
    null = torch.full_like(c, denoiser.num_classes)
    if (strength == 0).all():
        return lambda z, lam: denoiser(z, lam, c)
    if (strength == -1).all():
        return lambda z, lam: denoiser(z, lam, null)
    strength = strength.reshape(-1, 1, 1, 1)

    def guided(z: Tensor, lam: Tensor) -> Tensor:
        return (1 + strength) * denoiser(z, lam, c) - strength * denoiser(z, lam, null)

    return guided


GUIDANCES = {"cfg": cfg}
"""The names that sweep files use."""
