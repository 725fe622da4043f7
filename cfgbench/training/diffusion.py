"""Algorithm 1 (Ho & Salimans 2022): one network, trained jointly with and without its class; and in the same way the
classifier of noisy images that guides it."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from cfgbench.data import Images
from cfgbench.errors import reason
from cfgbench.models.checkpoint import NETWORKS
from cfgbench.models.precision import Compute, out_of_memory
from cfgbench.progress import SECONDS_BETWEEN_LINES, Progress, remark, silent
from cfgbench.signals import held_back
from cfgbench.spec import Network
from cfgbench.training.compiling import Compiling
from cfgbench.training.distributed import ALONE, Group, StoppedTogether
from cfgbench.training.facts import facts_of, image_of
from cfgbench.training.feed import Feed
from cfgbench.training.objectives import OBJECTIVES
from cfgbench.training.state import (
    SECONDS_BETWEEN_SAVES,
    State,
    TrainingFailed,
    begin,
    check,
    checked_loss,
    finish,
    load,
    recent_loss,
    save,
)
from cfgbench.training.step import Step

SHARE_OF_SAVING = 0.05
"""Of the time at most; a large network is saved less often."""


def train(
    images: Images,
    network: Network,
    path: Path,
    compute: Compute,
    *,
    group: Group = ALONE,
    progress: Progress = silent,
) -> None:
    """Trains the network and writes its EMA weights to `path`, and the loss of each step beside it (.losses.csv).

    Goes on from `path` with .partial, where an earlier run left one; the weights are then those of an uninterrupted
    run, on a GPU to rounding. The processes of `group` share each batch; all must see the same folder. Without dropout
    the weights are those of one process, to rounding. On a GPU the network is compiled where that pays, or as `compute`
    says. Raises TrainingFailed when the loss is not finite, UserError for a file that cannot be read or written.
    """
    kind, model, training, image = network.kind, network.model, network.training, image_of(images)
    header = facts_of(network, images) | {"precision": compute.precision}
    partial = path.with_suffix(".partial")
    with torch.random.fork_rng(devices=[]):  # building a network draws from the processor's global state
        weights = NETWORKS[kind](model, **image)
    state = begin(weights, training, compute.device, compute.precision)
    if partial.exists():
        load(partial, state, header)
    feed = Feed(images, training, group.share(training.batch_size), compute.device)
    compiling = Compiling(state, compute.device, asked=compute.compiled, group=group)
    step = Step(state, feed, compute.precision, group, OBJECTIVES[kind])
    try:
        _steps(step, network, partial, header, compiling, progress if group.leads else silent)
    except KeyboardInterrupt as stopped:
        with held_back():  # torchrun sends SIGTERM after the Ctrl-C that its processes have from the terminal
            try:
                if group.leads:
                    _save(partial, state, header)
            finally:
                if isinstance(stopped, StoppedTogether):  # torchrun kills who is left 30 s after the first has gone
                    group.wait(compute.device)
        raise
    finally:
        step.close()
        compiling.end()
    if group.leads:
        with held_back():
            finish(path, state, header)
            partial.unlink(missing_ok=True)


def _save(partial: Path, state: State, header: dict[str, Any]) -> None:
    """Saves what the training goes on from, unless it has failed: the last good state is worth more."""
    with suppress(TrainingFailed):
        check(state)
        save(partial, state, header)


def _steps(
    step: Step, network: Network, partial: Path, header: dict[str, Any], compiling: Compiling, progress: Progress
) -> None:
    state, training, group = step.state, step.feed.training, step.group
    task = f"train {network.label}" if network.kind == "denoiser" else f"train the noisy {network.label}"
    progress(task, state.step, training.steps, "")
    began, first, pause = time.monotonic(), state.step, SECONDS_BETWEEN_SAVES
    saved = shown = began
    with group.stopping_together(step.feed.device) as asked_to_stop:
        while state.step < training.steps:
            try:
                step()
            except Exception as error:  # compilers fail in many ways
                if not compiling.trying or out_of_memory(error):
                    raise
                compiling.give_up()
                remark(progress, f"{task}: it does not compile here ({reason(error)}); trained as it is")
                continue
            if decided := compiling.after(training.steps - state.step):
                remark(progress, f"{task}: {decided}")
            now = time.monotonic()
            if group.leads and now - saved > pause and state.step < training.steps:
                _save(partial, state, header)
                saved = time.monotonic()
                pause = max(SECONDS_BETWEEN_SAVES, (saved - now) / SHARE_OF_SAVING)
            judged = state.step % 20 == 0 or state.step == training.steps  # all of a group fail after the same step
            if judged or now - shown > SECONDS_BETWEEN_LINES:
                loss = checked_loss(state) if judged else recent_loss(state)
                shown = time.monotonic()  # the device is through what is timed
                rate = (state.step - first) * training.batch_size / (shown - began)
                progress(task, state.step, training.steps, f"loss {loss:.4f}, {rate:.3g} images/s")
            asked_to_stop()
