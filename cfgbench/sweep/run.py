"""Train what the grid needs, run what is missing: nothing is done twice, and one failure stops nothing else."""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch

from cfgbench.diffusion.guidance import Networks
from cfgbench.files import write_atomically
from cfgbench.models.checkpoint import load_denoiser, load_noisy_classifier
from cfgbench.models.fast import Choice, Compiled, choose, hold_half, prepare
from cfgbench.models.gaussians import ExactClassifier
from cfgbench.models.pace import Pace, pace_of_passes
from cfgbench.models.precision import out_of_memory
from cfgbench.models.pretrained import check_shape, load_pretrained
from cfgbench.progress import Progress
from cfgbench.spec import Cell, Exact, Network, Pretrained
from cfgbench.sweep.batches import Ready
from cfgbench.sweep.cell import Bench, Job, describe, fill, run_cell
from cfgbench.sweep.extractor import make_extractor, reference_of
from cfgbench.sweep.plan import Plan
from cfgbench.sweep.probes import check_extractor, check_networks
from cfgbench.sweep.shards import Shards, remove
from cfgbench.training.diffusion import TrainingFailed, train
from cfgbench.training.distributed import Group

Row = dict[str, Any]

SECONDS_BETWEEN_LOOKS = 0.5
"""At what other processes do, while there is nothing to do here."""
LARGEST = 1 << 16
"""Images that go through a network at a time, at most, where a GPU is tried for how many fill it."""
FAILURES = ValueError, RuntimeError, MemoryError, AssertionError
"""What a cell may fail by, the others going on: images that are no numbers, and what torch raises."""


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
        ready = _networks(plan, cells[0], bench, progress)
    except (TrainingFailed, MemoryError, RuntimeError) as error:
        if not isinstance(error, TrainingFailed) and not out_of_memory(error):
            raise
        for cell in cells:
            with plan.store.claim(cell.id) as held:
                if held and not _made_meanwhile(plan, cell):
                    yield _put(plan, _failed(cell, bench, error))
        return []
    if ready is None:
        return cells
    left = []
    for batch in ready.batches(cells):
        with ExitStack() as claims:
            held = {cell.id for cell in batch if claims.enter_context(plan.store.claim(cell.id))}
            left += [cell for cell in batch if cell.id not in held]
            mine = [cell for cell in batch if cell.id in held and not _made_meanwhile(plan, cell)]
            _fill_together(plan, mine, ready, bench, progress)
            for cell in mine:
                yield _attempt(plan, cell, ready, bench, progress)
    return left


def _fill_together(plan: Plan, cells: list[Cell], ready: Ready, bench: Bench, progress: Progress) -> None:
    """Makes the images of cells that share batches. Where that fails nothing is lost: one by one, the cells tell which
    of them it is."""
    if len(cells) > 1:
        jobs = [Job(cell, _shards(plan, cell, ready, bench)) for cell in cells]
        with suppress(*FAILURES):
            fill(jobs, ready, bench, progress)


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
    compiled: bool | None = None,
) -> Path:
    """Trains the network unless its checkpoint is there; waits where another process trains it. `compiled` as for
    `run`."""
    path = plan.store.checkpoint(network.id)
    if group is not None and group.world > 1:  # its members must all come to the same end
        _train(plan, network, path, device, precision, group, compiled, progress)
        return path
    while not path.exists():
        with plan.store.claim(network.id) as held:
            if held:
                _train(plan, network, path, device, precision, group, compiled, progress)
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
    compiled: bool | None,
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
            compiled=compiled,
            progress=progress,
        )


def _networks(plan: Plan, cell: Cell, bench: Bench, progress: Progress) -> Ready | None:
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


def _made_fast(plan: Plan, cell: Cell, networks: Networks, bench: Bench, progress: Progress) -> Ready:
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
    if choice.compiled:
        plain = prepare(denoiser, bench.precision, compiled=True, batch=Ready(networks, rows).most(every))
    return Ready(Networks(plain, classifier), rows)


def _choice(plan: Plan, every: list[Cell], denoiser: torch.nn.Module, bench: Bench, pace: Callable[[], Pace]) -> Choice:
    """Whether to compile the network of these cells: as the user asks, else as the cells of it that are there, so that
    a sweep that was stopped gives the numbers of one that was not, else as it pays for all of them."""
    rows = [plan.store.find(cell.id) for cell in every if cell.id in plan.done]
    known = [row["compiled"] for row in rows if row is not None and row.get("compiled") is not None]
    if bench.compiled is None and known:
        return Choice(known[0], "as its finished cells")
    calls = sum(cell.nfe * cell.sampling.samples for cell in every)
    return choose(denoiser, calls, pace, bench.compiled)


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
                _train(plan, network, path, bench.device, bench.precision, None, bench.compiled, progress)
        except TrainingFailed as error:
            bench.broken[network.id] = error
            raise
        return path if held else None


def _shards(plan: Plan, cell: Cell, ready: Ready, bench: Bench) -> Shards:
    compiled = isinstance(ready.networks.denoiser, Compiled)
    key = [cell.id, bench.extractor.id, bench.precision, list(bench.shown), compiled]
    return Shards(plan.store.features(cell.id), cell.sampling.samples, key)


def _attempt(plan: Plan, cell: Cell, ready: Ready, bench: Bench, progress: Progress) -> Row:
    store, shards = plan.store, _shards(plan, cell, ready, bench)
    try:
        result = run_cell(cell, ready, bench, shards, progress=progress)
    except FAILURES as error:
        return _put(plan, _failed(cell, bench, error))
    if failed := getattr(ready.networks.denoiser, "failed", ""):
        progress(f"network {cell.checkpoint_id}: it does not compile here ({failed}); sampled as it is", 0, 0, "")
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
