"""Algorithm 1 (Ho & Salimans 2022): one network, trained jointly with and without its class."""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cfgbench.data import Images
from cfgbench.diffusion.schedule import diffuse, log_snr
from cfgbench.files import write_atomically
from cfgbench.models.checkpoint import load_tensors, save_tensors
from cfgbench.models.precision import autocast
from cfgbench.models.unet import UNet
from cfgbench.progress import Progress, silent
from cfgbench.spec import Model, Training

SECONDS_BETWEEN_SAVES = 30.0


class TrainingFailed(RuntimeError):
    """The loss is no longer a number."""


@dataclass
class State:
    """All that training goes on from. `losses` holds one number a step; those still to come are 0."""

    network: UNet
    ema: list[Tensor]
    optimizer: torch.optim.AdamW
    losses: Tensor
    step: int = 0


def train(
    images: Images,
    model: Model,
    training: Training,
    path: Path,
    *,
    device: torch.device,
    precision: str,
    progress: Progress = silent,
) -> None:
    """Trains a network and writes its EMA weights to `path`, and the loss of each step to `path` with .losses.csv.

    Goes on from `path` with .partial, where an earlier run left one; the weights are then those of an uninterrupted
    run. Raises TrainingFailed when the loss is not finite, UserError for a file that cannot be read or written.
    """
    image = {
        "image_channels": images.images.shape[1],
        "side": images.images.shape[2],
        "num_classes": images.num_classes,
    }
    header = {"model": model.model_dump(), "training": training.model_dump(), "image": image, "precision": precision}
    partial = path.with_suffix(".partial")
    with torch.random.fork_rng():  # building a network draws from the global state
        network = UNet(model, **image)
    state = _begin(network, training, device)
    if partial.exists():
        _load(partial, state, header)
    pixels, labels = torch.from_numpy(images.images).to(device), torch.from_numpy(images.labels).to(device)
    began, first, saved = time.monotonic(), state.step, time.monotonic()
    try:
        while state.step < training.steps:
            _step(state, pixels, labels, training, flips=images.flips, precision=precision)
            now = time.monotonic()
            if now - saved > SECONDS_BETWEEN_SAVES and state.step < training.steps:
                _save(partial, state, header)
                saved = time.monotonic()
            if state.step % 20 == 0 or state.step == training.steps:
                rate = (state.step - first) * training.batch_size / (now - began)
                note = f"loss {_recent_loss(state):.4f}, {rate:.0f} images/s"
                progress(f"train p_uncond {training.p_uncond:g}", state.step, training.steps, note)
    except KeyboardInterrupt:
        _save(partial, state, header)
        raise
    _finish(path, state, header)
    partial.unlink(missing_ok=True)


def _begin(network: UNet, training: Training, device: torch.device) -> State:
    _initialise(network, _generator(training.seed, "weights", 0))
    network.to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    ema = [parameter.detach().clone() for parameter in network.parameters()]
    return State(network, ema, optimizer, torch.zeros(training.steps, device=device))


def _initialise(network: UNet, generator: torch.Generator) -> None:
    """torch's own initial ranges, from our own generator; what begins at zero stays so."""
    for parameter in network.parameters():
        if parameter.dim() > 1 and parameter.any():
            bound = parameter[0].numel() ** -0.5
            torch.nn.init.uniform_(parameter, -bound, bound, generator=generator)
        elif parameter.dim() == 1 and not (parameter == 1).all():
            torch.nn.init.zeros_(parameter)
    torch.nn.init.normal_(network.embedding.classes.weight, std=0.02, generator=generator)


