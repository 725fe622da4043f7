"""The networks that cells are sampled with: trained where they are not there yet, and made fast."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import torch

from cfgbench.diffusion.guidance import Networks
from cfgbench.errors import UserError
from cfgbench.models import native_group_norm
from cfgbench.models.checkpoint import load_network
from cfgbench.models.compile_choice import CompileDecision
from cfgbench.models.fast import OURS, choose, for_sampling, forget, lay_out_weights
from cfgbench.models.gaussians import ExactClassifier
from cfgbench.models.pace import Pace, pace_of_passes
from cfgbench.models.precision import Compute
from cfgbench.progress import Progress, remark, silent, wait_for_others
from cfgbench.spec import Cell, Checkpoint, Exact, Factory, Network, Pretrained
from cfgbench.sweep.batches import LARGEST, Ready
from cfgbench.sweep.bench import Bench
from cfgbench.sweep.kept import compiled_before, missing
from cfgbench.sweep.plan import Plan
from cfgbench.sweep.probes import check_networks, prediction_note
from cfgbench.tensors import load_tensors
from cfgbench.training.diffusion import train
from cfgbench.training.distributed import ALONE, Group
from cfgbench.training.facts import check_same, facts_of
from cfgbench.training.state import TrainingFailed


def train_if_missing(
    plan: Plan, network: Network, compute: Compute, *, progress: Progress, group: Group = ALONE
) -> Path | None:
    """The network's checkpoint, trained now if it is not there; None while another process trains it."""
    path = plan.store.checkpoint(network.id)
    if group.as_leader(path.exists(), compute.device):
        return path
    with plan.store.claim(network.id) if group.leads else nullcontext(False) as claimed:
        held = group.as_leader(claimed, compute.device)
        if held and not group.as_leader(claimed and _there_now(plan, network, compute, progress), compute.device):
            train(plan.images, network, path, compute, group=group, progress=progress)
        return path if held else None


def _there_now(plan: Plan, network: Network, compute: Compute, progress: Progress) -> bool:
    """Whether the network's checkpoint is there; it is taken over where another sweep has it."""
    path = plan.store.checkpoint(network.id)
    if not path.exists() and (other := trained_elsewhere(plan, network, compute)) is not None:
        if (losses := other.with_suffix(".losses.csv")).exists():
            plan.store.take_over(path.with_suffix(".losses.csv"), losses)
        plan.store.take_over(path, other)
        path.with_suffix(".partial").unlink(missing_ok=True)
        remark(progress, f"{network.label}: trained already, by the sweep {other.parent.parent.name}")
    return path.exists()


def trained_elsewhere(plan: Plan, network: Network, compute: Compute) -> Path | None:
    """The network's checkpoint as another sweep in the results folder has trained it, in the same precision."""

    def check(path: Path) -> None:
        found = load_tensors(path)[1]
        check_same(path, found, facts_of(network, plan.images))
        if (found.get("id"), found.get("precision")) != (network.id, compute.precision):
            raise UserError(f"{path}: of an earlier version, or in another precision")

    return plan.store.elsewhere(plan.store.checkpoint(network.id), check)


def ensure_trained(plan: Plan, network: Network, compute: Compute, *, progress: Progress, group: Group = ALONE) -> Path:
    """Trains the network unless its checkpoint is there; waits where another process trains it. Raises UserError for a
    checkpoint that is damaged, or another network's."""
    while (path := train_if_missing(plan, network, compute, progress=progress, group=group)) is None:
        wait_for_others(progress if group.leads else silent, 0, network.training.steps)
    if group.leads:  # the others may be here before it is written
        check_same(path, load_tensors(path)[1], facts_of(network, plan.images))
    return path


def train_networks(bench: Bench, cell: Cell) -> bool:
    """Trains those of the cell's networks that are not trained yet; False while another process trains one."""
    return None not in [_trained(bench, network) for network in cell.networks]


def _trained(bench: Bench, network: Network) -> Path | None:
    if network.id in bench.broken:
        raise TrainingFailed(bench.broken[network.id])
    try:
        return train_if_missing(bench.plan, network, bench.compute, progress=bench.progress)
    except TrainingFailed as error:
        bench.broken[network.id] = str(error)  # the error itself holds the training, and its memory
        raise


