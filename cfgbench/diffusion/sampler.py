"""Algorithm 2 (Ho & Salimans 2022): one loop, and one pure function per step rule."""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from cfgbench.diffusion.guidance import Guided
from cfgbench.diffusion.schedule import alpha, sigma

Draw = Callable[[], Tensor]
"""Gives a step's standard normals, shaped as z."""
Step = Callable[[Tensor, Tensor, Tensor, Tensor, Draw], Tensor]
"""(z, x, lam, lam_next, noise) -> z_next: z at lam and the predicted image x give z at the cleaner lam_next."""


@torch.inference_mode()
def sample(
    guided: Guided,
    lams: Float[Tensor, "T"],
    step: Step,
    noise: Callable[[int], Tensor],
    *,
    clip: bool = True,
) -> Float[Tensor, "b ch h w"]:
    """Images in [-1, 1], after one call of `guided` for each of the T log-SNRs; without `clip` they may lie anywhere.

    `noise(t)` gives the standard normals of step t, [b, ch, h, w]: t = 0 is the start of the chain. `clip` clips the
    predicted image to [-1, 1] at every step, as the authors' code does; the paper is silent.
    """
    z = x = noise(0)
    there = lams.to(z, non_blocking=True)  # all at once: a copy a step would make the processor wait for a GPU
    for t, lam in enumerate(lams):  # float64 scalars: they do not change z's type, and the coefficients lose nothing
        eps = guided(z, there[t].expand(len(z)))
        x = (z - sigma(lam) * eps) / alpha(lam)
        if clip:
            x = x.clamp(-1, 1) + (x - x)  # an infinite x, which is no image, becomes NaN instead of 1
        if t + 1 < len(lams):
            z = step(z, x, lam, lams[t + 1], partial(noise, t + 1))
    return x


def ancestral(
    z: Tensor, x: Tensor, lam: Tensor, lam_next: Tensor, noise: Draw, *, v: float, temperature: float = 1.0
) -> Tensor:
    """One step of Algorithm 2 (eqs. 3 and 4). v = 0 is the lower, v = 1 the upper bound of the variance.

    `temperature` scales the standard deviation of the step's noise; the start of the chain keeps its own.
    """
    r = torch.exp(lam - lam_next)
    rest = -torch.expm1(lam - lam_next)  # 1 - r, exact for short steps
    mean = r * alpha(lam_next) / alpha(lam) * z + rest * alpha(lam_next) * x
    lower, upper = rest * sigma(lam_next) ** 2, rest * sigma(lam) ** 2
    return mean + temperature * (lower ** (1 - v) * upper**v).sqrt() * noise()


def ddim(z: Tensor, x: Tensor, lam: Tensor, lam_next: Tensor, noise: Draw) -> Tensor:
    """The deterministic step (Song et al. 2021, eq. 12 with eta = 0): x and the eps that belongs to it, re-mixed."""
    eps = (z - alpha(lam) * x) / sigma(lam)
    return alpha(lam_next) * x + sigma(lam_next) * eps


SAMPLERS: dict[str, Callable[[float, float], Step]] = {
    "ancestral": lambda v, temperature: partial(ancestral, v=v, temperature=temperature),
    "ddim": lambda v, temperature: ddim,
}
"""The names that sweep files use: each makes a step rule from the variance exponent v and the temperature."""


def to_uint8(x: Float[Tensor, "b ch h w"]) -> UInt8[Tensor, "b ch h w"]:
    """Images in [-1, 1] as bytes: (x + 1) * 127.5, clipped to 0..255 and rounded. NaN is a ValueError."""
    if not x.isfinite().all():
        raise ValueError("the sampler gave values that are not finite")
    return ((x + 1) * 127.5).clamp(0, 255).round().to(torch.uint8)


def from_uint8(images: UInt8[Tensor, "b ch h w"], dtype: torch.dtype = torch.float32) -> Float[Tensor, "b ch h w"]:
    """Bytes as images in [-1, 1]: images / 127.5 - 1."""
    return images.to(dtype) / 127.5 - 1
