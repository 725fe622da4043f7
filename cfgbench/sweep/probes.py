"""What can be wrong with a network or an extractor without any number looking wrong: seen before hours are spent.

Each probe raises UserError with what it saw. They cost a few network calls of a few images.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cfgbench.data import Images
from cfgbench.diffusion.guidance import GUIDANCES, Denoiser
from cfgbench.diffusion.streams import noise
from cfgbench.errors import UserError
from cfgbench.evaluation.extractors import FeatureExtractor
from cfgbench.spec import Cell
from cfgbench.tensors import digest

LOG_SNRS = -2.0, 2.0
SAME = 1e-7
"""Relative: predictions closer than this differ by rounding."""
ROUNDING = 1e-4
"""Relative: what two calls, or two orders of a sum, may differ by, on a GPU too."""
IMAGES = 16


@torch.inference_mode()
def check_network(denoiser: Denoiser, cell: Cell, images: Images, device: torch.device) -> None:
    """Probes a network that is about to be sampled."""
    who = f"network {cell.checkpoint_id} (p_uncond {cell.training.p_uncond:g})"
    _check_average(denoiser, who)
    probe = _Probe(denoiser, images, device)
    if probe.distance(probe.call(0), probe.call(0)) > ROUNDING:
        raise UserError(f"{who}: gives other values when called again: dropout is active; set it to evaluation")
    p_uncond = cell.training.p_uncond
    if p_uncond < 1 and denoiser.num_classes > 1:
        _check_classes(probe, who)
        if p_uncond > 0:
            _check_null(probe, who)
    if p_uncond < 1:
        _check_unguided(probe, cell.sampling.guidance, p_uncond > 0, who)


class _Probe:
    """A network's predictions at the same noisy images for each class."""

    def __init__(self, denoiser: Denoiser, images: Images, device: torch.device) -> None:
        self.denoiser, self.classes = denoiser, denoiser.num_classes
        indices = torch.arange(len(LOG_SNRS), device=device)
        self.z = noise(0, indices, 0, images.images.shape[1:])
        self.lam = torch.tensor(LOG_SNRS, device=device)

    def call(self, c: int) -> Float[Tensor, "b ch h w"]:
        return self.denoiser(self.z, self.lam, torch.full((len(self.z),), c, device=self.z.device))

    def distance(self, a: Tensor, b: Tensor) -> float:
        """|a - b| / |a|."""
        return ((a - b).norm() / a.norm().clamp(min=1e-12)).item()

    def few(self) -> list[int]:
        """The first two classes and the last two: what is out by one is found there."""
        return sorted({0, 1, self.classes - 2, self.classes - 1} & set(range(self.classes)))


def _check_classes(probe: _Probe, who: str) -> None:
    first, *others = [probe.call(c) for c in probe.few()]
    farthest = max(probe.distance(first, other) for other in others)
    if farthest < SAME:
        raise UserError(
            f"{who}: ignores its class: eps of the classes {probe.few()} differ by {farthest:.1e} of their size; "
            "train it longer, or mend how it uses c"
        )


def _check_null(probe: _Probe, who: str) -> None:
    null = probe.call(probe.classes)
    nearest, c = min((probe.distance(null, probe.call(c)), c) for c in probe.few())
    if nearest < SAME:
        raise UserError(
            f"{who}: its null class acts as class {c}: their eps differ by {nearest:.1e} of their size; "
            f"the null class has the id {probe.classes}"
        )


def _check_unguided(probe: _Probe, guidance: str, has_null: bool, who: str) -> None:
    """w = 0, alone and beside another strength in one batch, is the conditional network."""
    c = torch.zeros(len(probe.z), dtype=torch.int64, device=probe.z.device)
    strengths = torch.arange(len(c), device=c.device) * float(has_null)  # the first is 0
    for w in (0.0, strengths):
        found = GUIDANCES[guidance](probe.denoiser, c, w)(probe.z, probe.lam)
        apart = probe.distance(probe.call(0)[:1], found[:1])
        if apart > ROUNDING:
            raise UserError(f"{who}: guidance {guidance} at w = 0 differs from the conditional eps by {apart:.1e}")


def _check_average(denoiser: Denoiser, who: str) -> None:
    """Our own checkpoints say which weights are the average (EMA) of those in training."""
    facts = getattr(denoiser, "facts", {})
    if "ema" not in facts:
        return
    found = digest({name: value.cpu() for name, value in denoiser.named_parameters()})
    if found != facts["ema"]:
        which = "the last ones of training" if found == facts["raw"] else "others"
        raise UserError(
            f"{who}: the weights to be sampled are not their average (EMA) but {which}: digest {found[:8]}, "
            f"where the EMA's is {facts['ema'][:8]}; delete its checkpoint to train it again"
        )


def check_extractor(extractor: FeatureExtractor, images: Images) -> None:
    """Probes the extractor with some of the data set's images."""
    chosen = np.unique(np.linspace(0, len(images.images) - 1, IMAGES).astype(int))
    pooled = extractor(torch.from_numpy(np.array(images.images[chosen]))).pooled
    if len(chosen) > 1 and (pooled == pooled[:1]).all():
        raise UserError(
            f"evaluation.features: {extractor.id} gives the same features for {len(chosen)} images of the data set: "
            "its weights are not those of a working network"
        )
