"""Algorithm 1 (Ho & Salimans 2022): one network, trained jointly with and without its class; and in the same way the
classifier of noisy images that guides it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.parallel import DistributedDataParallel

from cfgbench.data import Images
from cfgbench.errors import reason
from cfgbench.models.precision import autocast, float32_kept, out_of_memory
from cfgbench.progress import Progress, silent
from cfgbench.spec import Model, Training
from cfgbench.training.compiling import Compiling
from cfgbench.training.distributed import Group
from cfgbench.training.feed import Feed, number
from cfgbench.training.objectives import OBJECTIVES, Kind, Objective
from cfgbench.training.state import State, TrainingFailed, begin, finish, load, recent_loss, save

__all__ = ["TrainingFailed", "train"]

Batch = tuple[Tensor, Tensor, Tensor]

SECONDS_BETWEEN_SAVES = 30.0
SHARE_OF_SAVING = 0.05
"""Of the time at most; a large network is saved less often."""


def train(
    images: Images,
    model: Model,
    training: Training,
    path: Path,
    *,
    kind: Kind = "denoiser",
    device: torch.device,
    precision: str,
    group: Group | None = None,
    compiled: bool | None = None,
    progress: Progress = silent,
) -> None:
    """Trains a network of this kind and writes its EMA weights to `path`, and the loss of each step beside it
    (.losses.csv).

    Goes on from `path` with .partial, where an earlier run left one; the weights are then those of an uninterrupted
    run. The processes of `group` share each batch; all must see the same folder. Without dropout the weights are those
    of one process, to rounding. On a GPU the network is compiled where that pays, or as `compiled` says. Raises
    TrainingFailed when the loss is not finite, UserError for a file that cannot be read or written.
    """
    group = group or Group()
    image = image_of(images)
    header = {
        "kind": kind,
        "model": model.model_dump(),
        "training": training.decisive,
        "image": image,
        "precision": precision,
    }
    partial = path.with_suffix(".partial")
    with torch.random.fork_rng():  # building a network draws from the global state
        network = OBJECTIVES[kind].network(model, **image)
    state = begin(network, training, device, precision)
    if partial.exists():
        load(partial, state, header)
    feed = Feed(images, training, group.share(training.batch_size), device)
    compiling = Compiling(state, device, asked=compiled)
    try:
        _steps(state, feed, partial, header, group, compiling, progress if group.leads else silent)
    except KeyboardInterrupt:
        if group.leads:
            save(partial, state, header)
        raise
    finally:
        feed.close()
        compiling.end()
    if group.leads:
        finish(path, state, header)
        partial.unlink(missing_ok=True)


def image_of(images: Images) -> dict[str, int]:
    """What a network must know of the images."""
    return {
        "image_channels": images.images.shape[1],
        "side": images.images.shape[2],
        "num_classes": images.num_classes,
    }


def _steps(
    state: State,
    feed: Feed,
    partial: Path,
    header: dict,
    group: Group,
    compiling: Compiling,
    progress: Progress,
) -> None:
    training, objective = feed.training, OBJECTIVES[header["kind"]]
    task = f"train p_uncond {training.p_uncond:g}" if header["kind"] == "denoiser" else "train the noisy classifier"
    wrapped = state.network if group.world == 1 else DistributedDataParallel(state.network)
    began, first, saved, pause = time.monotonic(), state.step, time.monotonic(), SECONDS_BETWEEN_SAVES
    while state.step < training.steps:
        try:
            gradient_step(state, wrapped, feed, group, header["precision"], objective)
        except Exception as error:  # compilers fail in many ways
            if not compiling.trying or out_of_memory(error):
                raise
            compiling.give_up()
            progress(f"{task}: it does not compile here ({reason(error)}); trained as it is", 0, 0, "")
            continue
        if decided := compiling.after(training.steps - state.step):
            progress(f"{task}: {decided}", 0, 0, "")
        now = time.monotonic()
        if group.leads and now - saved > pause and state.step < training.steps:
            save(partial, state, header)
            saved = time.monotonic()
            pause = max(SECONDS_BETWEEN_SAVES, (saved - now) / SHARE_OF_SAVING)
        if state.step % 20 == 0 or state.step == training.steps:
            rate = (state.step - first) * training.batch_size / (now - began)
            note = f"loss {recent_loss(state):.4f}, {rate:.3g} images/s"
            progress(task, state.step, training.steps, note)


def gradient_step(
    state: State,
    wrapped: Module,
    feed: Feed,
    group: Group,
    precision: str,
    objective: Objective = OBJECTIVES["denoiser"],
) -> None:
    """One gradient step of Algorithm 1, then the EMA. `wrapped` is the network, or the network in its group.

    Where memory runs out, half as many images go through at a time from then on; not in a group, whose members would
    wait for each other's gradients.
    """
    batch = feed.batch(state.step)
    size = state.part or feed.training.micro_batch_size or len(batch[0])
    while True:
        try:
            loss = _gradients(state, wrapped, feed, batch, size, group, precision, objective)
            break
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error) or size == 1 or group.world > 1:
                raise
        state.part = size = size // 2
    state.losses[state.step] = group.total(loss)
    _update(state, feed.training)


def _gradients(
    state: State,
    wrapped: Module,
    feed: Feed,
    batch: Batch,
    size: int,
    group: Group,
    precision: str,
    objective: Objective,
) -> Tensor:
    """The batch's loss, its gradients left in the parameters; `size` images go through at a time."""
    parts = list(zip(*(tensor.split(size) for tensor in batch), strict=True))
    state.optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), device=feed.device)
    for number_of_part, part in enumerate(parts, start=1):
        alone = group.world > 1 and number_of_part < len(parts)  # gradients are exchanged once, with the last part
        with wrapped.no_sync() if alone else nullcontext():
            loss = _loss(state.network, wrapped, feed, part, precision, objective)
            with float32_kept():
                # the group averages its members' gradients, where the batch wants their sum
                state.scaler.scale(loss * group.world).backward()
        total += loss.detach()
    return total


def _loss(network: Module, wrapped: Module, feed: Feed, part: Batch, precision: str, objective: Objective) -> Tensor:
    """These images' share of the batch's loss."""
    drawn = feed.draw(*part)
    with _dropout(network, feed, part[2]), autocast(precision, feed.device):
        errors, count = objective.loss(wrapped, *drawn)
    return errors / (feed.training.batch_size * count)


def _update(state: State, training: Training) -> None:
    for settings in state.optimizer.param_groups:
        settings["lr"] = training.learning_rate * min(1.0, (state.step + 1) / max(1, training.warmup_steps))
    if training.gradient_clip:
        state.scaler.unscale_(state.optimizer)
        torch.nn.utils.clip_grad_norm_(state.network.parameters(), training.gradient_clip)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    # the first average is short: with the full decay from the start the random initial weights would linger in it
    decay = min(training.ema_decay, (1 + state.step) / (10 + state.step))
    with torch.no_grad():
        torch._foreach_lerp_(state.ema, list(state.network.parameters()), 1 - decay)
    state.step += 1


@contextmanager
def _dropout(network: Module, feed: Feed, places: Tensor) -> Iterator[None]:
    """Dropout takes no generator: the global state is set for these images and put back afterwards."""
    if not any(module.p for module in network.modules() if isinstance(module, torch.nn.Dropout)):
        yield
        return
    with torch.random.fork_rng(devices=[feed.device] if feed.device.type == "cuda" else []):
        torch.manual_seed(number(feed.training.seed, "dropout", int(places[0])))
        yield
