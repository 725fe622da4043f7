"""What looks at images: networks, or closed forms, whose pooled features and logits the metrics are made of."""

import io
import os
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Protocol

import torch
from jaxtyping import UInt8
from torch import Tensor

from cfgbench.diffusion.sampler import from_uint8
from cfgbench.errors import UserError, reason
from cfgbench.evaluation.features import FeatureExtractor, Features
from cfgbench.files import file_digest, open_regular
from cfgbench.models.inception import Body, Runner
from cfgbench.models.precision import float32_kept, in_parts, out_of_memory

OFFICIAL_DIGEST = "6726825d"
"""What the SHA-256 of the published network's weights begins with."""
OFFICIAL_FILE = f"weights-inception-2015-12-05-{OFFICIAL_DIGEST}.pth"
WEIGHTS_VARIABLE = "CFGBENCH_INCEPTION_WEIGHTS"
RESIZE = "tf1-bilinear-299"
"""Bilinear as TensorFlow 1 had it, corners not aligned and no antialias: the resize of the published protocol."""


class Extractor(FeatureExtractor, Protocol):
    """A FeatureExtractor with what those want to know who put images through it; here as of most."""

    at_once: int = 500
    """How many images are best given at a time."""
    note: str = ""
    """What a person should know of how it works; it may be decided on the way."""

    def check(self, shape: tuple[int, int, int]) -> None:
        """Raises ValueError for images of a shape (ch, h, w) at which it does not look."""


class ClassifierFeatures(Extractor):
    """The pooled features and logits of a classifier: a module from images [b, ch, side, side] in [-1, 1] to both.

    `channels` says how many it looks at, where that is known.
    With `crop`, larger images are cut to the middle `side` pixels, which undoes a border as Fashion-MNIST's; otherwise
    only images of that side are taken. Raises ValueError for others.
    """

    def __init__(
        self,
        network: Callable[[Tensor], tuple[Tensor, Tensor]],
        id: str,
        *,
        side: int,
        device: torch.device,
        channels: int | None = None,
        crop: bool = True,
    ) -> None:
        self.network = network.to(device).eval() if isinstance(network, torch.nn.Module) else network
        self.id, self.side, self.device, self.crop, self.channels = id, side, device, crop, channels

    def check(self, shape: tuple[int, int, int]) -> None:
        channels, *sides = shape
        if min(sides) < self.side or not (sides == [self.side] * 2 or self.crop):
            raise ValueError(f"{self.id} looks at {self.side} x {self.side} pixels, not {tuple(sides)}")
        if self.channels not in (None, channels):
            raise ValueError(f"{self.id} looks at {self.channels} channels, not {channels}")

    @torch.inference_mode()
    def __call__(self, images: UInt8[Tensor, "b ch h w"]) -> Features:
        self.check(images.shape[1:])
        top, left = (images.shape[2] - self.side) // 2, (images.shape[3] - self.side) // 2
        middle = images[:, :, top : top + self.side, left : left + self.side]
        with float32_kept():
            found = in_parts(lambda some: self.network(from_uint8(some.to(self.device))), middle)
        return Features(*map(torch.cat, zip(*found, strict=True)))


class Coordinates(Extractor):
    """Points that are kept as images: their coordinates in [-1, 1] are the features.

    `log_posterior` gives the logits [b, k] of points [b, d], in float64.
    """

    def __init__(self, log_posterior: Callable[[Tensor], Tensor], id: str, *, device: torch.device) -> None:
        self.log_posterior, self.id, self.device = log_posterior, id, device

    @torch.inference_mode()
    def __call__(self, images: UInt8[Tensor, "b ch h w"]) -> Features:
        x = from_uint8(images.to(self.device), torch.float64).flatten(1)
        return Features(x, self.log_posterior(x))


class Inception(Extractor):
    """The published FID network through torch-fidelity: its 2015 graph, its resize, features of the given layer.

    `layer` is 64, 192, 768 or 2048; logits (without bias, as the published evaluators have it) come on request.
    Weights come from `weights` (see `inception_weights`), else from torch-fidelity's own download. Raises UserError
    where there are none. Weights that are not the official file's say `unofficial` in the id.
    `fast` computes in bfloat16, which the id says too: it changes FID by a fraction of its error, and is another
    protocol. `compiled` is decided by the images `ahead` where it is None (see `Runner`), and changes rounding only.
    """

    def __init__(
        self,
        layer: int,
        weights: Path | None,
        device: torch.device,
        *,
        logits: bool,
        fast: bool = False,
        compiled: bool | None = None,
        ahead: int = 0,
    ) -> None:
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

        names = [str(layer), *(["logits_unbiased"] if logits else [])]
        try:
            if weights is not None:
                # the library unpickles anything: let a file that holds more than tensors fail here first
                with open_regular(weights) as file:
                    torch.load(file, map_location="cpu", weights_only=True)
            path = None if weights is None else str(weights)
            with redirect_stderr(io.StringIO()):  # a failed download is told in one line, ours
                network = FeatureExtractorInceptionV3("inception", names, feature_extractor_weights_path=path)
        except Exception as error:  # download, unpickling and missing keys fail in many ways
            if out_of_memory(error):
                raise
            why = reason(error, 120)
            raise UserError(
                f"inception weights {weights or 'download'}: {why}; fetch {URL_INCEPTION_V3} (SHA-256 begins "
                f"{OFFICIAL_DIGEST}) and name the file in evaluation.inception_weights, --inception-weights or "
                f"{WEIGHTS_VARIABLE}"
            ) from None
        dtype = torch.bfloat16 if fast else torch.float32
        body = Body(network, layer, dtype, logits=logits)
        self.runner = Runner(body, dtype, device, ahead=ahead, compiled=compiled)
        self.at_once = self.runner.at_once
        self.id = inception_id(layer, weights or _downloaded(), fast=fast)

    @property
    def note(self) -> str:
        """What was decided about compiling, and why; empty until it is."""
        return self.runner.note

    @torch.inference_mode()
    def __call__(self, images: UInt8[Tensor, "b ch h w"]) -> Features:
        return Features(*self.runner(images))


def inception_id(layer: int, weights: Path | None, *, fast: bool) -> str:
    """The id of the Inception network with the weights in this file; with the official ones where there is none yet."""
    digest = OFFICIAL_DIGEST if weights is None else file_digest(weights)[: len(OFFICIAL_DIGEST)]
    unofficial = "" if digest == OFFICIAL_DIGEST else "-unofficial"
    return f"inception-{layer}-{digest}{unofficial}-{RESIZE}{'-bf16' if fast else ''}"


def layer_of(name: str) -> int:
    """The layer of the Inception network, by its width, that `inception`, `inception-768` ... names."""
    return int(name.removeprefix("inception").removeprefix("-") or 2048)


def inception_weights(path: Path | None) -> Path | None:
    """The file that is to be used: the one that is named, else CFGBENCH_INCEPTION_WEIGHTS, else torch-fidelity's
    download where that is there already."""
    named = os.environ.get(WEIGHTS_VARIABLE)
    if path is None and named:
        return Path(named)
    return path or (_downloaded() if _downloaded().exists() else None)


def _downloaded() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / OFFICIAL_FILE
