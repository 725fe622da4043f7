"""What can be wrong with a network or an extractor without any number looking wrong: seen before hours are spent.

Each probe raises UserError with what it saw. They cost some network calls of a few images, and one image a class.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cfgbench.data import Images
from cfgbench.diffusion.guidance import BRANCHES, GUIDANCES, Denoiser, Networks, NoisyClassifier
from cfgbench.diffusion.sampler import from_uint8
from cfgbench.diffusion.schedule import diffuse
from cfgbench.diffusion.streams import noise
from cfgbench.errors import UserError
from cfgbench.evaluation.features import FeatureExtractor, Features
from cfgbench.models.precision import float32_kept, in_parts, out_of_memory
from cfgbench.spec import Cell, Exact
from cfgbench.tensors import digest

LOG_SNRS = -2.0, 2.0
ENDS = -20.0, 20.0
"""Where sampling begins and ends: networks may do otherwise there."""
SAME = 1e-7
"""Relative: predictions closer than this differ by rounding."""
ROUNDING = 1e-4
"""Relative: what two calls, or two orders of a sum, may differ by, on a GPU too."""
BATCHED = 0.05
"""Relative: what an image's prediction may differ by with the images beside it, in any precision."""
IMAGES = 16
CLASSES_AT_ONCE = 32
NEAREST = 4
"""Classes that are looked at closely, of those nearest to the null class."""
NO_PREDICTION = 1.05
"""Mean square of what an eps of zeros is off by, in units of the noise's, and what chance may add."""
CLASSIFIED = 200
NEARLY_CLEAN = 6.0
"""Log-SNR at which a classifier must know images: sigma is 0.05."""


@torch.inference_mode()
@float32_kept()
def check_networks(networks: Networks, cells: Sequence[Cell], images: Images, device: torch.device) -> None:
    """Probes what is about to be sampled for these cells of one network: the denoiser, the classifier if there is one,
    and each rule of guidance."""
    cell = cells[0]
    _check_denoiser(networks.denoiser, cell, images, device)
    if cell.classifier is not None:
        _check_classifier(networks.classifier, cell.classifier.id, images, device)
    for one in {(cell.sampling.guidance, cell.sampling.on): cell for cell in cells}.values():
        _check_unguided(networks, one, images, device)


@torch.inference_mode()
@float32_kept()
def prediction_note(denoiser: Denoiser, cell: Cell, images: Images, device: torch.device) -> str:
    """What a person should know of a network made elsewhere whose eps is farther from the noise in the data set's own
    images than no prediction at all, as where `model.prediction` is another than the network's; empty where it is not.
    """
    x, c = _some(images, IMAGES, device)
    c = c if cell.training.p_uncond < 1 else torch.full_like(c, images.num_classes)
    eps = noise(0, torch.arange(len(x), device=device), 0, x.shape[1:])
    for lam in (ENDS[0], *LOG_SNRS):
        lams = torch.full((len(x),), lam, device=device)
        try:
            found = denoiser(diffuse(x, lams, eps), lams, c)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):  # sampling can do with smaller batches, and a note is worth none
                raise
            return ""
        times = ((found - eps).square().mean() / eps.square().mean()).item()
        if times > NO_PREDICTION:
            return (
                f"network {cell.checkpoint_id}: at log-SNR {lam:g} its eps is {times:.1f} times as far from the noise "
                "as none at all would be (mean square): is it trained on these images, and model.prediction its own?"
            )
    return ""


def _some(images: Images, count: int, device: torch.device) -> tuple[Float[Tensor, "b ch h w"], Int[Tensor, "b"]]:
    """So many of the data set's images at most, from all over it, in [-1, 1], and their classes."""
    chosen = _from_all_over(images, count)
    pixels = torch.from_numpy(np.array(images.images[chosen]))
    return from_uint8(pixels.to(device)), torch.from_numpy(images.labels[chosen]).to(device)


def _from_all_over(images: Images, count: int) -> np.ndarray:
    return np.unique(np.linspace(0, len(images.images) - 1, count).astype(int))


def _check_denoiser(denoiser: Denoiser, cell: Cell, images: Images, device: torch.device) -> None:
    who = f"network {cell.checkpoint_id} (p_uncond {cell.training.p_uncond:g})"
    _check_average(denoiser, who)
    probe = _Probe(denoiser, images, device)
    for one in (probe, _Probe(denoiser, images, device, ENDS)):
        _check_steady(one, who)
    if isinstance(cell.model, Exact):  # classes may be equal, and far apart the null class acts as the nearest
        return
    p_uncond = cell.training.p_uncond
    if p_uncond < 1 and denoiser.num_classes > 1:
        _check_classes(probe, who)
        if p_uncond > 0:
            _check_null(probe, who)


def _check_steady(probe: "_Probe", who: str) -> None:
    found = probe.call(0)
    if not found.isfinite().all():
        raise UserError(f"{who}: gives values that are not finite; look at its weights")
    if probe.distance(found, probe.call(0)) > ROUNDING:
        why = "dropout is active, or it draws random numbers"
        raise UserError(
            f"{who}: gives other values when called again: {why}; set it to evaluation, and let it draw none"
        )
    alone = probe.alone(0)
    if any(probe.distance(alone, one[:1]) > BATCHED for one in (found, probe.beside(0, probe.classes - 1))):
        raise UserError(
            f"{who}: predicts otherwise for an image alone than beside another: batch norm is in training mode, or the "
            "images are mixed; set it to evaluation"
        )


