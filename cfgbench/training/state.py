"""All that training goes on from, in memory and on disk."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cfgbench.errors import UserError, reason
from cfgbench.files import write_atomically
from cfgbench.models.noisy_classifier import HalfUNet
from cfgbench.models.precision import PRECISIONS
from cfgbench.models.unet import Embedding, UNet
from cfgbench.spec import Training
from cfgbench.tensors import digest, load_tensors, save_tensors
from cfgbench.training.facts import check_same
from cfgbench.training.feed import generator

SECONDS_BETWEEN_SAVES = 30.0
AVERAGES = "step", "exp_avg", "exp_avg_sq"
COUNT = torch.zeros(())
"""What AdamW counts the steps of each parameter with."""


class TrainingFailed(RuntimeError):
    """The loss, or the weights, are no numbers any more."""


@dataclass
class State:
    """`losses` holds one number a step; those still to come are 0. The scaler does something in fp16 only."""

    network: UNet | HalfUNet
    ema: dict[str, Tensor]
    optimizer: torch.optim.AdamW
    scaler: torch.amp.GradScaler
    losses: Tensor
    step: int = 0
    part: int | None = None
    """Images at a time, once memory has run out for more."""
    compiled: bool | None = None
    """Whether the network goes through torch.compile, once that is decided (`compiling`)."""


def begin(network: UNet | HalfUNet, training: Training, device: torch.device, precision: str) -> State:
    """Step 0: weights from the seed."""
    _initialise(network, generator(training.seed, "weights", 0))
    network.to(device).train()
    network.recompute = training.recompute
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay, fused=True
    )
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    ema = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    return State(network, ema, optimizer, scaler, torch.zeros(training.steps, device=device))


def _initialise(network: UNet | HalfUNet, randomness: torch.Generator) -> None:
    """Weights in torch's own initial ranges, from our own generator; biases, and what begins at zero, at zero."""
    for parameter in network.parameters():
        if parameter.dim() > 1 and parameter.any():
            bound = parameter[0].numel() ** -0.5
            torch.nn.init.uniform_(parameter, -bound, bound, generator=randomness)
        elif parameter.dim() == 1 and not (parameter == 1).all():
            torch.nn.init.zeros_(parameter)
    if isinstance(network.embedding, Embedding):
        torch.nn.init.normal_(network.embedding.classes.weight, std=0.02, generator=randomness)


def recent_loss(state: State) -> float:
    """The mean of the last hundred losses; a step whose numbers were too large for fp16 is skipped, and counts only
    where the last twenty all have been."""
    losses = state.losses[max(0, state.step - 100) : state.step]
    if state.scaler.is_enabled() and losses[-20:].isfinite().any():
        losses = losses[losses.isfinite()]
    return losses.mean().item()


def checked_loss(state: State) -> float:
    """The recent loss. Raises TrainingFailed where it is not finite."""
    if not np.isfinite(loss := recent_loss(state)):
        raise TrainingFailed(_failed(state, f"loss is {loss}"))
    return loss


def check(state: State) -> None:
    """Raises TrainingFailed where losses or weights are no numbers: the loss of the last step says nothing of what that
    made of the weights."""
    checked_loss(state)
    weights = [*state.network.parameters(), *state.ema.values()]
    if not all(value.isfinite().all() for value in weights):
        raise TrainingFailed(_failed(state, "weights are not finite"))
    if state.scaler.is_enabled() and not any(held["step"] for held in state.optimizer.state.values()):
        raise TrainingFailed(_failed(state, "gradients were finite, in fp16, in no step so far: none was taken"))


def _failed(state: State, what: str) -> str:
    whose, key = ("the classifier's", "classifier.") if isinstance(state.network, HalfUNet) else ("the", "")
    return f"{whose} {what} at step {state.step}; lower {key}training.learning_rate"


def save(path: Path, state: State, header: dict[str, Any]) -> None:
    """Writes all that `load` needs to go on, whole or not at all."""
    progress = {"step": state.step, "scaler": state.scaler.state_dict(), "compiled": state.compiled}
    save_tensors(path, _held(state) | averages(state.network, state.optimizer), header | progress)


