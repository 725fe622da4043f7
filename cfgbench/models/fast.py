"""A network made ready for many calls: the same function, in less time."""

from collections.abc import Callable
from itertools import chain

import torch
from torch import Tensor, nn

from cfgbench.diffusion.guidance import Denoiser
from cfgbench.errors import reason
from cfgbench.models import native_group_norm
from cfgbench.models.adm import DiscreteTime
from cfgbench.models.compile_choice import (
    COMPILE_COSTS,
    GPU_OPTIONS,
    OPTIONS,
    CompileDecision,
    compiled,
    decision,
    no_compiler,
)
from cfgbench.models.cuda_graphs import Graphed
from cfgbench.models.pace import Pace
from cfgbench.models.precision import HALF, autocast, out_of_memory
from cfgbench.models.unet import UNet

OURS = UNet, DiscreteTime
"""Networks whose calls do the same whatever the tensors hold."""


def lay_out_weights(network: nn.Module, precision: str) -> None:
    """Convolutions' weights with channels last; in a half type those of products too are kept in it, to which autocast
    would convert them at each call: in bf16 results are the same, bit for bit."""
    for module in network.modules():
        if precision in HALF and isinstance(module, nn.Conv2d | nn.Linear):
            module.to(HALF[precision])
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)


class Compiled:
    """A denoiser through torch.compile, which makes code for one batch size: larger batches are split, smaller ones
    filled up, and those that would not fill a third of it called as they are.

    Where it does not compile, it is called as it is, and `failed` says why.
    """

    def __init__(self, network: nn.Module, batch: int) -> None:
        self.num_classes, self.batch, self.failed = network.num_classes, batch, ""
        self._plain, self._worked = network, False
        native_group_norm.ask_once()
        options = GPU_OPTIONS if device_of(network).type == "cuda" else OPTIONS
        self._call = graphed(compiled(network, options), network)
        self._as_it_is = graphed(network, network)

    def __call__(self, z: Tensor, lam: Tensor, c: Tensor) -> Tensor:
        try:
            return self._filled(z, lam, c)
        except Exception as error:  # compilers fail in many ways
            if self._worked or out_of_memory(error):
                raise
            self.failed = reason(error)
            self._call = self._as_it_is
            return self._call(z, lam, c)

    def attempt(self, shape: tuple[int, ...], precision: str) -> None:
        """Compiles now, for images [*shape]; where that fails `failed` says why."""
        device = device_of(self._plain)
        with torch.inference_mode(), autocast(precision, device):
            z = torch.zeros(1, *shape, device=device)
            z = z.expand(self._size(z), *shape).clone()
            lam, c = torch.zeros(len(z), device=device), torch.zeros(len(z), dtype=torch.int64, device=device)
            try:
                self(z, lam, c)
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):  # then batches are halved, when they are sampled
                    raise

    def _size(self, z: Tensor) -> int:
        """Of the batches that are compiled."""
        return min(self.batch, self._plain.at_once(z)) if isinstance(self._plain, OURS) else self.batch

    def _filled(self, z: Tensor, lam: Tensor, c: Tensor) -> Tensor:
        batch = self._size(z)
        missing = batch - len(z)
        if missing == 0:
            found = self._call(z, lam.clone(), c.clone())  # views, and what is older, would be compiled for anew
            self._worked = True
            return found
        if missing < 0:
            parts = zip(*(tensor.split(batch) for tensor in (z, lam, c)), strict=True)
            return torch.cat([self._filled(*part) for part in parts])
        if missing > 2 * len(z):
            return self._as_it_is(z, lam, c)
        filled = (torch.cat([part, part[-1:].expand(missing, *part.shape[1:])]) for part in (z, lam, c))
        return self._filled(*filled)[: len(z)]


class Replayed:
    """A denoiser on a GPU, as it is, launched as one."""

    def __init__(self, network: nn.Module) -> None:
        self.num_classes, self._call = network.num_classes, Graphed(network)

    def __call__(self, z: Tensor, lam: Tensor, c: Tensor) -> Tensor:
        return self._call(z, lam, c)


def forget(denoiser: Denoiser) -> None:
    """Gives back the memory of what a GPU has recorded of it."""
    for call in getattr(denoiser, "__dict__", {}).values():
        if isinstance(call, Graphed):
            call.forget()


def shrink(denoiser: Denoiser, batch: int) -> None:
    """Takes at most `batch` images at a time from here, which else would be filled up to as many as before."""
    forget(denoiser)
    if isinstance(denoiser, Compiled):
        denoiser.batch = min(denoiser.batch, batch)


def graphed(call: Callable[..., Tensor], network: nn.Module) -> Callable[..., Tensor]:
    """The network's call, on a GPU as one recorded graph where it is known to do the same whatever the tensors hold."""
    return Graphed(call) if device_of(network).type == "cuda" and isinstance(network, OURS) else call


def choose(network: nn.Module, images: int, pace: Callable[[], Pace]) -> CompileDecision:
    """Whether to compile a network through which so many images are to pass, and why: whether that saves more time, at
    the `pace` of the uncompiled network, than it takes. `pace` is called only where it decides."""
    device = device_of(network)
    if not isinstance(network, OURS):
        return CompileDecision(False, "it was made elsewhere; --compile tries it")
    if no_compiler(device):
        return CompileDecision(False, "there is no C++ compiler")
    if device.type not in COMPILE_COSTS:
        return CompileDecision(False, f"not known to pay on {device.type}")
    return decision(images * pace().seconds, f"{images:,} network passes of an image", device)


def for_sampling(network: Denoiser, precision: str, batch: int | None = None) -> Denoiser:
    """The denoiser as it is to be sampled, compiled where a batch says for how many images. The weights of networks
    made elsewhere are left as they are."""
    if not isinstance(network, nn.Module):
        return network
    ours = isinstance(network, OURS)
    if ours:
        lay_out_weights(network, precision)
    if batch is not None:
        return Compiled(network, batch)
    return Replayed(network) if ours and device_of(network).type == "cuda" else network


def device_of(network: nn.Module) -> torch.device:
    """Where its weights are; of one that has none, its constants."""
    held = chain(network.parameters(), network.buffers())
    return next((tensor.device for tensor in held), torch.device("cpu"))
