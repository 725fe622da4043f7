"""A network made ready for many calls: the same function, in less time."""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cfgbench.diffusion.guidance import Denoiser
from cfgbench.models.adm import DiscreteTime
from cfgbench.models.precision import HALF, autocast, out_of_memory
from cfgbench.models.unet import UNet

SECONDS_TO_COMPILE = {"cpu": 60.0, "cuda": 90.0}
"""What torch.compile takes, about: 40 to 80 s for U-Nets of 0.1 to 8 million parameters on two cores."""
SAVED = {"cpu": 0.12, "cuda": 0.4}
"""Of a call's time, by compiling it: 9 to 16 % on a processor, where group norm is compiled anyway (`native`)."""
OPTIONS = {"realize_reads_threshold": 32, "realize_opcount_threshold": 200}
"""All between two convolutions is to be one loop: by default Inductor cuts it where many numbers come together."""
SECONDS_TO_MEASURE = 3.0


def hold_half(network: nn.Module, precision: str) -> None:
    """Keeps the weights of convolutions and products in the half type, to which autocast would convert them at each
    call; results are the same, bit for bit."""
    for module in network.modules():
        if precision in HALF and isinstance(module, nn.Conv2d | nn.Linear):
            module.to(HALF[precision])
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)


class Compiled:
    """A denoiser through torch.compile, which makes code for one batch size: larger batches are split, smaller ones
    filled up.

    Where it does not compile, it is called as it is.
    """

    def __init__(self, network: nn.Module, batch: int) -> None:
        self.num_classes, self.batch = network.num_classes, batch
        self._plain, self._worked = network, False
        self._call = torch.compile(network, dynamic=False, options=OPTIONS if _device(network).type == "cpu" else None)

    def __call__(self, z: Tensor, lam: Tensor, c: Tensor) -> Tensor:
        try:
            found = self._filled(z, lam, c)
        except Exception as error:  # compilers fail in many ways
            if self._worked or out_of_memory(error):
                raise
            self._call = self._plain
            return self._plain(z, lam, c)
        self._worked = True
        return found

    def _filled(self, z: Tensor, lam: Tensor, c: Tensor) -> Tensor:
        batch = min(self.batch, self._plain.at_once(z)) if isinstance(self._plain, UNet | DiscreteTime) else self.batch
        missing = batch - len(z)
        if missing == 0:
            return self._call(z, lam, c)
        if missing < 0:
            parts = zip(*(tensor.split(batch) for tensor in (z, lam, c)), strict=True)
            return torch.cat([self._filled(*part) for part in parts])
        filled = (torch.cat([part, part[-1:].expand(missing, *part.shape[1:])]) for part in (z, lam, c))
        return self._call(*filled)[: len(z)]


@dataclass(frozen=True)
class Choice:
    """Whether to compile, and why, for a person to read."""

    compiled: bool
    reason: str


def choose(
    network: nn.Module, images: int, shape: tuple[int, ...], batch: int, precision: str, asked: bool | None
) -> Choice:
    """Compiles where so many images' calls, each as long as one measured now, lose more than compiling takes.

    `batch` images go through at once; `asked` is what the user wants, None leaves it to this function.
    """
    device = _device(network)
    if asked is not None:
        return Choice(asked, "as asked")
    if not isinstance(network, UNet | DiscreteTime):
        return Choice(False, "it was made elsewhere; --compile tries it")
    if device.type == "cpu" and not shutil.which(os.environ.get("CXX", "g++")):  # the one that Inductor calls
        return Choice(False, "there is no C++ compiler")
    if device.type not in SAVED:
        return Choice(False, f"not known to pay on {device.type}")
    ahead = images * pass_seconds(network, shape, batch, precision, device)
    saved, cost = SAVED[device.type] * ahead, SECONDS_TO_COMPILE[device.type]
    return Choice(
        saved > cost,
        f"{images:,} network passes of an image ahead take {ahead:.0f} s as it is; compiling would save about "
        f"{saved:.0f} s and take {cost:.0f} s",
    )


def pass_seconds(network: nn.Module, shape: tuple[int, ...], batch: int, precision: str, device: torch.device) -> float:
    """Of one image's pass through the network, `batch` at once where that does not take long."""

    @torch.inference_mode()
    def work(b: int) -> None:
        z, lam = torch.zeros(b, *shape, device=device), torch.zeros(b, device=device)
        with autocast(precision, device):
            network(z, lam, torch.zeros(b, dtype=torch.int64, device=device))

    return seconds_an_image(work, batch, device)


def seconds_an_image(work: Callable[[int], None], largest: int, device: torch.device) -> float:
    """Of `work(b)` for the largest batch b that is quick enough to be tried, and fits: doubled as long as it does."""
    b, began = 1, time.monotonic()
    work(b)  # what is done once is not counted
    while True:
        start = time.monotonic()
        try:
            work(b)
        except (MemoryError, RuntimeError) as error:
            if b == 1 or not out_of_memory(error):
                raise
            return seconds
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        now = time.monotonic()
        seconds = (now - start) / b
        if 2 * b > largest or now - began + 2 * (2 * (now - start)) > SECONDS_TO_MEASURE:
            return seconds
        b *= 2


def prepare(network: Denoiser, precision: str, *, compiled: bool, batch: int) -> Denoiser:
    """The denoiser as it is to be sampled. The weights of networks made elsewhere are left as they are."""
    if not isinstance(network, nn.Module):
        return network
    if isinstance(network, UNet | DiscreteTime):
        hold_half(network, precision)
    return Compiled(network, batch) if compiled else network


def _device(network: nn.Module) -> torch.device:
    return next((tensor.device for tensor in network.parameters()), torch.device("cpu"))
