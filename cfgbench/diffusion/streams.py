"""Randomness: what image i sees depends on (seed, i) and on nothing else.

Noise comes from Philox4x32-10, a counter-based generator (Salmon et al. 2011, "Parallel random numbers: as easy as
1, 2, 3"): each number is a function of (seed, image, step, pixel), so that no batch, order or device count can change
it, and a whole batch is computed at once. Integers are exact on every device; the normals agree to rounding.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

_ROUNDS = 10
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_WEYL = 0x9E3779B9, 0xBB67AE85
_WORD = 0xFFFFFFFF


def philox(
    counter: tuple[Int[Tensor, "*n"], Int[Tensor, "*n"], Int[Tensor, "*n"], Int[Tensor, "*n"]], key: tuple[int, int]
) -> tuple[Int[Tensor, "*n"], Int[Tensor, "*n"], Int[Tensor, "*n"], Int[Tensor, "*n"]]:
    """Philox4x32-10: four 32-bit words (held in int64) from a counter of four words and a key of two."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        # int64 products wrap modulo 2**64, which leaves all 64 bits right; the masks undo the sign
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = ((p1 >> 32) & _WORD) ^ c1 ^ k0, p1 & _WORD, ((p0 >> 32) & _WORD) ^ c3 ^ k1, p0 & _WORD
        k0, k1 = (k0 + _WEYL[0]) & _WORD, (k1 + _WEYL[1]) & _WORD
    return c0, c1, c2, c3


def uniforms(seed: int, indices: Int[Tensor, "b"], step: int) -> Float[Tensor, "b 4"]:
    """Four uniform numbers in (0, 1), float64, for each of the images with these indices; arguments as for `noise`."""
    zero = torch.zeros_like(indices)
    words = philox((zero, zero + step, indices & _WORD, indices >> 32), (seed & _WORD, seed >> 32))
    return (torch.stack(words, dim=-1).double() + 0.5) * 2.0**-32


def noise(seed: int, indices: Int[Tensor, "b"], step: int, shape: tuple[int, ...]) -> Float[Tensor, "b ..."]:
    """Standard normal noise [b, *shape] in float32 for the images with these indices at this step of the sampler.

    Step 0 draws the start of the chain. `seed` is in [0, 2**64), indices in [0, 2**63), steps in [0, 2**32).
    """
    size = math.prod(shape)
    block = torch.arange((size + 3) // 4, device=indices.device)
    index = indices[:, None].expand(-1, len(block))
    counter = block.expand_as(index), torch.full_like(index, step), index & _WORD, index >> 32
    words = philox(counter, (seed & _WORD, seed >> 32))
    normals = torch.stack([*_box_muller(words[0], words[1]), *_box_muller(words[2], words[3])], dim=-1)
    return normals.flatten(1)[:, :size].reshape(-1, *shape)


def _box_muller(a: Int[Tensor, "b n"], b: Int[Tensor, "b n"]) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n"]]:
    """Two independent standard normals from two 32-bit words."""
    # (a + 1/2) / 2**32 lies strictly inside (0, 1); float64, for float32 would round the top to 1 and cut the tails
    radius = torch.sqrt(-2 * torch.log((a.double() + 0.5) * 2.0**-32)).float()
    angle = (b.double() * (2 * math.pi * 2.0**-32)).float()
    return radius * torch.cos(angle), radius * torch.sin(angle)
