"""Trains the classifiers whose features measure; those that we ship by
`python -m cfgbench.training.feature_classifier digits --out FILE`."""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cfgbench import data
from cfgbench.data import Images
from cfgbench.diffusion.sampler import from_uint8
from cfgbench.models.feature_classifier import FeatureClassifier, accuracy, save
from cfgbench.models.precision import autocast, resolve_precision
from cfgbench.progress import Lines, Progress, silent
from cfgbench.spec import Dataset

RECIPE = 1
"""Raised when training would give other weights: it stands in the identity of what is measured with them."""

BATCH = 128
SECONDS_TO_MEASURE = 1.0
WIDTHS = {8: 32}
"""First level's width by image side; 24 for the others: 64 features for 8x8, 96 for 28x28, 192 for 64x64."""


def train_classifier(images: Images, *, device: torch.device, progress: Progress = silent) -> FeatureClassifier:
    """A classifier of these images: AdamW, one cycle of the learning rate, shifts (and flips where they are allowed).

    About 360,000 images are seen, in no fewer than 6 epochs and no more than 60. The same machine gives the same
    weights with as many threads; a GPU to rounding.
    """
    network, losses = _training(images, device)
    steps = steps_of(images)
    for step, loss in enumerate(losses):
        if step % 50 == 0 or step + 1 == steps:
            progress(f"train the classifier of {images.name}", step + 1, steps, f"loss {loss.item():.3f}")
    return network.cpu().eval().requires_grad_(False)


def seconds_of_training(images: Images, device: torch.device) -> float:
    """How long `train_classifier` will take, from some of its own steps; the first, which is slow, is not counted."""
    _, losses = _training(images, device)
    next(losses).item()  # what is asked for waits for a GPU
    began, count = time.monotonic(), 0
    while time.monotonic() - began < SECONDS_TO_MEASURE and (loss := next(losses, None)) is not None:
        loss.item()
        count += 1
    return steps_of(images) * (time.monotonic() - began) / max(1, count)


def steps_of(images: Images) -> int:
    """Batches that `train_classifier` sees."""
    return _epochs(images) * -(-len(images.images) // BATCH)


def classifier_of(images: Images) -> FeatureClassifier:
    """The network for these images, as torch initialises it."""
    _, channels, side, _ = images.images.shape
    return FeatureClassifier(channels, side, images.num_classes, WIDTHS.get(side, 24))


def _epochs(images: Images) -> int:
    return min(60, max(6, round(360_000 / len(images.images))))


def _training(images: Images, device: torch.device) -> tuple[FeatureClassifier, Iterator[Tensor]]:
    """A network, and the losses of its steps: asking for one makes a step."""
    generator = torch.Generator().manual_seed(0)
    network = _initialised(classifier_of(images), generator).to(device)
    return network, _steps(network, images, generator, device)


def _steps(
    network: FeatureClassifier, images: Images, generator: torch.Generator, device: torch.device
) -> Iterator[Tensor]:
    pixels, labels = torch.from_numpy(images.images).to(device), torch.from_numpy(images.labels).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps_of(images))
    precision = resolve_precision("auto", device)
    for chosen in (
        batch for _ in range(_epochs(images)) for batch in torch.randperm(len(labels), generator=generator).split(BATCH)
    ):
        x = _augmented(pixels[chosen.to(device)], generator, flips=images.flips)
        with autocast(precision, device):
            loss = F.cross_entropy(network(x)[1], labels[chosen.to(device)])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        yield loss.detach()


def _initialised(network: FeatureClassifier, generator: torch.Generator) -> FeatureClassifier:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
    nn.init.zeros_(network.head.bias)
    return network


def _augmented(pixels: Tensor, generator: torch.Generator, *, flips: bool) -> Tensor:
    """The batch in [-1, 1], shifted by up to a fourteenth of its side; half of it mirrored where that is allowed."""
    x = from_uint8(pixels)
    reach = max(1, x.shape[-1] // 14)
    down, right = torch.randint(-reach, reach + 1, (2,), generator=generator).tolist()
    x = F.pad(x, (reach,) * 4, mode="replicate")
    side = pixels.shape[-1]
    x = x[..., reach + down : reach + down + side, reach + right : reach + right + side]
    mirrored = torch.rand(len(x), generator=generator).to(x.device) < 0.5
    return torch.where(mirrored[:, None, None, None], x.flip(-1), x) if flips else x


def train_and_test(name: str) -> tuple[Images, Images, str]:
    """The images that the shipped weights learn from, those they are tested on, and how the two were parted."""
    if name == "fashion-mnist":
        sets = [data.load(Dataset(name="fashion-mnist", split=split)) for split in ("train", "test")]
        return sets[0], sets[1], "the data set's own test images"
    digits = data.load(Dataset(name="digits"))
    held_out = torch.arange(len(digits.labels)).numpy() % 5 == 0
    parts = [
        Images(digits.name, digits.images[part], digits.labels[part], digits.class_names, flips=False)
        for part in (~held_out, held_out)
    ]
    return parts[0], parts[1], "every fifth image held out"


def main() -> None:
    """Trains weights as the package ships them, says how good they are on images they never saw, writes the file.

    On another machine they are others, and so are the FIDs that they give: the package reads its own only.
    """
    parser = argparse.ArgumentParser(prog="python -m cfgbench.training.feature_classifier", description=main.__doc__)
    parser.add_argument("name", choices=["digits", "fashion-mnist"])
    parser.add_argument("--out", type=Path, required=True, help="where to write them")
    arguments = parser.parse_args()
    learned, unseen, split = train_and_test(arguments.name)
    network = train_classifier(learned, device=torch.device("cpu"), progress=Lines())
    right = accuracy(network, torch.from_numpy(unseen.images), torch.from_numpy(unseen.labels))
    facts = {
        "accuracy": right,
        "tested_on": f"{split}: {len(unseen.labels)}",
        "recipe": RECIPE,
        "data": learned.content,
    }
    save(arguments.out, network, **facts)
    print(f"{arguments.out}: test accuracy {right:.2%} ({split}: {len(unseen.labels)} images)")


if __name__ == "__main__":
    main()
