"""Train what the grid needs, run what is missing: nothing is done twice, and one failure stops nothing else."""

import time
from collections import deque
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import torch

from cfgbench.diffusion.guidance import Networks
from cfgbench.files import write_atomically
from cfgbench.models.checkpoint import load_denoiser, load_noisy_classifier
from cfgbench.models.fast import Choice, Compiled, choose, hold_half, prepare
from cfgbench.models.gaussians import ExactClassifier
from cfgbench.models.precision import out_of_memory
from cfgbench.models.pretrained import check_shape, load_pretrained
from cfgbench.progress import Progress
from cfgbench.spec import Cell, Exact, Network, Pretrained
from cfgbench.sweep.cell import Bench, describe, run_cell
from cfgbench.sweep.extractor import make_extractor, reference_of
from cfgbench.sweep.plan import Plan
from cfgbench.sweep.probes import check_extractor, check_networks
from cfgbench.sweep.shards import Shards, remove
from cfgbench.training.diffusion import TrainingFailed, train
from cfgbench.training.distributed import Group

Row = dict[str, Any]

SECONDS_BETWEEN_LOOKS = 0.5
"""At what other processes do, while there is nothing to do here."""


def run(
    plan: Plan, *, device: torch.device, precision: str, progress: Progress, compiled: bool | None = None
) -> Iterator[Row]:
    """Runs the plan's missing cells and yields each row once it is on the disk.

    `compiled` says whether networks go through torch.compile; None leaves it to what that costs and saves. Other
    processes may run the same sweep at the same time: each network and each cell is made by one of them. Raises
    UserError for files that cannot be read or written, and for a network or an extractor that a probe finds broken; a
    cell that fails otherwise is a row with its reason.
    """
    if not plan.missing:
        return
    bench = _bench(plan, device, precision, compiled, progress)
    queue, busy = deque(plan.groups()), 0
    while queue:
        cells = queue.popleft()
        left = yield from _run_group(plan, cells, bench, progress)
        if left:
            queue.append(left)
        busy = busy + 1 if left == cells else 0
        if busy > len(queue) > 0:  # a whole round without a cell to make
            progress("waiting for another process", len(plan.cells) - sum(map(len, queue)), len(plan.cells), "")
            time.sleep(SECONDS_BETWEEN_LOOKS)


def _bench(plan: Plan, device: torch.device, precision: str, compiled: bool | None, progress: Progress) -> Bench:
    while True:
        with plan.store.claim("extractor") as held:
            if held:
                extractor = make_extractor(plan, device, progress, compiled)
                reference_id, reference_name, reference = reference_of(plan, extractor, progress)
                check_extractor(extractor, plan.images)
                return Bench(
                    plan.images,
                    plan.shown,
                    extractor,
                    reference,
                    reference_id,
                    reference_name,
                    device,
                    precision,
                    compiled,
                )
        progress("waiting for another process", 0, len(plan.cells), "")
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _run_group(plan: Plan, cells: list[Cell], bench: Bench, progress: Progress) -> Generator[Row, None, list[Cell]]:
    """Runs those cells of one network that nobody else is at; returns the others."""
    try:
        networks = _networks(plan, cells[0], bench, progress)
    except (TrainingFailed, MemoryError, RuntimeError) as error:
        if not isinstance(error, TrainingFailed) and not out_of_memory(error):
            raise
        for cell in cells:
            with plan.store.claim(cell.id) as held:
                if held and not _made_meanwhile(plan, cell):
                    yield _put(plan, _failed(cell, bench, error))
        return []
    if networks is None:
        return cells
    left = []
    for cell in cells:
        with plan.store.claim(cell.id) as held:
            if held and not _made_meanwhile(plan, cell):
                yield _attempt(plan, cell, networks, bench, progress)
            elif not held:
                left.append(cell)
    return left


def _made_meanwhile(plan: Plan, cell: Cell) -> bool:
    """Whether another process has run the cell since this one looked."""
    row = plan.store.find(cell.id)
    return row is not None and row["digest"] != plan.seen.get(cell.id)


def clean_up(plan: Plan) -> None:
    """Removes the shards of finished cells whose process died before it could."""
    store = plan.store
    left = [cell for cell in plan.cells if store.features(cell.id).exists()]
    for cell in [] if plan.spec.evaluation.keep_features else left:
        with store.claim(cell.id) as held:
            if held and (store.find(cell.id) or {}).get("status") == "ok":
                remove(store.features(cell.id))


