r"""How the score is guided: what becomes of eps(z, c), eps(z) and log p(c | z) (Ho & Salimans 2022).

    classifier-free    eps~ = (1 + w) eps(z, c) - w eps(z)                          (eq. 6)
    classifier         eps~ = eps(z, c) - w sigma grad_z log p(c | z)               (eq. 5, on the conditional model)
    score scaling      eps~ = (1 + w) eps(z, c)                                     (section 3)

`w` is the paper's: 0 is the conditional model. Others say scale = 1 + w. A classifier guides the unconditional model
too: eps(z) - (w + 1) sigma grad_z log p(c | z) is, were all of them exact, the conditional model guided by w.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cfgbench.diffusion.schedule import sigma

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


@runtime_checkable
class NoisyClassifier(Protocol):
    """p(c | z_lambda): a classifier of noisy images at all log-SNRs."""

    num_classes: int

    def __call__(self, z: Float[Tensor, "b ch h w"], lam: Float[Tensor, "b"]) -> Float[Tensor, "b k"]:
        """The logits of the classes of z at log-SNR lam; differentiable in z."""
        ...


@dataclass(frozen=True)
class Networks:
    """What images are sampled with."""

    denoiser: Denoiser
    classifier: NoisyClassifier | None = None


def cfg(denoiser: Denoiser, c: Int[Tensor, "b"], w: float | Float[Tensor, "b"]) -> Guided:
    """Classifier-free guidance of strength w, one number or one per image.

    Both branches go through the network side by side, 2 b images in one call; one branch alone where every w is 0, or
    every w is -1. Raises ValueError for a w that is not finite.
    """
    strength = _strength(w, c)
    null = torch.full_like(c, denoiser.num_classes)
    if (strength == 0).all():
        return lambda z, lam: denoiser(z, lam, c)
    if (strength == -1).all():
        return lambda z, lam: denoiser(z, lam, null)

    branches = torch.cat([c, null])

    def guided(z: Tensor, lam: Tensor) -> Tensor:
        conditional, unconditional = denoiser(torch.cat([z, z]), torch.cat([lam, lam]), branches).chunk(2)
        return (1 + strength) * conditional - strength * unconditional

    return guided


def by_classifier(
    denoiser: Denoiser, classifier: NoisyClassifier | None, c: Int[Tensor, "b"], w: float | Float[Tensor, "b"]
) -> Guided:
    """Classifier guidance of strength w, one number or one per image; on the null branch through `unconditional`.

    Costs a network call, and a pass through the classifier forwards and back; the call alone where every w is 0, which
    needs no classifier. Raises ValueError for a w that is not finite, and for another than 0 without a classifier.
    """
    strength = _strength(w, c)
    if (strength == 0).all():
        return lambda z, lam: denoiser(z, lam, c)
    if classifier is None:
        raise ValueError("guidance by a classifier: there is none")

    def guided(z: Tensor, lam: Tensor) -> Tensor:
        noise = sigma(lam.double()).to(z)[:, None, None, None]
        return denoiser(z, lam, c) - strength * noise * class_gradient(classifier, z, lam, c)

    return guided


def score_scale(denoiser: Denoiser, c: Int[Tensor, "b"], w: float | Float[Tensor, "b"]) -> Guided:
    """The conditional score times 1 + w, one network call: a naive low temperature, 1 / (1 + w) of the density's.

    Raises ValueError for a w that is not finite.
    """
    strength = _strength(w, c)
    return lambda z, lam: (1 + strength) * denoiser(z, lam, c)


LOSS_SCALE = 2.0**10
"""Keeps small gradients from vanishing in fp16; a power of two, so that other types lose nothing by it."""


def class_gradient(
    classifier: NoisyClassifier, z: Float[Tensor, "b ch h w"], lam: Float[Tensor, "b"], c: Int[Tensor, "b"]
) -> Float[Tensor, "b ch h w"]:
    """grad_z log p(c | z_lambda), each image's own; of so many images at a time as the classifier's `at_once` says, if
    it has one, for what each layer gave is kept until the gradient is there."""
    size = min(len(z), getattr(classifier, "at_once", len)(z))
    parts = zip(*(tensor.split(size) for tensor in (z, lam, c)), strict=True)
    with torch.inference_mode(False), torch.enable_grad():
        return torch.cat([_class_gradient(classifier, *part) for part in parts])


def _class_gradient(classifier: NoisyClassifier, z: Tensor, lam: Tensor, c: Tensor) -> Tensor:
    # a sampler's own tensors were made to be without gradients; copies are not
    z, lam, c = z.clone().requires_grad_(), lam.clone(), c.clone()
    log_p = classifier(z, lam).log_softmax(dim=1).gather(1, c[:, None])
    (gradient,) = torch.autograd.grad(LOSS_SCALE * log_p.sum(), z)
    return gradient / LOSS_SCALE


class Unconditional:
    """The null branch of a denoiser as a denoiser: whatever class is asked for, it gives eps(z)."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser, self.num_classes = denoiser, denoiser.num_classes

    def __call__(
        self, z: Float[Tensor, "b ch h w"], lam: Float[Tensor, "b"], c: Int[Tensor, "b"]
    ) -> Float[Tensor, "b ch h w"]:
        return self.denoiser(z, lam, torch.full_like(c, self.num_classes))


BRANCHES: dict[str, Callable[[Denoiser], Denoiser]] = {
    "conditional": lambda denoiser: denoiser,
    "unconditional": Unconditional,
}
"""The names that sweep files use for `on`."""

GUIDANCES: dict[str, Callable[[Networks, Tensor, float | Tensor], Guided]] = {
    "cfg": lambda networks, c, w: cfg(networks.denoiser, c, w),
    "classifier": lambda networks, c, w: by_classifier(networks.denoiser, networks.classifier, c, w),
    "score-scale": lambda networks, c, w: score_scale(networks.denoiser, c, w),
}
"""The names that sweep files use: each makes a Guided of networks, classes [b] and strength."""


def _strength(w: float | Tensor, c: Tensor) -> Tensor:
    """w [1 or b, 1, 1, 1], on c's device."""
    strength = torch.as_tensor(w, dtype=torch.float32, device=c.device)
    if not strength.isfinite().all():
        raise ValueError(f"w = {w}: guidance needs finite strengths")
    return strength.reshape(-1, 1, 1, 1)
