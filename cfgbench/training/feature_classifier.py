"""Trains the classifiers whose features measure; those that we ship by
`python -m cfgbench.training.feature_classifier digits --out FILE`."""

import argparse
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cfgbench import data
from cfgbench.data import Images
from cfgbench.diffusion.sampler import from_uint8
from cfgbench.errors import UserError
from cfgbench.models.feature_classifier import FeatureClassifier, accuracy, save
from cfgbench.models.precision import autocast, resolve_precision
from cfgbench.progress import Lines, Progress, silent
from cfgbench.spec import Dataset
from cfgbench.tensors import check_readable, load_tensors, save_tensors
from cfgbench.training.state import SECONDS_BETWEEN_SAVES, averages, averages_like, check_fit, restore_averages

RECIPE = 1
"""Raised when training would give other weights: it stands in the identity of what is measured with them."""

BATCH = 128
SECONDS_TO_MEASURE = 1.0
WIDTHS = {8: 32}
"""First level's width by image side; 24 for the others: 64 features for 8x8, 96 for 28x28, 192 for 64x64."""


def train_classifier(
    images: Images, *, device: torch.device, begun_in: Path | None = None, progress: Progress = silent
) -> FeatureClassifier:
    """A classifier of these images: AdamW, one cycle of the learning rate, shifts (and flips where they are allowed).

    About 360,000 images are seen, in no fewer than 6 epochs and no more than 60. Every 30 s all that is needed to go on
    is kept in the file `begun_in`, and a training that was stopped goes on from there. The same machine gives the same
    weights with as many threads, stopped or not; a GPU to rounding.
    """
    training, steps, saved = _Training(images, device), steps_of(images), time.monotonic()
    if begun_in is not None:
        training.load(begun_in)
    for loss in training.losses():
        if training.step % 50 == 1 or training.step == steps:
            progress(f"train the classifier of {images.name}", training.step, steps, f"loss {loss.item():.3f}")
        if begun_in is not None and time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
            training.save(begun_in)
            saved = time.monotonic()
    return training.network.cpu().eval().requires_grad_(False)


def seconds_of_training(images: Images, device: torch.device) -> float:
    """How long `train_classifier` will take, from some of its own steps; the first, which is slow, is not counted."""
    losses = _Training(images, device).losses()
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


class _Training:
    """A network, and how many of its steps are made."""

    def __init__(self, images: Images, device: torch.device) -> None:
        self._images, self._device, self._generator = images, device, torch.Generator().manual_seed(0)
        self.network = _initialised(classifier_of(images), self._generator).to(device)
        self.step = 0
        self._optimizer = torch.optim.AdamW(self.network.parameters(), weight_decay=0.05)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(self._optimizer, max_lr=4e-3, total_steps=steps_of(images))
        self._precision = resolve_precision("auto", device)
        self._facts = {"recipe": RECIPE, "data": images.content, "flips": images.flips, "precision": self._precision}

    def losses(self) -> Iterator[Tensor]:
        """Of the steps that are left: asking for one makes a step."""
        for draw in itertools.islice(_draws(self._images, self._generator), self.step, None):
            pixels, labels = (
                torch.from_numpy(of[draw.chosen.numpy()]) for of in (self._images.images, self._images.labels)
            )
            with autocast(self._precision, self._device):
                logits = self.network(_augmented(pixels.to(self._device), draw))[1]
                loss = F.cross_entropy(logits, labels.to(self._device))
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._optimizer.step()
            self._schedule.step()
            self.step += 1
            yield loss.detach()

    def save(self, path: Path) -> None:
        """Writes all that `load` needs to go on, whole or not at all."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        save_tensors(path, tensors | averages(self.network, self._optimizer), self._facts | {"step": self.step})

    def load(self, path: Path) -> None:
        """Goes on from what `save` wrote; from the beginning where that is not there, damaged, of other images or in
        another precision. Raises UserError where it may not be read."""
        check_readable(path)
        held = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        try:
            tensors, facts = load_tensors(path)
            step = facts.pop("step")
            if facts != self._facts or not 0 < step <= steps_of(self._images):
                return
            check_fit(tensors, held | averages_like(self.network))
        except (UserError, KeyError, TypeError, ValueError):
            return
        for name, value in held.items():
            value.copy_(tensors[name])
        restore_averages(self.network, self._optimizer, tensors)
        self._optimizer.step()  # without gradients it does nothing, but that the schedule waits for a first step
        while self.step < step:
            self._schedule.step()
            self.step += 1


class _Draw(NamedTuple):
    """What chance decides of a step: its images, their common shift in pixels, and which are mirrored."""

    chosen: Tensor
    down: int
    right: int
    mirrored: Tensor | None


def _draws(images: Images, generator: torch.Generator) -> Iterator[_Draw]:
    """Of all steps in order; those that were made are drawn again by a training that goes on."""
    reach = _reach(images.images.shape[-1])
    for _ in range(_epochs(images)):
        for chosen in torch.randperm(len(images.labels), generator=generator).split(BATCH):
            down, right = torch.randint(-reach, reach + 1, (2,), generator=generator).tolist()
            mirrored = torch.rand(len(chosen), generator=generator) < 0.5
            yield _Draw(chosen, down, right, mirrored if images.flips else None)


def _initialised(network: FeatureClassifier, generator: torch.Generator) -> FeatureClassifier:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
    nn.init.zeros_(network.head.bias)
    return network


def _reach(side: int) -> int:
    """By how many pixels at most images are shifted: a fourteenth of their side."""
    return max(1, side // 14)


def _augmented(pixels: Tensor, draw: _Draw) -> Tensor:
    """The batch in [-1, 1], shifted and mirrored as drawn."""
    side = pixels.shape[-1]
    top, left = (_reach(side) + shift for shift in (draw.down, draw.right))
    x = F.pad(from_uint8(pixels), (_reach(side),) * 4, mode="replicate")[..., top : top + side, left : left + side]
    if draw.mirrored is None:
        return x
    return torch.where(draw.mirrored.to(x.device)[:, None, None, None], x.flip(-1), x)


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