def _step(state: State, pixels: Tensor, labels: Tensor, training: Training, *, flips: bool, precision: str) -> None:
    """One gradient step of Algorithm 1, then the EMA."""
    network, device = state.network, pixels.device
    generator = _generator(training.seed, "step", state.step)
    chosen = _order(training.seed, len(labels), state.step * training.batch_size, training.batch_size)
    x, c = _to_float(pixels[chosen.to(device)]), labels[chosen.to(device)]
    b = len(c)
    mirrored = torch.rand(b, generator=generator).to(device) < 0.5
    if flips:
        x = torch.where(mirrored[:, None, None, None], x.flip(-1), x)
    dropped = torch.rand(b, generator=generator).to(device) < training.p_uncond
    c = torch.where(dropped, network.num_classes, c)
    lam = log_snr(torch.rand(b, generator=generator)).to(device)
    eps = torch.randn(x.shape, generator=generator).to(device)
    for group in state.optimizer.param_groups:
        group["lr"] = training.learning_rate * min(1.0, (state.step + 1) / max(1, training.warmup_steps))
    with _dropout_randomness(training.seed, state.step), autocast(precision, device):
        loss = F.mse_loss(network(diffuse(x, lam, eps), lam, c), eps)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), training.gradient_clip)
    state.optimizer.step()
    state.losses[state.step] = loss.detach()
    # the first average is short: with the full decay from the start the random initial weights would linger in it
    decay = min(training.ema_decay, (1 + state.step) / (10 + state.step))
    with torch.no_grad():
        torch._foreach_lerp_(state.ema, list(network.parameters()), 1 - decay)
    state.step += 1


def _to_float(pixels: Tensor) -> Tensor:
    return pixels.float() / 127.5 - 1


@contextmanager
def _dropout_randomness(seed: int, step: int) -> Iterator[None]:
    """Dropout takes no generator: the global state is set for this step and put back afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(_number(seed, "dropout", step))
        yield


def _generator(seed: int, purpose: str, number: int) -> torch.Generator:
    return torch.Generator().manual_seed(_number(seed, purpose, number))


def _number(seed: int, purpose: str, number: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}/{number}".encode()).digest()[:7])


def _order(seed: int, n: int, start: int, count: int) -> Tensor:
    """Positions start .. start + count - 1 of an endless order that visits each of n images once an epoch."""
    positions = np.arange(start, start + count)
    epochs = positions // n
    return torch.cat(
        [
            _permutation(seed, n, int(epoch))[positions[epochs == epoch] % n]
            for epoch in range(epochs[0], epochs[-1] + 1)
        ]
    )


@lru_cache(maxsize=2)
def _permutation(seed: int, n: int, epoch: int) -> Tensor:
    return torch.randperm(n, generator=_generator(seed, "epoch", epoch))


def _recent_loss(state: State) -> float:
    loss = state.losses[max(0, state.step - 100) : state.step].mean().item()
    if not np.isfinite(loss):
        raise TrainingFailed(f"the loss is {loss} at step {state.step}; lower training.learning_rate")
    return loss


def _save(path: Path, state: State, header: dict) -> None:
    names = [name for name, _ in state.network.named_parameters()]
    tensors = {f"network.{name}": value for name, value in state.network.named_parameters()}
    tensors |= {f"ema.{name}": value for name, value in zip(names, state.ema, strict=True)}
    for name, parameter in state.network.named_parameters():
        for kind, value in state.optimizer.state[parameter].items():
            tensors[f"optimizer.{kind}.{name}"] = value
    save_tensors(path, tensors | {"losses": state.losses}, header | {"step": state.step})


def _load(path: Path, state: State, header: dict) -> None:
    tensors, found = load_tensors(path)
    if {**found, "step": 0} != {**header, "step": 0}:
        return  # another precision, say: numbers of two kinds are not mixed, training begins anew
    state.step = found["step"]
    state.losses.copy_(tensors["losses"])
    with torch.no_grad():
        for (name, parameter), average in zip(state.network.named_parameters(), state.ema, strict=True):
            parameter.copy_(tensors[f"network.{name}"])
            average.copy_(tensors[f"ema.{name}"])
            state.optimizer.state[parameter] = {
                kind: value.to(parameter.device) if kind != "step" else value
                for kind in ("step", "exp_avg", "exp_avg_sq")
                for value in [tensors[f"optimizer.{kind}.{name}"]]
            }


def _finish(path: Path, state: State, header: dict) -> None:
    _recent_loss(state)
    losses = "step,loss\n" + "".join(f"{i + 1},{loss:.6g}\n" for i, loss in enumerate(state.losses.tolist()))
    write_atomically(path.with_suffix(".losses.csv"), losses.encode())
    names = [name for name, _ in state.network.named_parameters()]
    save_tensors(path, dict(zip(names, state.ema, strict=True)), header)