def ensure_trained(
    plan: Plan,
    network: Network,
    *,
    device: torch.device,
    precision: str,
    progress: Progress,
    group: Group | None = None,
) -> Path:
    """Trains the network unless its checkpoint is there; waits where another process trains it."""
    path = plan.store.checkpoint(network.id)
    if group is not None and group.world > 1:  # its members must all come to the same end
        _train(plan, network, path, device, precision, group, progress)
        return path
    while not path.exists():
        with plan.store.claim(network.id) as held:
            if held:
                _train(plan, network, path, device, precision, group, progress)
                continue
        progress("waiting for another process", 0, network.training.steps, "")
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return path


def _train(
    plan: Plan,
    network: Network,
    path: Path,
    device: torch.device,
    precision: str,
    group: Group | None,
    progress: Progress,
) -> None:
    if not path.exists():
        train(
            plan.images,
            network.model,
            network.training,
            path,
            kind=network.kind,
            device=device,
            precision=precision,
            group=group,
            progress=progress,
        )


def _networks(plan: Plan, cell: Cell, bench: Bench, progress: Progress) -> Networks | None:
    """What the cell is sampled with: as it was made elsewhere, or trained here if it is not yet. None while another
    process trains it."""
    paths = [_trained(plan, network, bench, progress) for network in (cell.denoiser, cell.classifier) if network]
    if None in paths:
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
    return _made_fast(plan, cell, networks, bench, progress)


def _made_fast(plan: Plan, cell: Cell, networks: Networks, bench: Bench, progress: Progress) -> Networks:
    """The networks as they are sampled, with a word on what was decided."""
    denoiser, classifier = networks.denoiser, networks.classifier
    if isinstance(classifier, torch.nn.Module):
        hold_half(classifier, bench.precision)
    if not isinstance(denoiser, torch.nn.Module):
        return networks
    every = [one for one in plan.cells if one.checkpoint_id == cell.checkpoint_id]
    choice = _choice(plan, every, denoiser, bench)
    words = "compiled" if choice.compiled else "not compiled"
    progress(f"network {cell.checkpoint_id}: {words}: {choice.reason}", 0, 0, "")
    batch = min(cell.sampling.batch_size, max(one.sampling.samples for one in every))
    return Networks(prepare(denoiser, bench.precision, compiled=choice.compiled, batch=batch), classifier)


def _choice(plan: Plan, every: list[Cell], denoiser: torch.nn.Module, bench: Bench) -> Choice:
    """Whether to compile the network of these cells: as the user asks, else as the cells of it that are there, so that
    a sweep that was stopped gives the numbers of one that was not, else as it pays for all of them."""
    rows = [plan.store.find(cell.id) for cell in every if cell.id in plan.done]
    known = [row["compiled"] for row in rows if row is not None and row.get("compiled") is not None]
    if bench.compiled is None and known:
        return Choice(known[0], "as its finished cells")
    calls, batch = sum(cell.nfe * cell.sampling.samples for cell in every), every[0].sampling.batch_size
    return choose(denoiser, calls, plan.images.images.shape[1:], batch, bench.precision, bench.compiled)


def _trained(plan: Plan, network: Network, bench: Bench, progress: Progress) -> Path | None:
    """The network's checkpoint, trained now if it is not there; None while another process trains it."""
    path = plan.store.checkpoint(network.id)
    if network.id in bench.broken:
        raise bench.broken[network.id]
    if path.exists():
        return path
    with plan.store.claim(network.id) as held:
        try:
            if held:
                _train(plan, network, path, bench.device, bench.precision, None, progress)
        except TrainingFailed as error:
            bench.broken[network.id] = error
            raise
        return path if held else None


def _attempt(plan: Plan, cell: Cell, networks: Networks, bench: Bench, progress: Progress) -> Row:
    store = plan.store
    key = [cell.id, bench.extractor.id, bench.precision, list(bench.shown), isinstance(networks.denoiser, Compiled)]
    shards = Shards(store.features(cell.id), cell.sampling.samples, key)
    try:
        result = run_cell(cell, networks, bench, shards, progress=progress)
    except (ValueError, RuntimeError, MemoryError, AssertionError) as error:
        return _put(plan, _failed(cell, bench, error))
    store.check()
    write_atomically(store.samples(cell.id), result.sheet)
    store.put_influences(cell.id, result.influences)
    row = _put(plan, result.row)
    if not plan.spec.evaluation.keep_features:
        shards.clear()
    return row


def _failed(cell: Cell, bench: Bench, error: BaseException) -> Row:
    reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
    return describe(cell, bench) | {"status": "failed", "reason": reason}


def _put(plan: Plan, row: Row) -> Row:
    plan.store.put(row)
    return row
