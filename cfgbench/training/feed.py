"""What training sees: an endless order of the images, and what is drawn for each place in it.

Place p of the order decides which image comes there, whether it is mirrored, whether its class is dropped, its log-SNR
and its noise. So the batch may be divided among processes, or seen in smaller parts, and stays the same.
"""

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cfgbench.data import Images
from cfgbench.diffusion.sampler import from_uint8
from cfgbench.diffusion.schedule import log_snr
from cfgbench.diffusion.streams import noise, uniforms
from cfgbench.spec import Training

HELD_ON_DEVICE = 1 << 30
"""Bytes of images that are moved to the device once; more are fetched batch by batch while the last one is at work."""


class Batch(NamedTuple):
    """Images of a step: pixels [b, ch, h, w] uint8, labels [b], places [b] in the order. The places stay on the host,
    where nobody has to wait for them."""

    pixels: Tensor
    labels: Tensor
    places: Tensor

    def parts(self, size: int) -> "list[Batch]":
        """The same in parts of at most so many images."""
        return [Batch(*part) for part in zip(*(tensor.split(size) for tensor in self), strict=True)]


class Feed:
    """The images of step 0, 1, ...: `share` is this process's part of each batch."""

    def __init__(self, images: Images, training: Training, share: range, device: torch.device) -> None:
        self.images, self.training, self.share, self.device = images, training, share, device
        self.seed = seed_of(training.seed, "noise", 0)
        self.labels = torch.from_numpy(images.labels)
        held = images.images.nbytes <= HELD_ON_DEVICE
        self.pixels = torch.from_numpy(np.array(images.images)).to(device) if held else None
        on_gpu = device.type == "cuda"
        number = torch.cuda.current_device() if on_gpu and device.index is None else device.index
        # memory is pinned for the thread's own GPU, else for the first one
        self._ahead = ThreadPoolExecutor(1, "feed", torch.cuda.set_device if on_gpu else None, (number,) * on_gpu)
        self._next: tuple[int, Future] | None = None

    def batch(self, step: int) -> Batch:
        """This process's part of a step."""
        of_step = self._places(step)
        places = torch.arange(of_step.start, of_step.stop)
        if self.pixels is not None:
            chosen = self._chosen(step)
            labels = self.labels[chosen].to(self.device, non_blocking=True)
            return Batch(self.pixels[chosen.to(self.device, non_blocking=True)], labels, places)
        fetched = self._next[1] if self._next and self._next[0] == step else self._ahead.submit(self._fetch, step)
        self._next = step + 1, self._ahead.submit(self._fetch, step + 1)
        pixels, labels = fetched.result()
        return Batch(pixels.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True), places)

    def draw(self, pixels: Tensor, labels: Tensor, places: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Algorithm 1, lines 1 to 4: x in [-1, 1], c with the null class in places, lam and eps."""
        places = places.to(self.device, non_blocking=True)
        u = uniforms(self.seed, places)
        x = from_uint8(pixels)
        if self.images.flips:
            x = torch.where((u[:, 0] < 0.5)[:, None, None, None], x.flip(-1), x)
        c = torch.where(u[:, 1] < self.training.p_uncond, self.images.num_classes, labels)
        return x, c, log_snr(u[:, 2]).float(), noise(self.seed, places, 1, tuple(x.shape[1:]))

    def close(self) -> None:
        """Stops fetching ahead."""
        self._ahead.shutdown(cancel_futures=True)

    def _places(self, step: int) -> range:
        first = step * self.training.batch_size
        return range(first + self.share.start, first + self.share.stop)

    def _chosen(self, step: int) -> Tensor:
        return order(self.training.seed, len(self.labels), self._places(step))

    def _fetch(self, step: int) -> tuple[Tensor, Tensor]:
        chosen = self._chosen(step)
        pixels, labels = torch.from_numpy(self.images.images[chosen.numpy()]), self.labels[chosen]
        return (pixels.pin_memory(), labels.pin_memory()) if self.device.type == "cuda" else (pixels, labels)


def order(seed: int, n: int, places: range) -> Tensor:
    """The images at these places of an endless order that visits each of n images once an epoch."""
    epochs = range(places.start // n, (places.stop - 1) // n + 1)
    shares = ((epoch, slice(max(0, places.start - epoch * n), places.stop - epoch * n)) for epoch in epochs)
    return torch.cat([_permutation(seed, n, epoch)[share] for epoch, share in shares])


@lru_cache(maxsize=2)
def _permutation(seed: int, n: int, epoch: int) -> Tensor:
    return torch.randperm(n, generator=generator(seed, "epoch", epoch))


def generator(seed: int, purpose: str, count: int) -> torch.Generator:
    """A generator of its own for each purpose."""
    return torch.Generator().manual_seed(seed_of(seed, purpose, count))


def seed_of(seed: int, purpose: str, count: int) -> int:
    """A seed below 2**56 for each purpose of a seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}/{count}".encode()).digest()[:7])
