"""The networks that cells are sampled with: trained where they are not there yet, and made fast."""

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from cfgbench.diffusion.guidance import Networks
from cfgbench.models.checkpoint import load_denoiser, load_noisy_classifier
from cfgbench.models.fast import Choice, Compiled, choose, forget, hold_half, prepare
from cfgbench.models.gaussians import ExactClassifier
from cfgbench.models.pace import Pace, pace_of_passes
from cfgbench.models.pretrained import check_shape, load_pretrained
from cfgbench.progress import WAITING, Progress
from cfgbench.spec import Cell, Exact, Network, Pretrained
from cfgbench.sweep.batches import Ready
from cfgbench.sweep.bench import Bench
from cfgbench.sweep.plan import Plan
from cfgbench.sweep.probes import check_networks
from cfgbench.training.diffusion import TrainingFailed, train
from cfgbench.training.distributed import Group

SECONDS_BETWEEN_LOOKS = 0.5
"""At what other processes do, while there is nothing to do here."""
LARGEST = 1 << 15
"""Images that go through a network at a time, at most, where a GPU is tried for how many fill it; attention kernels
take less than 65,536."""


def ensure_trained(
    plan: Plan,
    network: Network,
    *,
    device: torch.device,
    precision: str,
    progress: Progress,
    group: Group | None = None,
    compiled: bool | None = None,
) -> Path:
    """Trains the network unless its checkpoint is there; waits where another process trains it. `compiled` as for
    `run`."""
    path = plan.store.checkpoint(network.id)
    how = {"device": device, "precision": precision, "compiled": compiled}
    if group is not None and group.world > 1:  # its members must all come to the same end
        _train(plan, network, path, group, progress, how)
        return path
    while not path.exists():
        with plan.store.claim(network.id) as held:
            if held:
                _train(plan, network, path, group, progress, how)
                continue
        progress(WAITING, 0, network.training.steps, "")
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return path


def _train(
    plan: Plan, network: Network, path: Path, group: Group | None, progress: Progress, how: dict[str, Any]
) -> None:
    """`how` is device, precision, and whether to compile."""
    if not path.exists():
        what = plan.images, network.model, network.training, path
        train(*what, kind=network.kind, group=group, progress=progress, **how)


def train_networks(plan: Plan, cell: Cell, bench: Bench, progress: Progress) -> bool:
    """Trains those of the cell's networks that are not trained yet; False while another process trains one."""
    networks = [network for network in (cell.denoiser, cell.classifier) if network]
    return None not in [_trained(plan, network, bench, progress) for network in networks]


def networks_of(plan: Plan, cell: Cell, bench: Bench, progress: Progress) -> Ready | None:
    """What the cell is sampled with: as it was made elsewhere, or trained here if it is not yet. None while another
    process trains it."""
    if not train_networks(plan, cell, bench, progress):
        return None
    if isinstance(cell.model, Pretrained):
        denoiser = load_pretrained(cell.model, bench.device, mixture=plan.images.mixture)
        image, classes = plan.images.images.shape[1:], plan.images.num_classes
        check_shape(denoiser, image, classes, bench.device, null_class=cell.model.p_uncond > 0)
    else:
        denoiser = load_denoiser(plan.store.checkpoint(cell.checkpoint_id), bench.device)
    classifier = None
    if isinstance(cell.model, Exact):  # whatever the first cell's rule is: others of its group may need it
        classifier = ExactClassifier(plan.images.mixture, bench.device)
    elif cell.classifier is not None:
        classifier = load_noisy_classifier(plan.store.checkpoint(cell.classifier.id), bench.device)
    networks = Networks(denoiser, classifier)
    check_networks(networks, cell, plan.images, bench.device)
    return made_fast(plan, cell, networks, bench, progress)


def made_fast(plan: Plan, cell: Cell, networks: Networks, bench: Bench, progress: Progress) -> Ready:
    """The networks as they are sampled, with a word on what was decided."""
    denoiser, classifier = networks.denoiser, networks.classifier
    if isinstance(classifier, torch.nn.Module):
        hold_half(classifier, bench.precision)
    if not isinstance(denoiser, torch.nn.Module):
        return Ready(networks)
    every = [one for one in plan.cells if one.checkpoint_id == cell.checkpoint_id]
    plain, shape = prepare(denoiser, bench.precision, compiled=False, batch=1), plan.images.images.shape[1:]

    @cache
    def pace() -> Pace:
        largest = min(LARGEST, sum(one.sampling.samples * len(one.sampling.calls) for one in every))
        if bench.device.type == "cpu":
            largest = Ready(networks).most(every)
        return pace_of_passes(plain, shape, largest, bench.precision, bench.device)

    rows = pace().batch if bench.device.type == "cuda" else None
    choice = _choice(plan, every, denoiser, bench, pace)
    filled = "" if rows is None else f"; {rows} images fill the GPU"
    progress(f"network {cell.checkpoint_id}: {choice}{filled}", 0, 0, "")
    forget(plain)
    fast = prepare(denoiser, bench.precision, compiled=choice.compiled, batch=Ready(networks, rows).most(every))
    if isinstance(fast, Compiled):
        fast.attempt(shape, bench.precision)
        if fast.failed:
            progress(f"network {cell.checkpoint_id}: it does not compile here ({fast.failed})", 0, 0, "")
            fast = prepare(denoiser, bench.precision, compiled=False, batch=1)
    return Ready(Networks(fast, classifier), rows)


def _choice(plan: Plan, every: list[Cell], denoiser: torch.nn.Module, bench: Bench, pace: Callable[[], Pace]) -> Choice:
    """Whether to compile the network of these cells: as the user asks, else as the cells of it that are there, so that
    a sweep that was stopped gives the numbers of one that was not, and processes side by side decide alike; else as it
    pays for this process's part of them."""
    rows = (plan.store.find(cell.id) for cell in every)
    known = (row["compiled"] for row in rows if row is not None and row.get("compiled") is not None)
    if bench.compiled is None and (found := next(known, None)) is not None:
        return Choice(found, "as its finished cells")
    calls = sum(cell.nfe * cell.sampling.samples for cell in every) // bench.place.workers
    return choose(denoiser, calls, pace, bench.compiled)


def _trained(plan: Plan, network: Network, bench: Bench, progress: Progress) -> Path | None:
    """The network's checkpoint, trained now if it is not there; None while another process trains it."""
    path = plan.store.checkpoint(network.id)
    how = {"device": bench.device, "precision": bench.precision, "compiled": bench.compiled}
    if network.id in bench.broken:
        raise bench.broken[network.id]
    if path.exists():
        return path
    with plan.store.claim(network.id) as held:
        try:
            if held:
                _train(plan, network, path, None, progress, how)
        except TrainingFailed as error:
            bench.broken[network.id] = error
            raise
        return path if held else None