def _check_classifier(classifier: NoisyClassifier, name: str, images: Images, device: torch.device) -> None:
    """It must know the data's own images better than chance when they are nearly clean."""
    who = f"noisy classifier {name}"
    _check_average(classifier, who)
    x, labels = _some(images, CLASSIFIED, device)
    found = torch.cat(in_parts(classifier, x, torch.full((len(x),), NEARLY_CLEAN, device=device))).argmax(dim=1)
    right, chance = (found == labels).float().mean().item(), labels.bincount().max().item() / len(labels)
    if images.num_classes > 1 and right <= chance:
        raise UserError(
            f"{who}: right for {right:.0%} of {len(x)} of the data set's own images at log-SNR {NEARLY_CLEAN:g}, "
            f"where one answer for all is right for {chance:.0%}; train it longer (classifier.training)"
        )


class _Probe:
    """A network's predictions at the same noisy images for each class."""

    def __init__(
        self, denoiser: Denoiser, images: Images, device: torch.device, log_snrs: tuple[float, ...] = LOG_SNRS
    ) -> None:
        self.denoiser, self.classes = denoiser, denoiser.num_classes
        indices = torch.arange(len(log_snrs), device=device)
        self.z = noise(0, indices, 0, images.images.shape[1:])
        self.lam = torch.tensor(log_snrs, device=device)

    def call(self, c: int) -> Float[Tensor, "b ch h w"]:
        return self._own(self.z, self.lam, torch.full((len(self.z),), c, device=self.z.device))

    def beside(self, c: int, other: int) -> Float[Tensor, "b ch h w"]:
        """What `call` gives, in one batch with another class: half types are rounded otherwise in batches of other
        sizes."""
        z, lam = torch.cat([self.z, self.z]), torch.cat([self.lam, self.lam])
        both = torch.tensor([c, other], device=self.z.device).repeat_interleave(len(self.z))
        return self._own(z, lam, both)[: len(self.z)]

    def alone(self, c: int) -> Float[Tensor, "1 ch h w"]:
        """What `call` gives the first image, without the others."""
        return self._own(self.z[:1], self.lam[:1], torch.full((1,), c, device=self.z.device))

    def _own(self, z: Tensor, lam: Tensor, c: Tensor) -> Tensor:
        return self.denoiser(z, lam, c).clone()  # it may give the same memory each time

    def distance(self, a: Tensor, b: Tensor) -> float:
        """|a - b| / |a|."""
        return ((a - b).norm() / a.norm().clamp(min=1e-12)).item()

    def few(self) -> list[int]:
        """The first two classes and the last two: what is out by one is found there."""
        return sorted({0, 1, self.classes - 2, self.classes - 1} & set(range(self.classes)))

    def nearest(self, c: int) -> list[int]:
        """The classes whose predictions of one image are nearest to that of `c`, the nearest first; equal ones may
        differ by rounding here, as they are in batches."""
        where, wanted = self.z.device, self.alone(c)
        apart = []
        for some in torch.arange(self.classes, device=where).split(CLASSES_AT_ONCE):
            z, lam = self.z[:1].repeat(len(some), 1, 1, 1), self.lam[:1].repeat(len(some))
            for eps in in_parts(self._own, z, lam, some):
                apart.append((eps - wanted).flatten(1).norm(dim=1))
        return torch.cat(apart).argsort()[:NEAREST].tolist()


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
    nearest, c = min((probe.distance(null, probe.call(c)), c) for c in probe.nearest(probe.classes))
    if nearest < SAME:
        raise UserError(
            f"{who}: its null class acts as class {c}: their eps differ by {nearest:.1e} of their size; "
            f"the null class has the id {probe.classes}"
        )


def _check_unguided(networks: Networks, cell: Cell, images: Images, device: torch.device) -> None:
    """w = 0, alone and beside another strength in one batch, is the network of the branch; a cell at w = 0 may have no
    classifier for another strength."""
    branch = BRANCHES[cell.sampling.on](networks.denoiser)
    probe = _Probe(branch, images, device)
    has_null = 0 < cell.training.p_uncond < 1
    if cell.training.p_uncond == 1 and cell.sampling.on == "conditional":
        return
    c = torch.zeros(len(probe.z), dtype=torch.int64, device=device)
    strengths = torch.arange(len(c), device=device) * float(has_null)  # the first is 0
    rule = cell.sampling.guidance
    tried: list[tuple[float | Tensor, Tensor]] = [(0.0, probe.call(0))]
    if rule != "classifier" or networks.classifier is not None:
        both = rule == "cfg" and has_null
        tried.append((strengths, probe.beside(0, probe.classes) if both else tried[0][1]))
    for w, wanted in tried:
        found = GUIDANCES[rule](replace(networks, denoiser=branch), c, w)(probe.z, probe.lam)
        apart = probe.distance(wanted[:1], found[:1])
        if apart > ROUNDING:
            who = f"network {cell.checkpoint_id} (p_uncond {cell.training.p_uncond:g})"
            raise UserError(f"{who}: guidance {rule} at w = 0 differs from the {cell.sampling.on} eps by {apart:.1e}")


def _check_average(denoiser: Denoiser | NoisyClassifier, who: str) -> None:
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


def check_extractor(extractor: FeatureExtractor, images: Images) -> Features:
    """Probes the extractor with some of the data set's images; returns their features."""
    chosen = _from_all_over(images, IMAGES)
    pixels = np.array(images.images[chosen])
    found = extractor(torch.from_numpy(pixels))
    if (pixels != pixels[:1]).any() and (found.pooled == found.pooled[:1]).all():
        raise UserError(
            f"evaluation.features: {extractor.id} gives the same features for {len(chosen)} images of the data set: "
            "its weights are not those of a working network"
        )
    return found
