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
AT_ONCE = {"cpu": 1 << 18, "cuda": 1 << 20}
"""Numbers that are made together, if a step's own are not more."""


def philox(
    counter: tuple[Int[Tensor, "*#n"], Int[Tensor, "*#n"], Int[Tensor, "*#n"], Int[Tensor, "*#n"]], key: tuple[int, int]
) -> tuple[Int[Tensor, "*#n"], Int[Tensor, "*#n"], Int[Tensor, "*#n"], Int[Tensor, "*#n"]]:
    """Philox4x32-10: four 32-bit words (held in int64) from a counter of four, which broadcast, and a key of two."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        # int64 products wrap modulo 2**64, which leaves all 64 bits right; the masks undo the sign
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = ((p1 >> 32) & _WORD) ^ c1 ^ k0, p1 & _WORD, ((p0 >> 32) & _WORD) ^ c3 ^ k1, p0 & _WORD
        k0, k1 = (k0 + _WEYL[0]) & _WORD, (k1 + _WEYL[1]) & _WORD
    return c0, c1, c2, c3


def uniforms(seed: int, indices: Int[Tensor, "b"]) -> Float[Tensor, "b 4"]:
    """Four uniform numbers in (0, 1), float64, for each of the images with these indices: those from which `noise`
    would draw at step 0. Raises ValueError for a seed out of range."""
    indices = indices.long()
    zero = torch.zeros_like(indices)
    words = philox((zero, zero, indices & _WORD, indices >> 32), _key(seed))
    return (torch.stack(words, dim=-1).double() + 0.5) * 2.0**-32


def noise(seed: int, indices: Int[Tensor, "b"], step: int, shape: tuple[int, ...]) -> Float[Tensor, "b ..."]:
    """Standard normal noise [b, *shape] in float32 for the images with these indices at this step of the sampler.

    Step 0 draws the start of the chain. `seed` is in [0, 2**64), indices in [0, 2**63), steps in [0, 2**32). Raises
    ValueError for a seed out of range.
    """
    return _noise(seed, indices, range(step, step + 1), shape)[0]


class Noise:
    """`noise` step by step, for the images with these indices: `Noise(...)(t)` is that of step t below `steps`.

    Where a step's numbers are few, those of the steps after it are made with them: they cost hardly more together than
    apart, and a GPU takes longer to be told what to do than to do it.
    """

    def __init__(self, seed: int, indices: Int[Tensor, "b"], shape: tuple[int, ...], steps: int) -> None:
        self.seed, self.indices, self.shape, self.steps = seed, indices, shape, steps
        self.ahead = max(1, AT_ONCE.get(indices.device.type, 0) // max(1, len(indices) * math.prod(shape)))
        self._range, self._made = range(0), torch.empty(0)

    def __call__(self, step: int) -> Float[Tensor, "b ..."]:
        if step not in self._range:
            # a deterministic sampler asks for the start of the chain and no more
            self._range = range(step, min(step + (self.ahead if step else 1), self.steps))
            self._made = _noise(self.seed, self.indices, self._range, self.shape)
        return self._made[step - self._range.start]


def _noise(seed: int, indices: Int[Tensor, "b"], steps: range, shape: tuple[int, ...]) -> Float[Tensor, "s b ..."]:
    size, on = math.prod(shape), indices.device
    block = torch.arange((size + 3) // 4, device=on)
    at, index = torch.arange(steps.start, steps.stop, device=on)[:, None, None], indices.long()[:, None]
    words = philox((block, at, index & _WORD, index >> 32), _key(seed))
    normals = torch.stack([*_box_muller(words[0], words[1]), *_box_muller(words[2], words[3])], dim=-1)
    return normals.flatten(2)[:, :, :size].reshape(len(steps), len(indices), *shape)


def _key(seed: int) -> tuple[int, int]:
    if not 0 <= seed < 1 << 64:
        raise ValueError(f"seed {seed}: not in [0, 2**64)")
    return seed & _WORD, seed >> 32


def _box_muller(a: Int[Tensor, "*n"], b: Int[Tensor, "*n"]) -> tuple[Float[Tensor, "*n"], Float[Tensor, "*n"]]:
    """Two independent standard normals from two 32-bit words."""
    # (a + 1/2) / 2**32 lies strictly inside (0, 1); float64, for float32 would round the top to 1 and cut the tails
    radius = torch.sqrt(-2 * torch.log((a.double() + 0.5) * 2.0**-32)).float()
    angle = (b.double() * (2 * math.pi * 2.0**-32)).float()
    return radius * torch.cos(angle), radius * torch.sin(angle)
