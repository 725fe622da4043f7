"""The small classifier whose features measure samples of data where the Inception network would be out of place."""

import math
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cfgbench.diffusion.sampler import from_uint8
from cfgbench.errors import UserError, reason
from cfgbench.models.meta_device import shapes_only
from cfgbench.tensors import load_tensors, save_tensors

DIGESTS = {
    "digits": "ab818ae434d37eae014ac90e131ff76da17d35296c58d96ec9a36c0d0e74c55e",
    "fashion-mnist": "92705cefc9dfc487a1bb094437c0e7c4a2389385cfbbbfc4261f425a1e565436",
}
"""Of the shipped weights, which are older than digests in files."""


SMALLEST = 4
"""The side of an image whose last level has more than one position."""


class FeatureClassifier(nn.Module):
    """Images [b, channels, side, side] in [-1, 1] to pooled features [b, d] and logits [b, classes].

    Two 3x3 convolutions with batch norm a level; each level halves the side and doubles the width; pooled features are
    the mean over positions. Sides from SMALLEST on.
    """

    def __init__(self, channels: int, side: int, classes: int, width: int) -> None:
        super().__init__()
        self.arguments = {"channels": channels, "side": side, "classes": classes, "width": width}
        self.side = side
        layers: list[nn.Module] = []
        for level in range(levels(side)):
            outputs = width * 2**level
            for inputs in (channels, outputs):
                convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
                layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
            channels = outputs
            layers.append(nn.MaxPool2d(2) if level + 1 < levels(side) else nn.AdaptiveAvgPool2d(1))
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pooled = self.body(images).float()
        return pooled, self.head(pooled)


def levels(side: int) -> int:
    """As many levels as leave about 7 x 7 positions to the last, at least two."""
    return max(2, math.floor(math.log2(side / 7)) + 1)


def save(path: Path, network: FeatureClassifier, **facts: Any) -> None:
    """Writes weights, constructor arguments and facts (accuracy, split ...) to a safetensors file."""
    save_tensors(path, network.state_dict(), {"classifier": network.arguments} | facts)


def load(path: Path) -> FeatureClassifier:
    """Reads what `save` wrote, in evaluation mode. Raises UserError naming a file that is something else."""
    tensors, header = load_tensors(path, expected=DIGESTS.get(path.stem) if path == packaged(path.stem) else None)
    try:
        with shapes_only():  # what a header announces is not allocated
            network = FeatureClassifier(**header["classifier"])
        network.load_state_dict(tensors, assign=True)
        if any(value.is_meta or not value.isfinite().all() for value in network.state_dict().values()):
            raise ValueError("numbers that are not finite")
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise UserError(f"{path}: not a classifier ({reason(error)}); delete it") from None
    return network.eval().requires_grad_(False)


def packaged(name: str) -> Path:
    """The weights that the package ships for the data set of this name."""
    return Path(str(resources.files("cfgbench.models").joinpath("weights", f"{name}.safetensors")))


@torch.inference_mode()
def accuracy(network: FeatureClassifier, images: Tensor, labels: Tensor) -> float:
    """The share of images (uint8 [n, ch, side, side]) whose largest logit is the label's."""
    right = 0
    for chunk, truth in zip(images.split(1000), labels.split(1000), strict=True):
        right += (network(from_uint8(chunk))[1].argmax(dim=1) == truth).sum().item()
    return right / len(labels)