def _held(state: State) -> dict[str, Tensor]:
    """The state's own tensors, by the names that its file has for them."""
    weights = {f"network.{name}": value for name, value in state.network.named_parameters()}
    return weights | {f"ema.{name}": value for name, value in state.ema.items()} | {"losses": state.losses}


def load(path: Path, state: State, header: dict[str, Any]) -> None:
    """Goes on from what `save` wrote. Raises UserError where that was another training."""
    tensors, found = load_tensors(path)
    if not isinstance(found.get("step"), int) or found.get("precision") not in PRECISIONS:
        raise UserError(f"{path}: not a training in progress; delete it to train from the beginning")
    step, scaler, compiled = found.pop("step"), found.pop("scaler", {}), found.pop("compiled", None)
    check_same(path, found, header)
    if (begun := found["precision"]) != header["precision"]:
        raise UserError(f"{path}: begun in {begun}; take --precision {begun}, or delete it to train from the beginning")
    try:
        _restore(state, tensors, scaler, step)
        state.compiled = compiled
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        said = reason(error)
        raise UserError(f"{path}: not a whole training in progress ({said}); delete it to train again") from None


def _restore(state: State, tensors: dict[str, Tensor], scaler: dict[str, Any], step: int) -> None:
    if not 0 <= step <= len(state.losses):
        raise ValueError(f"step {step} of {len(state.losses)}")
    moved = any(name.startswith("optimizer.") for name in tensors)  # not before the first step, or one without overflow
    held = _held(state)
    check_fit(tensors, held | (averages_like(state.network) if moved else {}))
    state.step = step
    state.scaler.load_state_dict(scaler)
    with torch.no_grad():
        for name, tensor in held.items():
            tensor.copy_(tensors[name])
    if moved:
        restore_averages(state.network, state.optimizer, tensors)


def averages(network: nn.Module, optimizer: torch.optim.AdamW) -> dict[str, Tensor]:
    """What AdamW holds of each parameter, by name; nothing before its first step."""
    return {
        f"optimizer.{kind}.{name}": value
        for name, parameter in network.named_parameters()
        for kind, value in optimizer.state.get(parameter, {}).items()
    }


def averages_like(network: nn.Module) -> dict[str, Tensor]:
    """Tensors of the shapes and types that `averages` gives after a step."""
    return {
        f"optimizer.{kind}.{name}": COUNT if kind == "step" else parameter
        for name, parameter in network.named_parameters()
        for kind in AVERAGES
    }


def restore_averages(network: nn.Module, optimizer: torch.optim.AdamW, tensors: Mapping[str, Tensor]) -> None:
    """AdamW goes on from what `averages` gave."""
    names = [name for name, _ in network.named_parameters()]
    held = {at: {kind: tensors[f"optimizer.{kind}.{name}"] for kind in AVERAGES} for at, name in enumerate(names)}
    optimizer.load_state_dict({"state": held, "param_groups": optimizer.state_dict()["param_groups"]})


def check_fit(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raises ValueError or KeyError before anything is copied: a fused AdamW reads and writes as far as the parameter
    goes, past the end of what is smaller, and copying repeats one number for many."""
    for name, like in wanted.items():
        found = tensors[name]
        if (found.shape, found.dtype) != (like.shape, like.dtype):
            raise ValueError(f"{name}: {found.dtype} {list(found.shape)}, not {like.dtype} {list(like.shape)}")


def finish(path: Path, state: State, header: dict[str, Any]) -> None:
    """Writes the EMA weights to `path`, and the loss of each step beside it. Raises TrainingFailed (see `check`)."""
    check(state)
    losses = "step,loss\n" + "".join(f"{i + 1},{loss:.6g}\n" for i, loss in enumerate(state.losses.tolist()))
    write_atomically(path.with_suffix(".losses.csv"), losses.encode())
    ema = {name: value.cpu() for name, value in state.ema.items()}
    raw = {name: value.detach().cpu() for name, value in state.network.named_parameters()}
    save_tensors(path, ema, header | {"ema": digest(ema), "raw": digest(raw)})