def ready_for(bench: Bench, cells: Sequence[Cell]) -> Ready | None:
    """What these cells of one network are sampled with: as it was made elsewhere, or trained here if it is not yet.
    None while another process trains it."""
    cell = cells[0]
    if not train_networks(bench, cell):
        return None
    images, device = bench.plan.images, bench.compute.device
    if isinstance(cell.model, Pretrained):
        denoiser = bench.plan.pretrained(cell, device)
    else:
        denoiser = _loaded(bench, cell.denoiser)
    classifier = None
    if isinstance(cell.model, Exact):  # whatever the first cell's rule is: others of its group may need it
        classifier = ExactClassifier(images.mixture, device)
    elif cell.classifier is not None:
        classifier = _loaded(bench, cell.classifier)
    networks = Networks(denoiser, classifier)
    check_networks(networks, cells, images, device)
    if isinstance(cell.model, Checkpoint | Factory) and (note := prediction_note(denoiser, cell, images, device)):
        remark(bench.progress, note)
    return made_fast(bench, cell, networks)


def _loaded(bench: Bench, network: Network) -> torch.nn.Module:
    """What was trained, from its checkpoint. Raises UserError where that is damaged, or another network's."""
    path = bench.plan.store.checkpoint(network.id)
    found = load_network(path, network.kind, bench.compute.device)
    check_same(path, found.facts, facts_of(network, bench.plan.images))
    bench.weights[network.id] = str(found.facts.get("ema", ""))
    if isinstance(precision := found.facts.get("precision"), str):
        bench.trained_in[network.id] = precision
    return found


def made_fast(bench: Bench, cell: Cell, networks: Networks) -> Ready:
    """The networks as they are sampled, with a word on what was decided."""
    plan, compute, progress = bench.plan, bench.compute, bench.progress
    denoiser, classifier = networks.denoiser, networks.classifier
    if isinstance(classifier, torch.nn.Module):
        lay_out_weights(classifier, compute.precision)
    if not isinstance(denoiser, torch.nn.Module):
        return Ready(networks)
    every = [one for one in plan.cells if one.checkpoint_id == cell.checkpoint_id]
    plain, shape = for_sampling(denoiser, compute.precision), plan.images.images.shape[1:]

    @cache
    def pace() -> Pace:
        largest = min(LARGEST, sum(one.sampling.samples * len(one.sampling.calls) for one in every))
        if compute.device.type == "cpu":
            largest = Ready(networks).most(every)
        return pace_of_passes(plain, shape, largest, compute)

    rows = pace().batch if compute.device.type == "cuda" else None
    choice = _decision(bench, every, denoiser, pace)
    more = "" if rows is None else f"; {rows} images fill the GPU"
    if compute.device.type == "cpu" and isinstance(denoiser, OURS) and (why := native_group_norm.why_not()):
        more = f"; group norm is left to torch, which is slower: {why}"
    remark(progress, f"network {cell.checkpoint_id}: {choice}{more}")
    forget(plain)
    if not choice.compiled:
        return Ready(Networks(plain, classifier), rows)
    fast = for_sampling(denoiser, compute.precision, Ready(networks, rows).most(every))
    fast.attempt(shape, compute.precision)
    if fast.failed:
        remark(progress, f"network {cell.checkpoint_id}: it does not compile here ({fast.failed})")
    return Ready(Networks(plain if fast.failed else fast, classifier), rows)


def _decision(bench: Bench, every: list[Cell], denoiser: torch.nn.Module, pace: Callable[[], Pace]) -> CompileDecision:
    """Whether to compile the network of these cells: as the user asks, else as the cells of it that are there, finished
    or begun, so that a sweep that was stopped gives the numbers of one that was not, and processes side by side decide
    alike; else as it pays for this process's part of the images that are not kept. Not where none is to be made."""
    if (asked := bench.compute.compiled) is not None:
        return CompileDecision(asked, "as asked")
    ahead = missing(bench, every)
    if not any(ahead[cell.id] for cell in every if cell.id not in bench.plan.done):
        return CompileDecision(False, "no image is to be made")
    rows = (bench.plan.store.find(cell.id) for cell in every)
    known = (row["compiled"] for row in rows if row is not None and row.get("compiled") is not None)
    if (found := next(known, None)) is not None:
        return CompileDecision(found, "as its finished cells")
    if (begun := compiled_before(bench, every)) is not None:
        return CompileDecision(begun, "as the cell that was begun")
    calls = sum(cell.nfe * ahead[cell.id] for cell in every) // bench.place.workers
    return choose(denoiser, calls, pace)
